"""Write what is negotiated into the conformance statement: python -m scripts.conformance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dcmvault.dicom.association import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MAX_CONTEXTS,
    VERIFICATION,
)
from dcmvault.dicom.commitment_coding import COMMITMENT
from dcmvault.dicom.file_meta import IMPLICIT_VR_LITTLE_ENDIAN
from dcmvault.dicom.get_and_move import GET_PROPOSALS, MOVE_PROPOSALS
from dcmvault.dicom.inbound_channel import MAXIMUM_LENGTH
from dcmvault.dicom.query_identifiers import IDENTIFIER_SYNTAXES
from dcmvault.dicom.query_model import find_proposals
from dcmvault.dicom.query_models import QUERY_RETRIEVE_CLASSES
from dcmvault.dicom.transfer_syntaxes import (
    COMPRESSED_TARGETS,
    FAMILIES,
    NATIVE,
    NATIVE_TARGETS,
    uid_words,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "conformance-statement.md"
BEGIN, END = "<!-- negotiated: begin -->", "<!-- negotiated: end -->"
#: How the table calls what cannot be listed.
STORAGE = "every storage SOP class, private ones too"
ANY = "the first that is proposed"
AS_STORED = "that of the files; then, to turn them into: "

Row = tuple[str, str, str, str]


def rows() -> Iterator[Row]:
    """Yield application entity, abstract syntax, role, transfer syntaxes."""
    asked = [*find_proposals(relational=False), *MOVE_PROPOSALS, *GET_PROPOSALS]
    yield "DELIVERY", VERIFICATION, "SCU", IMPLICIT_VR_LITTLE_ENDIAN
    yield "DELIVERY", STORAGE, "SCU", AS_STORED + _list((*NATIVE_TARGETS, *COMPRESSED_TARGETS))
    yield "DELIVERY", COMMITMENT, "SCU", IMPLICIT_VR_LITTLE_ENDIAN
    yield "QUERY", VERIFICATION, "SCU", IMPLICIT_VR_LITTLE_ENDIAN
    for proposal in sorted(asked, key=lambda one: one.abstract_syntax_uid):
        yield "QUERY", proposal.abstract_syntax_uid, "SCU", _list(proposal.transfer_syntax_uids)
    yield "QUERY", STORAGE, "SCP (C-GET)", _list(sorted({*NATIVE, *FAMILIES}))
    yield "LISTENER", VERIFICATION, "SCP", IMPLICIT_VR_LITTLE_ENDIAN
    yield "LISTENER", STORAGE, "SCP", ANY
    yield "LISTENER", COMMITMENT, "SCP", IMPLICIT_VR_LITTLE_ENDIAN
    yield "ARCHIVE", VERIFICATION, "SCP", _list(IDENTIFIER_SYNTAXES)
    for uid in sorted(QUERY_RETRIEVE_CLASSES):
        yield "ARCHIVE", uid, "SCP", _list(IDENTIFIER_SYNTAXES)
    yield "ARCHIVE", STORAGE, "SCU (C-MOVE, C-GET)", "that of the instances"


def _list(uids: Sequence[str]) -> str:
    return ", ".join(uids)


def render() -> str:
    """Return what stands between the marks."""
    lines = [
        "| | |",
        "|---|---|",
        f"| implementation class UID | {IMPLEMENTATION_CLASS_UID} |",
        f"| implementation version name | `{IMPLEMENTATION_VERSION_NAME}` |",
        f"| maximum length that is announced, in both roles | {MAXIMUM_LENGTH} bytes |",
        f"| presentation contexts in one association | {MAX_CONTEXTS} at most |",
        "",
        "| application entity | abstract syntax | role | transfer syntaxes |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows()),
        "",
        "| UID | name |",
        "|---|---|",
        *(f"| {uid} | {_name(uid)} |" for uid in _named()),
    ]
    return "\n".join(lines)


def _named() -> list[str]:
    found = set()
    for row in rows():
        for cell in (row[1], row[3]):
            found |= {word for word in cell.replace(",", " ").split() if word.startswith("1.2.")}
    return sorted(found, key=lambda uid: [int(part) for part in uid.split(".")])


def _name(uid: str) -> str:
    return uid_words(uid).replace(f"({uid})", "").strip()


def with_tables(page: str) -> str:
    """Return a page with the tables as the code has them."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
