"""Text by Specific Character Set: examples of PS3.5 annexes H to K and bad bytes."""

from __future__ import annotations

import pytest

from dcmvault.dicom.charset import decode_text

EXAMPLES = [
    ("", b"Doe^Jane ", "Doe^Jane"),
    ("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    ("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東="),
    ("GB18030", "Wang^XiaoDong=王^小东=".encode("gb18030"), "Wang^XiaoDong=王^小东="),
    # PS3.5 H.3.1
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    # PS3.5 H.3.2
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J="
        b"\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    # PS3.5 I.2
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7="
        b"\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    # PS3.5 K.2
    (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\x1b-A\xc4-\x1b-L\xbb^\xc4", "Ä-Л^Ä"),
    ("no such term", b"\xe9", "é"),
    ("ISO_IR 192", b"bad\xff", "bad�"),
    ("GB18030", b"bad\xff", "bad�"),
    ("\\ISO 2022 IR 87", b"\x1b$Bz", "�"),
    ("", b"\x1b(Qodd escape", "odd escape"),
]


@pytest.mark.parametrize(("terms", "raw", "text"), EXAMPLES)
def test_examples(terms: str, raw: bytes, text: str) -> None:
    assert decode_text(raw, terms.encode()) == text


@pytest.mark.parametrize("terms", ["", "ISO_IR 192", "\\ISO 2022 IR 87", "ISO_IR 13", "GBK"])
def test_no_bytes_raise(terms: str) -> None:
    for byte in range(256):
        for raw in (bytes([byte]) * 3, b"\x1b$B" + bytes([byte]), b"\x1b" + bytes([byte, byte])):
            decode_text(raw, terms.encode())
