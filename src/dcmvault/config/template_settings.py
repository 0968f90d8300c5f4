"""The tables of the commented configuration that hold for all sources and destinations."""

from __future__ import annotations

from dcmvault.config.audit_section import AuditSection
from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.classification_section import ClassificationSection
from dcmvault.config.deletion_section import SafeToDeleteSection
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.sections import RetrySection
from dcmvault.config.serving_section import ServeSection
from dcmvault.config.template_lines import comment, text
from dcmvault.config.web_section import WebSection
from dcmvault.i18n import gettext as _


def tables_of_how() -> list[str]:
    """Return what holds for all sources and destinations."""
    tables = (
        _retry_table,
        _bandwidth_table,
        _listener_table,
        _deletion_table,
        _serve_table,
        _classification_table,
        _web_table,
        _monitoring_table,
        _audit_table,
    )
    return [line for table in tables for line in (*table(), "")]


def _retry_table() -> list[str]:
    retry = RetrySection()
    return [
        *comment(
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
        *comment(
            _(
                "How fast bytes are sent to all destinations together: “2 MB/s”, “16 Mbit/s” or "
                "“unlimited”, and other rates by day and time (local). A destination may have a "
                "bandwidth of its own."
            )
        ),
        "[bandwidth]",
        f"rate = {text(BandwidthSection().rate)}",
        '# windows = [{days = "mon-fri", from = "07:00", to = "19:00", rate = "2 MB/s"}]',
    ]


def _listener_table() -> list[str]:
    listener = ListenerSection()
    return [
        *comment(
            _(
                "What others push to us (dcmvault listen). Studies are backed up when they had no "
                "new instance for “settle_s” seconds, and leave the spool “keep_days” after they "
                "came, once every destination holds them. For other machines, set “host” to "
                "“0.0.0.0” and say in “peers” who may send."
            )
        ),
        "[listener]",
        f"ae_title = {text(listener.ae_title)}",
        f"host = {text(listener.host)}",
        f"port = {listener.port}",
        f"settle_s = {listener.settle_s}",
        f"keep_days = {listener.keep_days}",
        '# peers = [{ae_title = "MR1", network = "192.168.1.20"}]',
    ]


def _deletion_table() -> list[str]:
    asked = SafeToDeleteSection()
    return [
        *comment(
            _(
                "When dcmvault safe-to-delete says yes: how many destinations must hold every "
                "instance of a study at which level, how many of these copies must be locked "
                "(Object Lock), days that evidence may be old and that copies must be old. "
                "dcmvault itself never deletes at a source."
            )
        ),
        "[safe_to_delete]",
        f"copies = {asked.copies}",
        f"level = {text(asked.level)}",
        '# levels = {pacs = "complete", vault = "proven"}',
        f"immutable = {asked.immutable}",
        f"evidence_max_age_days = {asked.evidence_max_age_days}",
        f"min_age_days = {asked.min_age_days}",
        f"require_unchanged = {str(asked.require_unchanged).lower()}",
    ]


def _serve_table() -> list[str]:
    serve = ServeSection()
    return [
        *comment(
            _(
                "A vault that answers as a PACS (dcmvault serve). For other machines, set “host” "
                "to “0.0.0.0” and say in “peers” who may ask, and where C-MOVE sends to."
            )
        ),
        "[serve]",
        f"ae_title = {text(serve.ae_title)}",
        f"host = {text(serve.host)}",
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
        *comment(
            _(
                "Which studies come first with the strategy “smart”. The first rule whose "
                "conditions all hold gives the priority: yours, then dcmvault's own “built_in” "
                "ones (dcmvault rules list). “learn”: what people move in queues, and restore, "
                "moves studies like these by one step (dcmvault rules learned)."
            )
        ),
        "[classification]",
        f"built_in = {str(section.built_in).lower()}",
        f"otherwise = {text(section.otherwise)}",
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
        *comment(
            _(
                "The daemon (dcmvault serve, without a vault) and its API. For other machines, set "
                "“host” to “0.0.0.0”, give a certificate, and say in “names” what they call this "
                "machine."
            )
        ),
        "[web]",
        f"host = {text(web.host)}",
        f"port = {web.port}",
        '# names = ["backup.example.org"]',
        '# tls_certificate_file = "/etc/dcmvault/web.pem"',
        *comment(_("When somebody has to log in to the dashboard again.")),
        f"idle_minutes = {web.idle_minutes}",
        f"session_hours = {web.session_hours}",
        "",
        *comment(
            _(
                "Where people log in, beside the passwords here: an OpenID Connect provider. The "
                "role comes from a claim of its ID token at each login; who has none is refused. "
                "dcmvault doctor tries it."
            )
        ),
        "# [web.oidc]",
        '# issuer = "https://login.example.org/realms/hospital"',
        '# client_id = "dcmvault"',
        '# client_secret = "env:OIDC_SECRET"',
        '# redirect_uri = "https://backup.example.org/login/oidc/back"',
        '# role_claim = "groups"',
        '# roles = {pacs-team = "operator", it-department = "administrator"}',
    ]


def _monitoring_table() -> list[str]:
    watched = MonitoringSection()
    return [
        *comment(
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
        f"hold_days = {watched.hold_days}",
    ]


def _audit_table() -> list[str]:
    audit = AuditSection()
    return [
        *comment(
            _(
                "The audit journal of who did what (dcmvault audit). “collector” also gets it as "
                "DICOM audit messages over syslog: “tls://host:6514”, “tcp://host:601” or "
                "“udp://host:514”; what it missed is sent when it is back."
            )
        ),
        "[audit]",
        '# collector = "tls://syslog.example:6514"',
        f"site = {text(audit.site)}",
        f"rotate_mib = {audit.rotate_mib}",
    ]
