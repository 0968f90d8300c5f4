"""Lists of studies as people have them: from spreadsheets, worklists, and our own reports."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.app.study_list import read_study_list
from dcmvault.errors import UsageError
from dcmvault.model.comparison import StudySummary

UID = "1.2.840.113619.2.1"


def listed(tmp_path: Path, content: bytes) -> set[str]:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    return set(read_study_list(path).names)


@pytest.mark.parametrize(
    "content",
    [
        f"{UID}\nA-17\n",
        f"\ufeffStudyInstanceUID\r\n{UID}\r\nA-17\r\n",
        f"Study Instance UID;Accession Number\n{UID};9\n;A-17\n",
        f"patient,accession_number,study_instance_uid\nDoe,A-1,{UID}\nRoe,A-17,\n",
        f"Número de acesso\tnome\nA-17\tDoe\n{UID}\tDoe\n",
        f'"{UID}"\n="A-17"\n',
        f"'{UID}\n'A-17\n\n \n",
        f"{UID};x\nA-17;y",
    ],
)
def test_the_names_are_found_in_any_of_the_usual_forms(tmp_path: Path, content: str) -> None:
    assert listed(tmp_path, content.encode()) == {UID, "A-17"}
    assert listed(tmp_path, content.encode("utf-16")) == {UID, "A-17"}


def test_a_head_that_nobody_foresaw_is_no_name(tmp_path: Path) -> None:
    assert listed(tmp_path, f"Exame\n{UID}\n{UID}.1\n".encode()) == {UID, f"{UID}.1"}


def test_a_file_in_a_single_byte_encoding_is_read(tmp_path: Path) -> None:
    assert listed(tmp_path, f"Acessão;x\n{UID};ção\n".encode("latin-1")) == {UID}


def test_uids_are_known_as_such_only_where_all_certainly_are(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"{UID}\n")
    assert read_study_list(path).uids == frozenset({UID})
    path.write_text(f"{UID}\n20.17\n")
    assert read_study_list(path).uids is None


def test_a_study_is_meant_by_its_uid_or_its_accession_number(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"{UID}\nA-17\n")
    studies = read_study_list(path)
    assert studies.names_of(StudySummary(UID)) == {UID}
    assert studies.names_of(StudySummary("1.9", accession_number="A-17")) == {"A-17"}
    assert not studies.names_of(StudySummary("1.9"))


@pytest.mark.parametrize("content", [b"", b"\n;;\n", b"accession_number\n"])
def test_a_list_that_names_nothing_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="names no study"):
        listed(tmp_path, content)


def test_a_list_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_study_list(tmp_path / "none.csv")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_whatever_the_file_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    with suppress(UsageError):
        assert all(read_study_list(path).names)
