"""Comparisons and certificates as they are written: for programs, for spreadsheets, for people."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from dcmvault import i18n
from dcmvault.model.certificate import (
    Certificate,
    Delivered,
    ListReport,
    Sample,
    SampledStudy,
    SideReport,
)
from dcmvault.model.comparison import (
    Basis,
    Depth,
    SeriesDifference,
    StudyComparison,
    StudySummary,
    Tally,
    Verdict,
)
from dcmvault.reports import certificate_html, certificate_pdf, comparison_csv
from dcmvault.reports.certificate_page import certificate_page
from dcmvault.reports.comparison_json import sample_object, write_certificate

NASTY = '=HYPERLINK("x")<script>alert(1)</script>\x1b[31m\u202e 名前'
SAME = StudyComparison(
    "1.2.1",
    Verdict.SAME,
    Basis.INSTANCES,
    StudySummary("1.2.1", 1, 5, "20200131", "A1", ("CT", "SR")),
    StudySummary("1.2.1", 1, 5, "20200131", "A1", ("CT",)),
    root_a="aa",
    root_b="aa",
)
DIFFERENT = StudyComparison(
    "1.2.2",
    Verdict.DIFFERENT,
    Basis.INSTANCES,
    StudySummary("1.2.2", 2, 6),
    StudySummary("1.2.2", 1, 4),
    (
        SeriesDifference(
            "1.2.2.1", 3, 2, ("1.2.2.1.1", "1.2.2.1.2"), ("1.2.2.1.3",), ("1.2.2.1.4",)
        ),
    ),
)
ONLY_A = StudyComparison("1.2.3", Verdict.ONLY_A, Basis.COUNT, a=StudySummary("1.2.3", None, None))
ONLY_B = StudyComparison("1.2.4", Verdict.ONLY_B, Basis.COUNT, b=StudySummary("1.2.4", 1, 1))
UNKNOWN = StudyComparison("1.2.5", Verdict.UNKNOWN, a=StudySummary("1.2.5"), reason=NASTY)
ALL = (SAME, DIFFERENT, ONLY_A, ONLY_B, UNKNOWN)
PROVEN = SampledStudy("1.2.1", 3, 1, 0, 1, 0, 0, 0, 0, coerced_attributes=("(0010,0020)",))


def certificate(studies: tuple[StudyComparison, ...] = ALL, **changed: Any) -> Certificate:
    tally = Tally()
    for study in studies:
        tally.add(study)
    moment = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
    exceptions = tuple(one for one in studies if one.verdict is not Verdict.SAME)
    made = Certificate(
        a=SideReport(NASTY, "a" * 64, 1, 2, (NASTY,)),
        b=SideReport("dicom://NEW@new:104", "b" * 64),
        depth=Depth.INSTANCE,
        began_at=moment,
        ended_at=moment,
        operator="somebody",
        machine="somewhere",
        versions={"dcmvault": "1"},
        question="dcmvault compare",
        tally=tally,
        exceptions=exceptions,
        exceptions_in_all=len(exceptions) + 3,
        listed=ListReport(3, "c" * 64, (NASTY,)),
        sample=Sample("seed", 9, (PROVEN, replace(PROVEN, different=1, reasons=(NASTY,)))),
        delivered=(Delivered("20260131-120005-9f3c61d2", 2, 0),),
    )
    return replace(made, **changed)


def whole(studies: tuple[StudyComparison, ...] = (SAME,), **changed: Any) -> Certificate:
    fine: dict[str, Any] = {
        "a": SideReport("/a", ""),
        "listed": None,
        "sample": Sample("seed", 1, (PROVEN,)),
        **changed,
    }
    return certificate(studies, **fine)


def rows(depth: Depth) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    comparison_csv.write(stream, ALL, depth, [NASTY])
    return list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))


def test_csv_has_a_row_for_each_study_and_what_differs_in_it() -> None:
    assert [row["record"] for row in rows(Depth.STUDY)] == ["study"] * 5 + ["listed"]
    assert [row["record"] for row in rows(Depth.SERIES)].count("series") == 1
    instances = [row for row in rows(Depth.INSTANCE) if row["record"] == "instance"]
    assert [row["verdict"] for row in instances] == ["only_a", "only_a", "only_b", "other_content"]
    first = rows(Depth.STUDY)[0]
    assert (first["study_date"], first["modalities"], first["root_a"]) == (
        *("20200131", "CT+SR", "aa"),
    )
    assert "A1" not in str(rows(Depth.INSTANCE))


def test_no_cell_is_a_formula_or_moves_a_terminal() -> None:
    for row in rows(Depth.INSTANCE):
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@"))
            assert not set(cell) & {"\x1b", "\u202e"}


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_the_page_shows_what_differs_and_runs_nothing(language: str) -> None:
    i18n.use_language(language)
    try:
        page = certificate_html.render(certificate(), "d" * 64)
        paper = certificate_pdf.render(certificate(), "d" * 64)
    finally:
        i18n.use_language("en")
    for study in (DIFFERENT, ONLY_A, ONLY_B, UNKNOWN):
        assert study.study_instance_uid in page
    assert "<script" not in page
    assert not re.search("[\x1b\u202e]", page)
    assert 'verdict bad"' in page
    assert "d" * 64 in page
    assert paper.startswith(b"%PDF-")
    assert paper.rstrip().endswith(b"%%EOF")


def test_what_is_left_out_of_a_list_is_counted() -> None:
    """The JSON names all attributes; the page and the paper say how many more there are."""
    attributes = tuple(f"(0010,{number:04X})" for number in range(23))
    study = replace(
        PROVEN, coerced=2, coerced_attributes=attributes, different=1023, reasons=("why",) * 20
    )
    certified = certificate(sample=Sample("seed", 1, (study,)))
    page = certificate_html.render(certified, "d" * 64)
    assert attributes[19] in page
    assert attributes[20] not in page
    assert "... and 3 more: see the JSON." in page
    assert "... and 1,003 more instances" in page
    (row,) = certificate_page(certified).sample
    assert "... and 3 more: see the JSON." in row.result
    assert row.reasons[-1] == "... and 1,003 more instances"
    told = sample_object(certified.sample)
    assert told is not None
    (told,) = cast(list[dict[str, object]], told["studies"])
    assert told["coerced_attributes"] == list(attributes)
    assert told["reasons_left_out"] == 1003


def test_equal_certificates_are_equal_bytes() -> None:
    assert certificate_pdf.render(whole()) == certificate_pdf.render(whole())


def test_a_long_certificate_goes_on_over_pages() -> None:
    many = tuple(replace(ONLY_A, study_instance_uid=f"1.2.3.{number}") for number in range(500))
    assert certificate_pdf.render(certificate(many)).count(b"/Type /Page\n") > 5


def test_only_what_was_looked_into_is_green() -> None:
    by_count = replace(SAME, basis=Basis.COUNT, series=(), root_a="", root_b="")
    assert 'verdict good"' in certificate_html.render(whole())
    assert 'verdict claim"' in certificate_html.render(whole((by_count,)))
    remarked = whole(a=SideReport("/a", "", remarks=("It may have more.",)))
    assert 'verdict claim"' in certificate_html.render(remarked)
    opaque = certificate_html.render(whole(a=SideReport("/a", "", not_instances=1)))
    assert 'verdict claim"' in opaque
    assert "was not compared" in opaque
    # What only B has does not count against a migration.
    assert 'verdict good"' in certificate_html.render(whole((SAME, ONLY_B)))
    # A volume that is not mounted has no study, and nothing of it is anywhere.
    for nothing in ((), (ONLY_B,)):
        assert 'verdict bad"' in certificate_html.render(whole(nothing, sample=None))
    for changed in (
        {"a": SideReport("/a", "", unreadable=1)},
        {"listed": ListReport(1, "", ("A1",))},
        {"sample": Sample("seed", 1, (replace(PROVEN, missing_in_b=1),))},
    ):
        assert 'verdict bad"' in certificate_html.render(whole(**changed)), changed
    for study in (DIFFERENT, ONLY_A, UNKNOWN):
        assert 'verdict bad"' in certificate_html.render(whole((SAME, study)))


def test_json_has_every_study_and_no_patient() -> None:
    stream = io.StringIO()
    write_certificate(stream, certificate(), ALL)
    said = json.loads(stream.getvalue())
    assert [one["study_instance_uid"] for one in said["compared"]] == [
        one.study_instance_uid for one in ALL
    ]
    assert said["complete"] is False
    assert said["not_whole_in_b"] == 3
    assert said["compared"][1]["series"][0]["only_a"] == ["1.2.2.1.1", "1.2.2.1.2"]
    assert {"month": "2020-01", "modalities": "CT+SR"}.items() <= said["by_month"][1].items()
    assert "accession_number" not in stream.getvalue()
    empty = io.StringIO()
    write_certificate(empty, whole(()), ())
    assert json.loads(empty.getvalue())["compared"] == []


@pytest.mark.parametrize(
    ("told", "month"),
    [
        ("20200131", "2020-01"),
        ("2020.01.31", "2020-01"),
        ("202001", "2020-01"),
        *(
            (told, "")
            for told in ("", "20201331", "20200031", "0", "2020", "x0200131", "\u0662" * 8)
        ),
    ],
)
def test_what_is_no_month_is_counted_under_none(told: str, month: str) -> None:
    study = replace(SAME, a=StudySummary("1.2.1", 1, 5, told), b=None)
    assert study.month == month
