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
from dcmvault.config.deletion_section import SafeToDeleteSection
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.notifications_section import EVENT_WORDS, MailSection
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.config.sections import DestinationSection, RetrySection, VaultDestinationSection
from dcmvault.config.serving_section import ServeSection
from dcmvault.durability import make_durable
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _


def render_template(
    *, language: str = "", sources: Sequence[str] = (), destinations: Sequence[str] = ()
) -> str:
    """Write a commented TOML text; comments are in the language in use.

    `sources` and `destinations` are addresses: they are checked (AddressError) and named
    `main`, `source2` ... and `pacs`, `disk` or `vault`. Without any, examples stand there as
    comments.
    """
    lines = [
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
        *_plan_table(),
        "",
        *_notifications_tables(),
        "",
        *_hooks_table(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _tables_of_how() -> list[str]:
    """Return what holds for all sources and destinations."""
    tables = (
        _retry_table,
        _bandwidth_table,
        _listener_table,
        _deletion_table,
        _serve_table,
        _monitoring_table,
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


def _monitoring_table() -> list[str]:
    watched = MonitoringSection()
    return [
        *_comment(
            _(
                "When an alert is raised (dcmvault status, dcmvault top), and when backups of a "
                "source are held because much of it changed or is gone at once."
            )
        ),
        "[monitoring]",
        f"stalled_after_s = {watched.stalled_after_s}",
        f"disk_low_mb = {watched.disk_low_mb}",
        f"disk_full_within_h = {watched.disk_full_within_h}",
        f"cpu_percent = {watched.cpu_percent}",
        f"certificate_days = {watched.certificate_days}",
        f"hold_changed_percent = {watched.hold_changed_percent}",
        f"hold_gone_percent = {watched.hold_gone_percent}",
        f"hold_instances = {watched.hold_instances}",
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
    for number, address in enumerate(addresses, start=1):
        name = "main" if number == 1 else f"source{number}"
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
    seen: dict[str, int] = {}
    for address in addresses:
        section = destination_section(address)
        name = _destination_name(section)
        seen[name] = seen.get(name, 0) + 1
        number = "" if seen[name] == 1 else str(seen[name])
        level = "proven" if name == "disk" else "complete"
        lines += [
            f"[destinations.{name}{number}]",
            f"address = {_text(section.address)}",
            f'level = "{level}"',
            "",
        ]
    return lines


def _plan_table() -> list[str]:
    return [
        *_comment(
            _(
                "Plans: what is backed up from where to where, under one name: dcmvault run NAME. "
                "Each source in turn to every destination."
            )
        ),
        "# [plans.nightly]",
        '# sources = ["horos", "/Volumes/Studies"]',
        '# destinations = ["pacs", "vault"]',
        '# level = "complete"',
        '# strategy = "incremental"',
        '# priority = "normal"',
        '# expected_every = "26h"',
    ]


def _notifications_tables() -> list[str]:
    return [
        *_comment(
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
        *_comment(
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
