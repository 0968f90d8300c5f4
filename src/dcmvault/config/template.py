"""The commented configuration that `dcmvault config init` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.notifications_section import EVENT_WORDS, MailSection
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.sections import DestinationSection, VaultDestinationSection
from dcmvault.config.template_lines import comment, text, texts
from dcmvault.config.template_settings import tables_of_how
from dcmvault.durability import make_durable
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _


def render_template(
    *,
    language: str = "",
    sources: Sequence[str] = (),
    destinations: Sequence[str] = (),
    nightly_at: str = "",
    pauses_by_day: bool = False,
) -> str:
    """Write a commented TOML text; comments are in the language in use.

    `sources` and `destinations` are addresses: they are checked (AddressError) and named
    `main`, `source2` ... and `pacs`, `disk` or `vault`. Without any, examples stand there as
    comments. With `nightly_at`, a time of day, a plan of all of them is scheduled, and with
    `pauses_by_day` its transfers pause from 8 to 18 on week days.
    """
    scheduled = bool(nightly_at and sources and destinations)
    names = _destination_names(destinations)
    lines = [
        *_head(language),
        *tables_of_how(),
        *comment(
            _(
                "Sources: where studies are. A folder, an OsiriX or Horos library, or a PACS. With "
                "a name, the command is short: dcmvault backup NAME --to NAME"
            )
        ),
        *_source_tables(sources),
        *comment(
            _(
                "Destinations: where copies go. “level” is the evidence asked by default: sent, "
                "present, complete, committed (storage commitment of a PACS, checksums of S3), or "
                "proven (read back and compared); “reverify_after” is how old it may be. What "
                "opens a vault is referred to: “env:NAME” or “file:PATH”."
            )
        ),
        *_destination_tables(destinations),
        "",
        *_plan_table(_source_names(sources), names, scheduled=scheduled),
        "",
        *_schedule_table(nightly_at if scheduled else "", has_window=pauses_by_day),
        "",
        *_window_table(applies=scheduled and pauses_by_day),
        "",
        *_notifications_tables(),
        "",
        *_hooks_table(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _head(language: str) -> list[str]:
    """Return what stands before the tables."""
    return [
        *comment(
            _(
                "Configuration of dcmvault. Every key is optional; `dcmvault config check` finds "
                "what is wrong, `dcmvault config show --effective` shows what is in force."
            )
        ),
        "",
        *comment(_("Language of words and figures: “en”, “pt-BR”, or empty (as the system).")),
        f"language = {text(language)}",
        "",
        *comment(_("Patient data in reports: “off” (none), “ids” (patient IDs) or “full”.")),
        'privacy = "off"',
        "",
        *comment(
            _(
                "Where the catalogue is. Empty: SQLite in the state folder. Else PostgreSQL: "
                "“postgresql://user@host/name”, or “env:NAME” or “file:PATH” for a URL with a "
                "password. Passwords never stand in this file."
            )
        ),
        'database = ""',
        "",
        *comment(
            _(
                "Where several hosts share a PostgreSQL database: how this one is called (empty: "
                "its own name), and places that only some hosts reach, by host."
            )
        ),
        'host = ""',
        '# hosts.reading-room = ["horos", "disk"]',
        "",
    ]


def write_template(path: Path, text: str, *, force: bool = False) -> None:
    """Write a configuration file with mode 0600, in a folder of mode 0700 if it is new.

    ConfigurationError when there is one already, unless `force`: then it is replaced at once.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new") if force else path
        if force:
            fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            make_durable(file.fileno())
        fresh.replace(path)
    except FileExistsError:
        raise ConfigurationError(
            _("There is a configuration file already."),
            hint=_("%s — use --force to replace it.") % path,
        ) from None
    except OSError as error:
        raise ConfigurationError(
            _("The configuration file cannot be written."), hint=f"{path}: {error.strerror}"
        ) from None


def _source_tables(addresses: Sequence[str]) -> list[str]:
    if not addresses:
        return [
            "# [sources.horos]",
            '# address = "horos:~/Documents/Horos Data"',
            "",
            "# [sources.orthanc]",
            '# address = "orthanc+http://localhost:8042"',
            "",
            "# [sources.pacs]",
            '# address = "dicom://ARCHIVE@pacs.example:104?calling=DCMVAULT"',
            '# retrieve = "get"',
            "# max_answers = 500",
            "",
        ]
    lines: list[str] = []
    for name, address in zip(_source_names(addresses), addresses, strict=True):
        lines += [f"[sources.{name}]", f"address = {text(source_section(address).address)}", ""]
    return lines


def _destination_tables(addresses: Sequence[str]) -> list[str]:
    if not addresses:
        return [
            "# [destinations.pacs]",
            '# address = "dicom://ORTHANC@pacs.example:4242?calling=DCMVAULT"',
            '# level = "complete"',
            '# reverify_after = "30d"',
            '# reverify_share = "5%"',
            "# commitment_port = 11114",
            "# max_associations = 4",
            '# network = "ethernet"',
            "# async_window = 8",
            '# bandwidth = "2 MB/s"',
            '# transcode = "lossless"',
            '# coerced = "(0010,0020)"',
            '# retrieve = "get"',
            "# move_port = 11113",
            "",
            "# [destinations.pacs-over-tls]",
            '# address = "dicoms://ARCHIVE@pacs.example:2762?calling=DCMVAULT"',
            '# tls_ca_file = "/etc/dcmvault/hospital-ca.pem"',
            "",
            "# [destinations.web]",
            '# address = "dicomweb+https://pacs.example/dicom-web"',
            '# level = "complete"',
            '# user = "backup"',
            '# password = "env:DICOMWEB_PASSWORD"',
            "",
            "# [destinations.disk]",
            '# address = "/Volumes/Backup/studies"',
            '# level = "proven"',
            "",
            "# [destinations.vault]",
            '# address = "vault:/Volumes/Backup/vault"',
            '# profile = "balanced"',
            '# passphrase = "env:DCMVAULT_PASSPHRASE"',
        ]
    lines: list[str] = []
    for name, address in zip(_destination_names(addresses), addresses, strict=True):
        level = "proven" if name.startswith("disk") else "complete"
        lines += [
            f"[destinations.{name}]",
            f"address = {text(destination_section(address).address)}",
            f'level = "{level}"',
            "",
        ]
    return lines


def _source_names(addresses: Sequence[str]) -> list[str]:
    return ["main" if not number else f"source{number + 1}" for number in range(len(addresses))]


def _destination_names(addresses: Sequence[str]) -> list[str]:
    names: list[str] = []
    seen: dict[str, int] = {}
    for address in addresses:
        name = _destination_name(destination_section(address))
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}{seen[name]}")
    return names


def _plan_table(
    sources: Sequence[str], destinations: Sequence[str], *, scheduled: bool
) -> list[str]:
    mark = "" if scheduled else "# "
    return [
        *comment(
            _(
                "Plans: what is backed up from where to where, under one name: dcmvault run NAME. "
                "Each source in turn to every destination, or as “routing” says: to all (mirror), "
                "to the first that can be reached (failover), or to one of them (load-balance)."
            )
        ),
        f"{mark}[plans.nightly]",
        f"{mark}sources = {texts(sources if scheduled else ('horos', '/Volumes/Studies'))}",
        f"{mark}destinations = {texts(destinations if scheduled else ('pacs', 'vault'))}",
        '# level = "complete"',
        f'{mark}strategy = "incremental"',
        '# priority = "normal"',
        '# expected_every = "26h"',
        "# max_studies = 50",
        "# [plans.nightly.routing]",
        '# mode = "failover"',
        "# [[plans.nightly.routing.rules]]",
        '# modality = ["US"]',
        '# to = ["vault"]',
    ]


def _notifications_tables() -> list[str]:
    return [
        *comment(
            _(
                "Who is told of what (dcmvault notify test tries it). Messages name no patients "
                "unless privacy says so. “events” are any of: %s."
            )
            % ", ".join(EVENT_WORDS)
        ),
        "# [notifications.office]",
        '# channel = "mail"',
        '# host = "smtp.example.org"',
        '# user = "backup@example.org"',
        '# password = "env:MAIL_PASSWORD"',
        '# sender = "backup@example.org"',
        '# to = ["office@example.org"]',
        f"# events = {json.dumps(MailSection.usual_events)}",
        "",
        "# [notifications.dead-man]",
        '# channel = "healthchecks"',
        '# url = "env:HEALTHCHECKS_URL"',
        '# plans = ["nightly"]',
    ]


def _hooks_table() -> list[str]:
    return [
        *comment(
            _(
                "Commands around runs; each gets a JSON object on standard input. “on_failure” is "
                "ignore, warn or fail."
            )
        ),
        "# [hooks.pre_run]",
        '# command = ["/usr/local/bin/mount-backup-disk"]',
        "# timeout_s = 60",
        '# on_failure = "fail"',
    ]


def _schedule_table(nightly_at: str, *, has_window: bool) -> list[str]:
    mark = "" if nightly_at else "# "
    hour, minute = (nightly_at or "02:00").split(":")
    return [
        *comment(
            _(
                "Schedules: when a plan runs by itself, while the daemon does. “cron” has minute, "
                "hour, day of month, month and day of week, or is an alias such as “@daily”; "
                "instead “every” has an interval (“30min”, “6h”, “1d”). What was missed runs once. "
                "“window” names hours in which transfers run; “suggested” takes those that "
                "recorded history suggests (dcmvault schedule suggest)."
            )
        ),
        f"{mark}[schedules.nightly]",
        f'{mark}plan = "nightly"',
        f'{mark}cron = "{int(minute)} {int(hour) % 24} * * *"',
        '# time_zone = "America/Sao_Paulo"',
        '# strategy = "full"',
        "# max_studies = 50",
        "# study_days = 30",
        f'{mark if has_window else "# "}window = "office"',
        "# enabled = true",
    ]


def _window_table(*, applies: bool) -> list[str]:
    mark = "" if applies else "# "
    return [
        *comment(
            _(
                "Windows: in which hours of the week transfers run (“open”), pause (“closed”), and "
                "how fast (“rates”). Urgent work goes on in closed hours unless “urgent” is false."
            )
        ),
        f"{mark}[windows.office]",
        f'{mark}closed = [{{days = "mon-fri", from = "08:00", to = "18:00"}}]',
        '# open = [{days = "mon-sun", from = "20:00", to = "06:00"}]',
        '# rates = [{days = "sat,sun", from = "08:00", to = "18:00", rate = "2 MB/s"}]',
        f"{mark}urgent = true",
        '# time_zone = "America/Sao_Paulo"',
    ]


def _destination_name(section: DestinationSection) -> str:
    if isinstance(section, DimseDestinationSection):
        return "pacs"
    if isinstance(section, StowDestinationSection):
        return "web"
    return "vault" if isinstance(section, VaultDestinationSection) else "disk"
