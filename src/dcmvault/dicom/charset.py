"""Text of a data set by its Specific Character Set (0008,0005): PS3.3 C.12.1.1.2, PS3.5 6.1.

Never raises for bad bytes: what a character set cannot decode becomes U+FFFD.
"""

from __future__ import annotations

import re

#: Defined terms without and with code extensions (PS3.3 tables C.12-2 to C.12-5) to Python codecs.
#: The repertoire of no defined term at all is ISO-IR 6; bytes beyond it are read as Latin-1, the
#: commonest truth, because a name with a wrong accent is better than one with holes.
_CODECS = {
    "": "latin_1",
    "ISO_IR 6": "latin_1",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859_11",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO_IR 58": "gb2312",
    "ISO_IR 87": "iso2022_jp",
    "ISO_IR 149": "euc_kr",
    "ISO_IR 159": "iso2022_jp_2",
}

#: Escape sequences (PS3.3 tables C.12-3 and C.12-4, without ESC) to (codec, prefix): runs after
#: a prefix are double-byte codes in G0, which the codec knows by the same escape sequence.
_ESCAPES: dict[bytes, tuple[str, bytes]] = {
    b"(B": ("", b""),
    b"-A": ("latin_1", b""),
    b"-B": ("iso8859_2", b""),
    b"-C": ("iso8859_3", b""),
    b"-D": ("iso8859_4", b""),
    b"-L": ("iso8859_5", b""),
    b"-G": ("iso8859_6", b""),
    b"-F": ("iso8859_7", b""),
    b"-H": ("iso8859_8", b""),
    b"-M": ("iso8859_9", b""),
    b"-b": ("iso8859_15", b""),
    b"-T": ("iso8859_11", b""),
    b")I": ("shift_jis", b""),
    b"(J": ("shift_jis", b""),
    b"$B": ("iso2022_jp", b"\x1b$B"),
    b"$@": ("iso2022_jp", b"\x1b$@"),
    b"$(D": ("iso2022_jp_2", b"\x1b$(D"),
    b"$)C": ("euc_kr", b""),
    b"$)A": ("gb2312", b""),
}

_RUN = re.compile(rb"\x1b(\$[()][A-Z]|\$[@AB]|[()-][A-Za-z])")
#: Where code extensions fall back to the first character set (PS3.5 6.1.2.5.3).
_DELIMITER = re.compile(r"[\\^=\t\n\f\r]")
_PADDING = b"\0 "


def codec_of(term: str) -> str:
    """Return the Python codec of one defined term; unknown terms read as Latin-1."""
    # "ISO 2022 IR 100" and misspellings like "ISO-IR 100" name the same repertoire.
    tidy = re.sub(r"^ISO[ _-]?(2022)?[ _-]?IR[ _-]?", "ISO_IR ", term.strip().upper())
    return _CODECS.get(tidy, "latin_1")


def decode_text(raw: bytes, character_set: bytes = b"") -> str:
    """Return the text of a value, trailing padding stripped.

    `character_set` is the value of (0008,0005) as it stands in the same data set.
    """
    raw = raw.rstrip(_PADDING)
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    terms = character_set.decode("ascii", "replace").strip("\0 ").split("\\")
    first = codec_of(terms[0])
    if b"\x1b" not in raw:
        return _decode(raw, first)
    return _decode_extended(raw, first)


def _decode(raw: bytes, codec: str) -> str:
    return raw.decode(codec, "replace")


def _decode_extended(raw: bytes, first: str) -> str:
    """Decode a value with ISO 2022 escape sequences (PS3.5 6.1.2.5)."""
    parts = _RUN.split(raw)
    text = [_decode(parts[0], first)]
    codec = first
    for escape, run in zip(parts[1::2], parts[2::2], strict=True):
        named, prefix = _ESCAPES.get(escape, (first, b""))
        if prefix:
            text.append(_decode_double_byte(prefix, run, named))
            continue
        # ESC ( B brings ASCII back to G0 and leaves G1 alone.
        codec = named or codec
        text.append(_decode_until_delimiter(run, codec, first))
        if _DELIMITER.search(text[-1]):
            codec = first
    return "".join(text)


def _decode_double_byte(prefix: bytes, run: bytes, codec: str) -> str:
    # A writer may have left out the return to ASCII before a delimiter; codes of two bytes then
    # end where the length or the codec says so.
    return (prefix + run).decode(codec, "replace")


def _decode_until_delimiter(run: bytes, codec: str, first: str) -> str:
    """Decode with `codec` up to the first delimiter, with `first` from there on."""
    if codec == first:
        return _decode(run, codec)
    delimiter = re.search(rb"[\\^=\t\n\f\r]", run)
    if delimiter is None:
        return _decode(run, codec)
    at = delimiter.start()
    return _decode(run[:at], codec) + _decode(run[at:], first)
