"""What a support bundle leaves out, whatever stands around it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmvault.app.support_masks import (
    LEFT_OUT,
    MASK,
    TextMasks,
    masked_address,
    masked_configuration,
    words_of,
)
from dcmvault.config.options import Section
from dcmvault.config.settings import Settings

MARKER = "Quintessential"
AROUND = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n"), max_size=40)
#: Addresses as people write them, with something of theirs in each.
ADDRESSES = (
    f"/data/{MARKER}",
    f"horos:/data/{MARKER} library",
    f"vault:/mnt/{MARKER}/vault",
    f"vault:s3://bucket/{MARKER}?endpoint={MARKER}",
    f"vault:sftp://{MARKER}@host/path",
    f"orthanc+https://{MARKER}:{MARKER}@host:8042",
    f"dicomweb+https://host/{MARKER}?token={MARKER}",
    f"postgresql://{MARKER}:{MARKER}@host/database",
    f"C:\\Users\\{MARKER}\\studies",
    f"~/{MARKER}",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_lose_users_passwords_and_paths(address: str) -> None:
    assert MARKER not in masked_address(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (
            "dicom://PACS@10.0.0.5:104?calling=DCMVAULT",
            "dicom://PACS@10.0.0.5:104?calling=DCMVAULT",
        ),
        ("vault:sftp://ana@host/copies", f"vault:sftp://{MASK}@host/..."),
        ("vault:/mnt/backup", "vault:<path>"),
        ("pacs", "pacs"),
        ("listener:", "listener:"),
    ],
)
def test_what_helps_stays(address: str, shown: str) -> None:
    assert masked_address(address) == shown


@given(key=st.text(min_size=1, max_size=12), value=AROUND)
def test_a_value_under_an_unknown_key_is_masked(key: str, value: str) -> None:
    """A new option, or a plug-in's, is masked until somebody says that it is harmless."""
    masked = masked_configuration({f"x-{key}": f"{value}{MARKER}"})
    assert MARKER not in json.dumps(masked)


def _texts(kind: type[Section]) -> set[str]:
    names = set()
    for section in kind.__subclasses__():
        names |= {name for name, field in section.model_fields.items() if field.annotation is str}
        names |= _texts(section)
    return names


@pytest.mark.parametrize("key", sorted(_texts(Section) | set(Settings.model_fields)))
def test_no_text_option_shows_a_sentence(key: str) -> None:
    """Of every option there is: what is not like a word of ours is masked."""
    shown = json.dumps(masked_configuration({key: f"of {MARKER}^Zebedee"}))
    assert MARKER not in shown


@given(before=AROUND, after=AROUND)
def test_a_line_that_names_a_patient_is_left_out(before: str, after: str) -> None:
    masks = TextMasks(Path("/state"), patients=words_of([f"{MARKER}^Zebedee", "ZQX-4711"]))
    for word in (MARKER, MARKER.upper(), "zqx-4711"):
        assert word.lower() not in masks.line(f"{before} {word} {after}").lower()
    assert masks.line(f"a {MARKER.upper()}_Zebedee b") == LEFT_OUT


@given(before=AROUND, after=AROUND)
def test_secrets_and_paths_are_masked_in_text(before: str, after: str) -> None:
    masks = TextMasks(Path("/state"), frozenset({"tr0ub4dor&3"}))
    assert "tr0ub4dor&3" not in masks.line(f"{before}tr0ub4dor&3{after}")
    for path in (f"/data/{MARKER}/a b {MARKER}.dcm", f"~/{MARKER}", f"C:\\x\\{MARKER}"):
        assert MARKER not in masks.line(f"{before.split('/')[0]} {path}")


def test_what_tells_of_the_program_stays() -> None:
    masks = TextMasks(Path("/home-of/state"), patients=words_of(["SILVA^MARIA", "2026"]))
    where = Path(sys.modules["dcmvault"].__file__ or "")
    line = f'  File "{where.parent}/app/backup.py", line 3, in backup'
    assert masks.line(line) == '  File "<python>/dcmvault/app/backup.py", line 3, in backup'
    told = "2026-10-31 10:00:00 INFO dcmvault.app: run 20261031-100000-0232190e: 1.2.840.10008.1"
    assert masks.line(told) == told
    assert masks.line("/home-of/state/logs") == "<state folder>/logs"
