"""What the scanner finds in files built byte by byte, and what it says about their flaws."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dcmvault.dicom import digest, part10
from dcmvault.errors import MalformedDicomError
from dcmvault.model.instance import InstanceHeader, InstanceIdentity

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
CT = "1.2.840.10008.5.1.4.1.1.2"
UNDEFINED = 0xFFFFFFFF

Scan = Callable[[bytes], InstanceHeader]


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    def scan_bytes(content: bytes) -> InstanceHeader:
        path = tmp_path / "file"
        path.write_bytes(content)
        return part10.scan(path)

    return scan_bytes


def element(
    tag: int, vr: str, value: bytes = b"", *, syntax: str = EXPLICIT, length: int | None = None
) -> bytes:
    order = ">" if syntax == BIG else "<"
    size = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT or tag >> 16 == 0xFFFE:
        return head + struct.pack(order + "L", size) + value
    if vr in ("OB", "OW", "SQ", "UN", "UT", "UC"):
        return head + vr.encode() + struct.pack(order + "HL", 0, size) + value
    return head + vr.encode() + struct.pack(order + "H", size) + value


def item(value: bytes, *, length: int | None = None, syntax: str = EXPLICIT) -> bytes:
    return element(0xFFFEE000, "", value, length=length, syntax=syntax)


def preamble(syntax: str = EXPLICIT, sop_instance_uid: str = "1.2.3") -> bytes:
    group = b"".join(
        (
            element(0x00020002, "UI", uid(CT)),
            element(0x00020003, "UI", uid(sop_instance_uid)),
            element(0x00020010, "UI", uid(syntax)),
        )
    )
    return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(group))) + group


def uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def header_elements(syntax: str = EXPLICIT) -> bytes:
    pairs = (
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00080016, "UI", uid(CT)),
        (0x00080018, "UI", uid("1.2.3")),
        (0x00080020, "DA", b"20240229"),
        (0x00080060, "CS", b"CT"),
        (0x00100010, "PN", b"Caf\xe9^Zo\xeb"),
        (0x0020000D, "UI", uid("1.2.1")),
        (0x0020000E, "UI", uid("1.2.2")),
        (0x00200013, "IS", b"7 "),
    )
    return b"".join(element(tag, vr, value, syntax=syntax) for tag, vr, value in pairs)


PIXELS = bytes(range(200))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_identity_attributes_and_offsets(scan: Scan, syntax: str) -> None:
    front = preamble(syntax)
    before = front + header_elements(syntax)
    content = before + element(0x7FE00010, "OW", PIXELS, syntax=syntax)
    header = scan(content)
    assert header.flaws == ()
    assert header.identity.study_instance_uid == "1.2.1"
    assert header.identity.series_instance_uid == "1.2.2"
    assert header.identity.sop_instance_uid == "1.2.3"
    assert header.kind.transfer_syntax_uid == syntax
    assert header.kind.sop_class_uid == CT
    assert header.study.patient_name == "Café^Zoë"
    assert header.study.study_date == "20240229"
    assert header.series.modality == "CT"
    assert header.instance_number == "7"
    assert header.data_set_start == len(front)
    assert header.data_set_end == len(content)
    assert content[header.pixel_data_start : header.pixel_data_end] == PIXELS
    assert header.has_preamble
    assert header.has_file_meta


def test_deflated_data_set_has_no_offsets_inside(scan: Scan) -> None:
    plain = header_elements() + element(0x7FE00010, "OW", PIXELS)
    deflater = zlib.compressobj(wbits=-15)
    front = preamble(DEFLATED)
    content = front + deflater.compress(plain) + deflater.flush()
    header = scan(content)
    assert header.flaws == ()
    assert header.study.patient_name == "Café^Zoë"
    assert header.instance_number == "7"
    assert (header.data_set_start, header.data_set_end) == (len(front), len(content))
    assert (header.pixel_data_start, header.pixel_data_end) == (-1, -1)


def test_deflated_without_pixels_and_instance_number(scan: Scan) -> None:
    deflater = zlib.compressobj(wbits=-15)
    plain = header_elements()[: -len(element(0x00200013, "IS", b"7 "))]
    header = scan(preamble(DEFLATED) + deflater.compress(plain) + deflater.flush())
    assert header.flaws == ()
    assert header.series_instance_uid == "1.2.2"


def test_deflated_stream_cut_off_is_malformed(scan: Scan) -> None:
    deflater = zlib.compressobj(wbits=-15)
    deflated = deflater.compress(header_elements()) + deflater.flush()
    with pytest.raises(MalformedDicomError, match="cut off"):
        scan(preamble(DEFLATED) + deflated[:40])


def test_without_preamble_but_with_file_meta(scan: Scan) -> None:
    header = scan(preamble()[132:] + header_elements())
    assert header.has_file_meta
    assert not header.has_preamble
    assert header.flaws == ()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_bare_data_set_says_what_was_assumed(scan: Scan, syntax: str) -> None:
    header = scan(header_elements(syntax))
    assert header.transfer_syntax_uid == syntax
    assert header.sop_instance_uid == "1.2.3"
    assert not header.has_file_meta
    assert header.flaws == (
        "There is no file meta information.",
        f"No transfer syntax is stated; the data set reads as {syntax}.",
    )


def test_data_set_in_other_vr_than_stated(scan: Scan) -> None:
    header = scan(preamble(EXPLICIT) + header_elements(IMPLICIT))
    assert header.study_instance_uid == "1.2.1"
    assert header.flaws == (
        f"The transfer syntax is {EXPLICIT}, but the data set is in implicit VR.",
    )


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_undefined_lengths_and_implicit_items_are_stepped_over(scan: Scan, vr: str) -> None:
    inner = IMPLICIT if vr == "UN" else EXPLICIT
    nested = item(
        element(0x00081150, "UI", uid("9.9"), syntax=inner)
        + element(0x0020000D, "UI", uid("9.9.9"), syntax=inner),
        length=UNDEFINED,
    )
    sequence = (
        element(0x00081140, vr, b"", length=UNDEFINED)
        + nested
        + item(b"", length=0xFFFFFFFF)[:4].replace(b"\x00\xe0", b"\x0d\xe0")
        + bytes(4)
        + element(0xFFFEE0DD, "")
    )
    elements = header_elements()
    at = elements.index(struct.pack("<HH", 0x0010, 0x0010))
    header = scan(preamble() + elements[:at] + sequence + elements[at:])
    assert header.flaws == ()
    assert header.study_instance_uid == "1.2.1"


def test_encapsulated_pixel_data_end_before_their_delimiter(scan: Scan) -> None:
    fragments = item(b"") + item(b"abcd") + item(b"efgh" * 30_000)
    front = preamble(JPEG) + header_elements()
    pixels = element(0x7FE00010, "OB", fragments, length=UNDEFINED) + element(0xFFFEE0DD, "")
    padding = element(0xFFFCFFFC, "OB", bytes(10))
    content = front + pixels + padding
    header = scan(content)
    assert header.flaws == ()
    assert content[header.pixel_data_start : header.pixel_data_end] == fragments
    assert header.data_set_end == len(content)


def test_cut_off_pixel_data(scan: Scan) -> None:
    content = preamble() + header_elements() + element(0x7FE00010, "OW", PIXELS)
    header = scan(content[:-50])
    end = len(content)
    assert header.flaws == (f"Pixel Data ends at byte {end}, file has {end - 50}.",)
    assert header.data_set_end == end - 50


def test_cut_off_fragments(scan: Scan) -> None:
    fragments = item(b"") + item(b"abcd" * 100)
    front = preamble(JPEG) + header_elements()
    content = front + element(0x7FE00010, "OB", fragments, length=UNDEFINED)
    for size in (len(content), len(content) - 30):
        assert scan(content[:size]).flaws == (f"Pixel Data has no end, file has {size} bytes.",)


def test_cut_off_element(scan: Scan) -> None:
    content = preamble() + header_elements() + element(0x00204000, "LT", b"x" * 40)
    size = len(content) - 10
    assert scan(content[:size]).flaws == (
        f"(0020,4000) ends at byte {size + 10}, file has {size}.",
    )


@pytest.mark.parametrize(
    "rubbish",
    [bytes(100), b"\xff" * 77, b"rubbish after the end", b"abc"],
    ids=["NULs", "FFs", "text", "short"],
)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_bytes_after_pixel_data(scan: Scan, syntax: str, rubbish: bytes) -> None:
    sound = (
        preamble(syntax)
        + header_elements(syntax)
        + element(0x7FE00010, "OW", PIXELS, syntax=syntax)
    )
    header = scan(sound + rubbish)
    assert header.data_set_end == len(sound)
    assert header.flaws == (
        f"After the data set, {len(rubbish)} bytes at byte {len(sound)} do not parse.",
    )


def test_rubbish_before_pixel_data_is_malformed(scan: Scan) -> None:
    with pytest.raises(MalformedDicomError, match="at byte"):
        scan(preamble() + header_elements() + b"\xff" * 64 + element(0x7FE00010, "OW", PIXELS))


def test_odd_length(scan: Scan) -> None:
    front = preamble() + header_elements()
    header = scan(front + element(0x00204000, "LT", b"odd"))
    assert header.flaws == (f"The element at byte {len(front)} has an odd length.",)


def test_uids_that_differ_lack_or_are_none(scan: Scan) -> None:
    assert scan(preamble(sop_instance_uid="1.2.4") + header_elements()).flaws == (
        "SOP Instance UID differs between file meta information and data set.",
    )
    assert scan(preamble() + element(0x0020000D, "UI", b"1..2")).flaws == (
        "Study Instance UID is not a valid UID.",
        "Series Instance UID is missing.",
        "SOP Class UID is missing.",
        "SOP Instance UID is missing.",
    )


def with_sequence(sequence: bytes, syntax: str = EXPLICIT) -> bytes:
    """Put a sequence between the attributes, before the patient's name."""
    elements = header_elements(syntax)
    at = elements.index(struct.pack("<HH", 0x0010, 0x0010))
    return preamble(syntax) + elements[:at] + sequence + elements[at:]


SEQUENCE_END = element(0xFFFEE0DD, "")
ITEM_END = element(0xFFFEE00D, "")


def test_what_is_inside_a_sequence_of_defined_length_is_left_to_the_digest(tmp_path: Path) -> None:
    broken = element(0x00081140, "SQ", item(b"x" * 2000, length=4000))
    path = tmp_path / "file"
    path.write_bytes(with_sequence(broken))
    header = part10.scan(path)
    assert header.study_instance_uid == "1.2.1"
    assert header.flaws == ()
    with pytest.raises(MalformedDicomError):
        digest.data_set_digest(path)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_sequences_in_sequences(scan: Scan, syntax: str) -> None:
    """Whatever is in them, attributes of the same tags at the top level are what counts."""
    uids = element(0x0020000D, "UI", uid("9.9.9"), syntax=syntax)
    delimiter_in_a_value = element(0x00081140, "OB", SEQUENCE_END + ITEM_END, syntax=syntax)
    inner = (
        element(0x00081199, "SQ", length=UNDEFINED, syntax=syntax)
        + item(uids + ITEM_END, length=UNDEFINED)
        + item(uids)
        + SEQUENCE_END
    )
    defined = element(0x00081198, "SQ", item(uids) + item(b""), syntax=syntax)
    sequence = (
        element(0x00081140, "SQ", length=UNDEFINED, syntax=syntax)
        + item(delimiter_in_a_value + inner + uids + defined + ITEM_END, length=UNDEFINED)
        + item(ITEM_END, length=UNDEFINED)
        + SEQUENCE_END
    )
    header = scan(with_sequence(sequence, syntax))
    assert header.flaws == ()
    assert header.study_instance_uid == "1.2.1"
    assert header.study.patient_name == "Café^Zoë"


def test_implicit_item_and_un_inside_an_explicit_sequence(scan: Scan) -> None:
    implicit = element(0x0020000D, "", uid("9.9.9"), syntax=IMPLICIT)
    unknown = (
        element(0x00091001, "UN", length=UNDEFINED)
        + item(implicit + ITEM_END, length=UNDEFINED)
        + SEQUENCE_END
    )
    fragments = element(0x7FE00010, "OB", length=UNDEFINED) + item(b"ab" * 9) + SEQUENCE_END
    sequence = (
        element(0x00081140, "SQ", length=UNDEFINED)
        + item(implicit + ITEM_END, length=UNDEFINED)
        + item(unknown + fragments + element(0x00091002, "ZZ", b"zz") + ITEM_END, length=UNDEFINED)
        + SEQUENCE_END
    )
    header = scan(with_sequence(sequence))
    assert header.flaws == ()
    assert header.study_instance_uid == "1.2.1"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_sequence_without_end(scan: Scan, syntax: str) -> None:
    inside = item(element(0x0020000D, "UI", uid("9.9.9"), syntax=syntax), length=UNDEFINED)
    content = preamble(syntax) + header_elements(syntax)
    content += element(0x00400275, "SQ", length=UNDEFINED, syntax=syntax) + inside
    for size in (len(content), len(content) - 3, len(content) - len(inside)):
        header = scan(content[:size])
        assert header.flaws == (f"(0040,0275) has no end, file has {size} bytes.",)
        assert header.study_instance_uid == "1.2.1"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_no_item_in_a_sequence_is_malformed(scan: Scan, syntax: str) -> None:
    bare = element(0x0020000D, "UI", uid("9.9.9"), syntax=syntax)
    sequence = element(0x00081140, "SQ", length=UNDEFINED, syntax=syntax) + bare + SEQUENCE_END
    with pytest.raises(MalformedDicomError, match="where an item must begin"):
        scan(with_sequence(sequence, syntax))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("filler", [16_000, 16_020, 16_030, 16_040, 40_000, 65_500])
def test_values_across_the_ends_of_buffers(scan: Scan, syntax: str, filler: int) -> None:
    first, rest = header_elements(syntax)[:18], header_elements(syntax)[18:]
    value = element(0x00080006, "LT", bytes(filler), syntax=syntax)
    header = scan(preamble(syntax) + first + value + rest)
    assert header.flaws == ()
    assert header.identity == InstanceIdentity("1.2.1", "1.2.2", "1.2.3")
    assert header.study.patient_name == "Café^Zoë"


@pytest.mark.parametrize("vr", ["PN", "UT", ""])
def test_text_of_an_attribute_is_bounded(scan: Scan, vr: str) -> None:
    syntax = EXPLICIT if vr else IMPLICIT
    header = scan(
        preamble(syntax)
        + element(0x00100010, vr, b"x" * 60_000, syntax=syntax)
        + element(0x00100020, "LO", b"ID", syntax=syntax)
    )
    assert header.study.patient_name == "x" * 4096
    assert header.study.patient_id == "ID"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_of_a_cut_off_attribute_nothing_is_known(scan: Scan, syntax: str) -> None:
    content = preamble(syntax) + element(0x00100010, "PN", b"Doe^Jane", syntax=syntax)
    header = scan(content[:-2])
    assert header.study.patient_name == ""
    assert (
        header.flaws[0] == f"(0010,0010) ends at byte {len(content)}, file has {len(content) - 2}."
    )


def test_large_values_are_not_read(tmp_path: Path) -> None:
    """A sparse file of 3 GiB scans like a small one."""
    path = tmp_path / "large"
    size = 3 << 30
    with path.open("wb") as file:
        file.write(preamble() + header_elements() + element(0x7FE00010, "OW", length=size))
        file.truncate(file.tell() + size)
    header = part10.scan(path)
    assert header.flaws == ()
    assert header.pixel_data_end - header.pixel_data_start == size


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"garbage that is no DICOM", bytes(1000), bytes(128) + b"DICM", preamble()],
    ids=["empty", "NUL", "text", "NULs", "magic-only", "meta-only"],
)
def test_what_is_no_dicom_is_malformed(scan: Scan, content: bytes) -> None:
    with pytest.raises(MalformedDicomError):
        scan(content)


def test_claims() -> None:
    claims = part10.claims_to_be_dicom
    assert claims("anything", bytes(128) + b"DICM")
    for name in ("a.dcm", "A.DCM", "x.Dicom", "1.ima", "b.dcm30"):
        assert claims(name, b"")
    assert claims("0001", header_elements())
    assert claims("0001", header_elements(IMPLICIT))
    assert claims("0001", header_elements(BIG))
    assert claims("0001", preamble()[132:])
    for head in (b"", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04" + bytes(30), bytes(200)):
        assert not claims("report.txt", head)
