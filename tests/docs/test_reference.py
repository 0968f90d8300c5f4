"""The reference says what the code does: nothing is missing there, and nothing is invented."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic_core import PydanticUndefined
from scripts import command_line

from dcmvault.app.demo import DemonstrationFailedError
from dcmvault.audit.dicom_message import codes
from dcmvault.cli.progress import JsonLines
from dcmvault.config.audit_section import AuditSection
from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.classification_section import ClassificationSection
from dcmvault.config.conditions import ConditionsSection
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.oidc_section import OidcSection
from dcmvault.config.options import Section
from dcmvault.config.peer_sections import (
    DimseDestinationSection,
    DimsePeerSection,
    DimseSourceSection,
    OrthancCompanionSection,
    StowDestinationSection,
)
from dcmvault.config.plans import PlanSection
from dcmvault.config.routing_section import RoutingSection
from dcmvault.config.schedule_sections import ScheduleSection, WindowSection
from dcmvault.config.sections import (
    FolderDestinationSection,
    FolderSourceSection,
    HorosSourceSection,
    RetrySection,
    VaultDestinationSection,
    VaultSection,
    VaultSourceSection,
)
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError
from dcmvault.model.alert import AlertCode
from dcmvault.model.audit import AuditKind
from dcmvault.model.journal import Break
from dcmvault.model.sample import THINNED_BY
from dcmvault.reports import period_csv
from dcmvault.reports.performance import DESTINATION_RULES, RUN_RULES
from dcmvault.reports.render import render_period
from dcmvault.reports.summary import STAGES, study_rows, summary
from dcmvault.telemetry.prometheus import METRICS
from dcmvault.telemetry.samples_csv import COLUMNS
from dcmvault.testing import sample_periods, sample_reports

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
IN_ADDRESS = {
    "kind",
    "path",
    "host",
    "port",
    "tls",
    "called_ae_title",
    "calling_ae_title",
    "location",
    "snapshot",
    "url",
}


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def rows(text: str) -> list[list[str]]:
    """List the cells of every table row, without the marks of code."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_command_line_is_as_the_commands_are() -> None:
    assert page("command-line.md") == command_line.render(), "run: python -m scripts.command_line"


def test_every_error_has_its_row() -> None:
    documented = {
        row[0]: (int(row[1]), row[2])
        for row in rows(page("exit-statuses.md"))
        if len(row) == 4 and row[1].isdecimal()
    }
    found = {}
    kinds: list[type[DcmvaultError]] = [DcmvaultError, DemonstrationFailedError]
    while kinds:
        kind = kinds.pop()
        if kind.__module__.startswith("dcmvault.") and "code" in vars(kind):
            found[kind.code] = (kind.exit_status, kind.retry.value)
        kinds += kind.__subclasses__()
    assert documented == found


def test_every_status_has_its_row() -> None:
    documented = {int(row[0]) for row in rows(page("exit-statuses.md")) if row[0].isdecimal()}
    assert documented == {0, 1, 2, 3, 4, 5, 130}


def test_every_key_of_the_summary_has_its_row() -> None:
    text = page("summary-json.md")
    found = summary(sample_reports.bad())
    table = [row[0].replace("`", "").split(", ") for row in rows(text)][1:]
    assert [name for names in table for name in names] == list(found)
    words = set(re.findall(r"`([a-z_]+)`", text))
    nested: set[str] = set(STAGES)
    for key in ("instances", "bytes"):
        part = found[key]
        assert isinstance(part, dict)
        nested |= set(part)
    for key in ("failures", "destinations"):
        part = found[key]
        assert isinstance(part, list)
        nested |= set(part[0])
    nested |= set(study_rows(sample_reports.bad())[0])
    assert nested <= words, nested - words


def test_every_key_of_progress_is_named() -> None:
    lines: list[str] = []
    write_one_line(lines)
    keys = set(re.findall(r'"([a-z_]+)":', lines[0]))
    words = set(re.findall(r"`([a-z_]+)`", page("summary-json.md")))
    assert keys <= words, keys - words


def write_one_line(lines: list[str]) -> None:
    from dcmvault.app.backup import Followed
    from dcmvault.cli.pace import Pace
    from dcmvault.model.report import RunState
    from dcmvault.ports.catalogue import RunProgress

    progress = RunProgress(RunState.RUNNING, 1, 0, 0, 0, 1, 0, scanned=1)
    JsonLines(lines.append, Pace())(Followed(progress, working=True))


def defaults(*sections: type[Section]) -> dict[str, str]:
    found = {}
    for section in sections:
        for name, field in section.model_fields.items():
            if name not in IN_ADDRESS and field.default is not PydanticUndefined:
                value = field.default
                if isinstance(value, BandwidthSection):
                    value = value.rate
                elif isinstance(value, OrthancCompanionSection | RoutingSection):
                    value = "–"  # a table of its own
                found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def test_monitoring_is_as_the_code_has_it() -> None:
    """Columns and how they are thinned, metrics with all that is said of them, alerts."""
    text = page("monitoring.md")
    samples, rest = text.split("## Metrics")
    metrics, alerts = rest.split("## Alerts")
    columns = {row[0]: row[3] for row in rows(samples)[1:]}
    assert tuple(columns) == COLUMNS
    assert {figure: columns[figure.value] for figure in THINNED_BY} == dict(THINNED_BY)
    assert [[cell.replace("`", "") for cell in row] for row in rows(metrics)[1:]] == [
        [one.name, one.kind.value, ", ".join(one.labels) or "–", one.about.rstrip(".")]
        for one in METRICS.values()
    ]
    assert [row[0] for row in rows(alerts)[1:]] == [code.value for code in AlertCode]


def test_every_key_of_the_configuration_has_its_row_and_its_default() -> None:
    text = page("configuration.md")
    tables: dict[str, dict[str, str]] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ")
        elif line.startswith("| `"):
            key, default, _meaning = (
                (cell.strip(" `") for cell in line.strip("|").split("|")[:3])
                if line.count("|") == 4
                else ("", "", "")
            )
            if key:
                tables.setdefault(title, {})[key] = default.strip('"')
    top = defaults(Settings)
    assert tables["The configuration file"] == {
        "language": top["language"],
        "privacy": top["privacy"],
        "database": top["database"],
        "host": "",
        "hosts": "{}",
    }
    assert tables["[retry]"] == defaults(RetrySection)
    assert tables["[classification]"] == defaults(ClassificationSection)
    conditions = [row[0] for row in rows(text.split("## [[rules]]")[1].split("\n## ")[0])][1:]
    named = [name for row in conditions for name in row.replace("`", "").split(", ")]
    assert named == list(ConditionsSection.model_fields)
    assert tables["[monitoring]"] == defaults(MonitoringSection)
    assert tables["[bandwidth]"] == {"rate": BandwidthSection().rate, "windows": "[]"}
    sources = tables["[sources.NAME]"]
    assert sources.pop("address") == "–"
    assert sources == defaults(FolderSourceSection, HorosSourceSection)
    of_any_pacs = defaults(DimsePeerSection)
    assert tables["A PACS as a source"] == {
        key: default
        for key, default in defaults(DimseSourceSection).items()
        if key not in of_any_pacs
    }
    destinations = tables["[destinations.NAME]"]
    assert (destinations.pop("address"), destinations.pop("level")) == ("–", "–")
    assert (destinations.pop("reverify_after"), destinations.pop("reverify_share")) == ("", "")
    vault = tables["Vaults"]
    assert vault == defaults(VaultSection) == defaults(VaultSourceSection)
    assert tables["[audit]"] == defaults(AuditSection)
    oidc = tables["[web.oidc]"]
    for key in ("issuer", "client_id", "redirect_uri", "roles"):
        assert oidc.pop(key) == "–"
    assert oidc.pop("scopes").strip("[]") == '"profile"'
    assert oidc == {key: said for key, said in defaults(OidcSection).items() if key != "scopes"}
    plans = tables["[plans.NAME]"]
    assert (plans.pop("sources"), plans.pop("destinations")) == ("–", "–")
    assert plans == defaults(PlanSection)
    schedules = tables["[schedules.NAME]"]
    assert schedules.pop("plan") == "–"
    assert schedules == defaults(ScheduleSection)
    windows = {key: said.replace("[]", "()") for key, said in tables["[windows.NAME]"].items()}
    assert windows == defaults(WindowSection)
    assert destinations | vault | tables["DICOMweb"] == defaults(
        FolderDestinationSection,
        DimseDestinationSection,
        StowDestinationSection,
        VaultDestinationSection,
    )


def test_every_event_of_the_journal_has_its_row_and_its_message() -> None:
    text = page("audit.md")
    kinds = {kind.value for kind in AuditKind}
    documented = {row[0]: row[2] for row in rows(text) if len(row) == 3 and row[0] in kinds}
    assert list(documented) == [kind.value for kind in AuditKind]
    for kind, event_id, meaning, event_type in codes():
        told = documented[kind.value]
        assert told.startswith(f"{event_id} {meaning}"), kind
        assert event_type in told
    assert {f"`{kind.value}`" for kind in Break} <= set(re.findall(r"`[a-z-]+`", text))


def test_every_column_of_a_period_has_its_row_in_order() -> None:
    columns = [row[0] for row in rows(page("reports.md")) if row[0] in period_csv.COLUMNS]
    assert tuple(columns[: len(period_csv.COLUMNS)]) == period_csv.COLUMNS


def test_every_key_of_a_period_is_named() -> None:
    keys = set(re.findall(r'"([a-z_]+)":', render_period(sample_periods.bad(), "json")))
    words = set(re.findall(r"`([a-z_]+)`", page("reports.md") + page("summary-json.md")))
    assert keys - words <= {"scan", "complete", "proven"}, keys - words


def test_every_rule_of_the_analysis_has_its_row() -> None:
    documented = [tuple(row[1:4]) for row in rows(page("reports.md")) if row[-2].endswith(" %")]
    in_code = [
        (" + ".join(rule.part), " + ".join(rule.whole), f"{rule.threshold:.0%}".replace("%", " %"))
        for rule in (*RUN_RULES, *DESTINATION_RULES)
    ]
    assert [
        (part, whole.replace("` of the run", ""), least) for part, whole, least in documented
    ] == in_code
