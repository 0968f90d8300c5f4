"""The commented configuration that `dcmvault config init` writes."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.audit_section import AuditSection
from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.classification_section import ClassificationSection
from dcmvault.config.deletion_section import SafeToDeleteSection
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.sections import DestinationSection, RetrySection, VaultDestinationSection
from dcmvault.config.serving_section import ServeSection
from dcmvault.config.web_section import WebSection
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
        *_tables_of_how(),
        *_comment(
            _(
                "Sources: where studies are. A folder, an OsiriX or Horos library, or a PACS. With "
                "a name, the command is short: dcmvault backup NAME --to NAME"
            )
        ),
        *_source_tables(sources),
        *_comment(
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
    ]
    return "\n".join(lines).rstrip() + "\n"


def _head(language: str) -> list[str]:
    """Return what stands before the tables."""
    return [
        *_comment(
            _(
                "Configuration of dcmvault. Every key is optional; `dcmvault config check` finds "
                "what is wrong, `dcmvault config show --effective` shows what is in force."
            )
        ),
        "",
        *_comment(_("Language of words and figures: “en”, “pt-BR”, or empty (as the system).")),
        f"language = {_text(language)}",
        "",
        *_comment(_("Patient data in reports: “off” (none), “ids” (patient IDs) or “full”.")),
        'privacy = "off"',
        "",
        *_comment(
            _(
                "Where the catalogue is. Empty: SQLite in the state folder. Else PostgreSQL: "
                "“postgresql://user@host/name”, or “env:NAME” or “file:PATH” for a URL with a "
                "password. Passwords never stand in this file."
            )
        ),
        'database = ""',
        "",
    ]


def _tables_of_how() -> list[str]:
    """Return what holds for all sources and destinations."""
    tables = (
        _retry_table,
        _bandwidth_table,
        _listener_table,
        _deletion_table,
        _serve_table,
        _classification_table,
        _web_table,
        _audit_table,
    )
    return [line for table in tables for line in (*table(), "")]


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


def _retry_table() -> list[str]:
    retry = RetrySection()
    return [
        *_comment(
            _(
                "How often a refused instance is tried in one run: attempts in all, seconds before "
                "the second (twice as long each time), the share by which waits vary, and the "
                "longest wait in seconds."
            )
        ),
        "[retry]",
        f"attempts = {retry.attempts}",
        f"wait_s = {retry.wait_s}",
        f"jitter = {retry.jitter}",
        f"longest_wait_s = {retry.longest_wait_s}",
    ]


def _bandwidth_table() -> list[str]:
    return [
        *_comment(
            _(
                "How fast bytes are sent to all destinations together: “2 MB/s”, “16 Mbit/s” or "
                "“unlimited”, and other rates by day and time (local). A destination may have a "
                "bandwidth of its own."
            )
        ),
        "[bandwidth]",
        f"rate = {_text(BandwidthSection().rate)}",
        '# windows = [{days = "mon-fri", from = "07:00", to = "19:00", rate = "2 MB/s"}]',
    ]


def _listener_table() -> list[str]:
    listener = ListenerSection()
    return [
        *_comment(
            _(
                "What others push to us (dcmvault listen). Studies are backed up when they had no "
                "new instance for “settle_s” seconds, and leave the spool “keep_days” after they "
                "came, once every destination holds them. For other machines, set “host” to "
                "“0.0.0.0” and say in “peers” who may send."
            )
        ),
        "[listener]",
        f"ae_title = {_text(listener.ae_title)}",
        f"host = {_text(listener.host)}",
        f"port = {listener.port}",
        f"settle_s = {listener.settle_s}",
        f"keep_days = {listener.keep_days}",
        '# peers = [{ae_title = "MR1", network = "192.168.1.20"}]',
    ]


def _deletion_table() -> list[str]:
    asked = SafeToDeleteSection()
    return [
        *_comment(
            _(
                "When dcmvault safe-to-delete says yes: how many destinations must hold every "
                "instance of a study at which level, how many of these copies must be locked "
                "(Object Lock), days that evidence may be old and that copies must be old. "
                "dcmvault itself never deletes at a source."
            )
        ),
        "[safe_to_delete]",
        f"copies = {asked.copies}",
        f"level = {_text(asked.level)}",
        '# levels = {pacs = "complete", vault = "proven"}',
        f"immutable = {asked.immutable}",
        f"evidence_max_age_days = {asked.evidence_max_age_days}",
        f"min_age_days = {asked.min_age_days}",
        f"require_unchanged = {str(asked.require_unchanged).lower()}",
    ]


def _serve_table() -> list[str]:
    serve = ServeSection()
    return [
        *_comment(
            _(
                "A vault that answers as a PACS (dcmvault serve). For other machines, set “host” "
                "to “0.0.0.0” and say in “peers” who may ask, and where C-MOVE sends to."
            )
        ),
        "[serve]",
        f"ae_title = {_text(serve.ae_title)}",
        f"host = {_text(serve.host)}",
        f"dicom_port = {serve.dicom_port}",
        '# peers = [{ae_title = "HOROS", network = "192.168.1.20", move_host = "192.168.1.20", '
        "move_port = 11112}]",
        f"web_port = {serve.web_port}",
        '# web_tokens = {ohif = "env:OHIF_TOKEN"}',
        '# web_origins = ["https://viewer.example.org"]',
    ]


def _classification_table() -> list[str]:
    section = ClassificationSection()
    return [
        *_comment(
            _(
                "Which studies come first with the strategy “smart”. The first rule whose "
                "conditions all hold gives the priority: yours, then dcmvault's own “built_in” "
                "ones (dcmvault rules list). “learn”: what people move in queues, and restore, "
                "moves studies like these by one step (dcmvault rules learned)."
            )
        ),
        "[classification]",
        f"built_in = {str(section.built_in).lower()}",
        f"otherwise = {_text(section.otherwise)}",
        f"learn = {str(section.learn).lower()}",
        "",
        "# [[rules]]",
        '# name = "screening"',
        '# modality = ["MG"]',
        '# words = ["screening", "rastreamento"]',
        '# priority = "low"',
    ]


def _web_table() -> list[str]:
    web = WebSection()
    return [
        *_comment(
            _(
                "The daemon (dcmvault serve, without a vault) and its API. For other machines, set "
                "“host” to “0.0.0.0”, give a certificate, and say in “names” what they call this "
                "machine."
            )
        ),
        "[web]",
        f"host = {_text(web.host)}",
        f"port = {web.port}",
        '# names = ["backup.example.org"]',
        '# tls_certificate_file = "/etc/dcmvault/web.pem"',
    ]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")


def _text(value: str) -> str:
    """Write a TOML basic string (JSON's escapes are a subset of TOML's)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


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
        lines += [f"[sources.{name}]", f"address = {_text(source_section(address).address)}", ""]
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
            f"address = {_text(destination_section(address).address)}",
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
        *_comment(
            _(
                "Plans: what is backed up from where to where, under one name: dcmvault run NAME. "
                "Each source in turn to every destination, or as “routing” says: to all (mirror), "
                "to the first that can be reached (failover), or to one of them (load-balance)."
            )
        ),
        f"{mark}[plans.nightly]",
        f"{mark}sources = {_texts(sources if scheduled else ('horos', '/Volumes/Studies'))}",
        f"{mark}destinations = {_texts(destinations if scheduled else ('pacs', 'vault'))}",
        '# level = "complete"',
        f'{mark}strategy = "incremental"',
        '# priority = "normal"',
        "# max_studies = 50",
        "# [plans.nightly.routing]",
        '# mode = "failover"',
        "# [[plans.nightly.routing.rules]]",
        '# modality = ["US"]',
        '# to = ["vault"]',
    ]


def _schedule_table(nightly_at: str, *, has_window: bool) -> list[str]:
    mark = "" if nightly_at else "# "
    hour, minute = (nightly_at or "02:00").split(":")
    return [
        *_comment(
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
        *_comment(
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


def _texts(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _audit_table() -> list[str]:
    audit = AuditSection()
    return [
        *_comment(
            _(
                "The audit journal of who did what (dcmvault audit). “collector” also gets it as "
                "DICOM audit messages over syslog: “tls://host:6514”, “tcp://host:601” or "
                "“udp://host:514”; what it missed is sent when it is back."
            )
        ),
        "[audit]",
        '# collector = "tls://syslog.example:6514"',
        f"site = {_text(audit.site)}",
        f"rotate_mib = {audit.rotate_mib}",
    ]


def _destination_name(section: DestinationSection) -> str:
    if isinstance(section, DimseDestinationSection):
        return "pacs"
    if isinstance(section, StowDestinationSection):
        return "web"
    return "vault" if isinstance(section, VaultDestinationSection) else "disk"
