"""A manifest against what was found: which digest decides, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcmvault.model.instance import InstanceIdentity
from dcmvault.model.manifest import InstanceMatch, ListedInstance, ManifestProblem, Match
from dcmvault.pipeline.manifest_comparison import compare_with_manifest
from dcmvault.pipeline.study_manifests import study_manifest

_ONE = InstanceIdentity("1.2", "1.2.1", "1.2.1.1")
LISTED = ListedInstance(
    _ONE, b"1" * 32, 100, "1.1", "1.2.840.10008.1.2.5", "dsd1:a", "px1:a", "at1:a"
)
_OTHER_FILE = replace(LISTED, file_sha256=b"2" * 32)
_IN_ANOTHER_SYNTAX = replace(
    _OTHER_FILE, transfer_syntax_uid="1.2.840.10008.1.2.1", data_set="dsd1:b"
)
_SYNTAXES = "in transfer syntax 1.2.840.10008.1.2.1 instead of 1.2.840.10008.1.2.5"


@pytest.mark.parametrize(
    ("expected", "found", "match", "decided_by", "how"),
    [
        (LISTED, LISTED, Match.IDENTICAL, "sha256", ""),
        (LISTED, _OTHER_FILE, Match.IDENTICAL_DATA_SET, "dsd1", ""),
        (
            replace(LISTED, transfer_syntax_uid="1.2.840.10008.1.2"),
            replace(_OTHER_FILE, transfer_syntax_uid="1.2.840.10008.1.2.1"),
            Match.IDENTICAL_DATA_SET,
            "dsd1",
            "",
        ),
        (
            # RLE that is said to be uncompressed, as after damage to the file meta information.
            LISTED,
            replace(_IN_ANOTHER_SYNTAX, data_set=LISTED.data_set, pixels="", attributes=""),
            Match.DIFFERENT,
            "dsd1",
            f"the same data set, which cannot be read so; {_SYNTAXES}",
        ),
        (LISTED, _IN_ANOTHER_SYNTAX, Match.IDENTICAL_DATA_SET, "px1", _SYNTAXES),
        (
            LISTED,
            replace(_IN_ANOTHER_SYNTAX, pixels="px1:b"),
            Match.DIFFERENT,
            "px1",
            f"other decoded pixels, the same attributes; {_SYNTAXES}",
        ),
        (
            LISTED,
            replace(_IN_ANOTHER_SYNTAX, pixels="px1:b", attributes="at1:b"),
            Match.DIFFERENT,
            "px1",
            f"other decoded pixels, and other attributes; {_SYNTAXES}",
        ),
        (
            # In the same syntax nothing dictates what differs.
            LISTED,
            replace(_OTHER_FILE, data_set="dsd1:b", attributes="at1:b"),
            Match.DIFFERENT,
            "px1",
            "other attributes, the same decoded pixels",
        ),
        (
            replace(LISTED, pixels="", attributes=""),
            _IN_ANOTHER_SYNTAX,
            Match.DIFFERENT,
            "dsd1",
            f"another data set; decoded pixels could not be compared; {_SYNTAXES}",
        ),
        (
            LISTED,
            replace(_OTHER_FILE, data_set="", pixels="", attributes=""),
            Match.DIFFERENT,
            "sha256",
            "it does not parse as DICOM to its end",
        ),
        (
            replace(LISTED, data_set="", pixels="", attributes=""),
            _OTHER_FILE,
            Match.DIFFERENT,
            "sha256",
            "other bytes; the manifest has no digest of the data set to compare",
        ),
    ],
)
def test_what_decides(
    expected: ListedInstance, found: ListedInstance, match: Match, decided_by: str, how: str
) -> None:
    assert compare_with_manifest([expected], [found]) == [
        InstanceMatch(_ONE, match, decided_by, how)
    ]


def test_missing_unreadable_and_extra() -> None:
    other = replace(LISTED, identity=replace(_ONE, sop_instance_uid="1.2.1.2"))
    missing, extra = compare_with_manifest([LISTED], [other])
    assert (missing.match, extra.match) == (Match.MISSING, Match.EXTRA)
    assert extra.match.is_as_it_should_be
    (unread,) = compare_with_manifest(
        [LISTED], [], [ManifestProblem("unreadable", "bad sector", identity=_ONE)]
    )
    assert (unread.match, unread.how) == (Match.UNREADABLE, "bad sector")
    assert not unread.match.is_as_it_should_be


def test_several_contents_under_one_uid_each_need_their_own() -> None:
    """One equal file does not stand for two; a file that is there twice is one content."""
    second = replace(LISTED, file_sha256=b"3" * 32, data_set="dsd1:c", pixels="px1:c")
    both = compare_with_manifest([LISTED, second], [second, LISTED, LISTED])
    assert [one.match for one in both] == [Match.IDENTICAL, Match.IDENTICAL]
    lacking = compare_with_manifest([LISTED, second], [LISTED, LISTED])
    assert [one.match for one in lacking] == [Match.IDENTICAL, Match.MISSING]


def test_roots_do_not_depend_on_the_order() -> None:
    """A repeated file counts once, another content under its UID counts."""
    second = replace(LISTED, identity=InstanceIdentity("1.2", "1.2.0", "1.2.0.1"))
    manifest = study_manifest("1.2", [LISTED, second, LISTED])
    assert manifest == study_manifest("1.2", [second, LISTED])
    assert [one.series_instance_uid for one in manifest.series] == ["1.2.0", "1.2.1"]
    assert (manifest.instances, manifest.bytes) == (2, 200)
    changed = study_manifest("1.2", [LISTED, replace(second, file_sha256=b"4" * 32)])
    assert changed.merkle_root != manifest.merkle_root
