"""The three coders of the rescue tool, and its small parts, against other implementations."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest
from tools import rescue

RNG_SEED = 20260131


def scan_of(kind: str, image: Any, head: bytes) -> bytes:
    """The only scan of a frame."""
    stream = b"".join(rescue.jpeg_frame(kind, image, head))
    assert stream.startswith(head)
    return stream[len(head) :]


def jls_head(shape: tuple[int, int, int], precision: int, mode: int) -> bytes:
    rows, columns, components = shape
    ids = range(1, components + 1)
    frame = struct.pack(">BHHB", precision, rows, columns, components)
    frame += b"".join(bytes([i, 0x11, 0]) for i in ids)
    scan = bytes([components]) + b"".join(bytes([i, 0]) for i in ids) + bytes([0, mode, 0])
    return (
        b"\xff\xd8\xff\xf7" + (len(frame) + 2).to_bytes(2, "big") + frame
        + b"\xff\xda" + (len(scan) + 2).to_bytes(2, "big") + scan
    )  # fmt: skip


def picture(rng: np.random.Generator, shape: tuple[int, ...], precision: int, kind: int) -> Any:
    """Flat, noisy, smooth with outliers, and sparse pictures."""
    most = (1 << precision) - 1
    outliers = (rng.random(shape) < 0.05) * rng.integers(0, most + 1, shape)
    smooth = np.cumsum(rng.integers(-2, 3, shape), axis=1) + most // 2
    made = [
        np.full(shape, rng.integers(0, most + 1)),
        rng.integers(0, most + 1, shape),
        smooth + outliers,
        outliers,
        rng.integers(0, 2, shape) * most,
    ][kind % 5]
    return (made & most).astype(np.uint8 if precision <= 8 else np.uint16)


@pytest.mark.parametrize(("components", "mode"), [(1, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("precision", [2, 5, 7, 8, 10, 12, 15, 16])
def test_jpeg_ls_is_read_back(precision: int, components: int, mode: int) -> None:
    rng = np.random.default_rng(RNG_SEED)
    for kind in range(5):
        shape = (17, 23, components)
        image = picture(rng, shape, precision, kind)
        head = jls_head(shape, precision, mode)
        stream = head + scan_of("jls", image, head) + b"\xff\xd9"
        assert (imagecodecs.jpegls_decode(stream).reshape(shape) == image).all()


def test_a_scan_for_each_component() -> None:
    rng = np.random.default_rng(RNG_SEED)
    image = picture(rng, (13, 9, 3), 12, 2)
    whole = jls_head(image.shape, 12, 0)
    start = whole.index(b"\xff\xda")
    sos = [b"\xff\xda\x00\x08\x01" + bytes([i, 0, 0, 0, 0]) for i in (1, 2, 3)]
    stream = b"".join(rescue.jpeg_frame("jls", image, whole[:start] + b"".join(sos)))
    assert (imagecodecs.jpegls_decode(stream + b"\xff\xd9") == image).all()


def ljpeg_head(shape: tuple[int, int, int], precision: int, predictor: int, restart: int) -> bytes:
    """Head with one Huffman table: five bits for each of the 17 categories."""
    rows, columns, components = shape
    ids = range(1, components + 1)
    frame = struct.pack(">BHHB", precision, rows, columns, components)
    frame += b"".join(bytes([i, 0x11, 0]) for i in ids)
    table = bytes([0, *[0] * 4, 17, *[0] * 11, *range(17)])
    scan = bytes([components]) + b"".join(bytes([i, 0]) for i in ids) + bytes([predictor, 0, 0])
    head = b"\xff\xd8"
    interval = [(0xDD, restart.to_bytes(2, "big"))] if restart else []
    segments = [(0xC3, frame), (0xC4, table), *interval, (0xDA, scan)]
    for marker, body in segments:
        head += bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
    return head


def ljpeg_decoded(scan: bytes, shape: tuple[int, int, int], precision: int, predictor: int,
                  restart_rows: int) -> Any:  # fmt: skip
    """Read a scan with the table of `ljpeg_head`, sample by sample."""
    rows, columns, components = shape
    out = np.zeros(shape, np.int64)
    parts = [b""]
    at = 0
    while at < len(scan):
        if scan[at] == 0xFF and scan[at + 1] != 0:
            assert scan[at + 1] == 0xD0 + (len(parts) - 1) % 8
            parts.append(b"")
            at += 2
            continue
        parts[-1] += scan[at : at + 1]
        at += 1 + (scan[at] == 0xFF)
    bits = iter("")
    for r in range(rows):
        if r % restart_rows == 0:
            assert set(bits) <= {"1"}
            bits = iter("".join(f"{byte:08b}" for byte in parts[r // restart_rows]))
        for c in range(columns):
            for i in range(components):
                category = int("".join(next(bits) for _ in range(5)), 2)
                extra = "".join(next(bits) for _ in range(category % 16)) or "0"
                difference = 32768 if category == 16 else int(extra, 2)
                if 0 < category < 16 and extra[0] == "0":
                    difference -= (1 << category) - 1
                left, above, corner = (
                    int(out[r - y, c - x, i]) if r >= y and c >= x else 0
                    for y, x in ((0, 1), (1, 0), (1, 1))
                )
                if r % restart_rows == 0:
                    predicted = left if c else 1 << precision - 1
                elif c == 0:
                    predicted = above
                else:
                    predicted = [left, above, corner, left + above - corner,
                                 left + (above - corner >> 1), above + (left - corner >> 1),
                                 left + above >> 1][predictor - 1]  # fmt: skip
                out[r, c, i] = predicted + difference & 0xFFFF
    return out


@pytest.mark.parametrize("restart_rows", [1, 3, 11])
@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize(("precision", "components"), [(8, 3), (16, 1)])
def test_jpeg_lossless_is_read_back(
    precision: int, components: int, predictor: int, restart_rows: int
) -> None:
    rng = np.random.default_rng(RNG_SEED)
    shape = (11, 7, components)
    for kind in range(5):
        image = picture(rng, shape, precision, kind)
        restart = restart_rows * shape[1] if restart_rows < shape[0] else 0
        scan = scan_of("ljpeg", image, ljpeg_head(shape, precision, predictor, restart))
        decoded = ljpeg_decoded(scan, shape, precision, predictor, restart_rows)
        assert (decoded == image).all()


def test_a_large_jpeg_lossless_frame_is_coded_in_steps() -> None:
    rng = np.random.default_rng(RNG_SEED)
    image = picture(rng, (700, 600, 1), 12, 2)
    head = ljpeg_head(image.shape, 12, 1, 0)
    stream = head + scan_of("ljpeg", image, head) + b"\xff\xd9"
    assert (imagecodecs.jpegsof3_decode(stream) == image[:, :, 0]).all()


def test_jpeg_lossless_needs_a_code_for_each_category() -> None:
    head = ljpeg_head((2, 2, 1), 16, 1, 0)
    poor = head.replace(bytes([17, *[0] * 11, *range(17)]), bytes([1, *[0] * 11, 0]) + bytes(16))
    with pytest.raises((rescue.DamagedError, ValueError, LookupError)):
        scan_of("ljpeg", np.array([[[1], [2]], [[3], [4]]], np.uint16), poor)


def test_rle_with_all_kinds_of_control_bytes() -> None:
    # One row of four 16 bit samples: the high bytes lie in the second half of the frame.
    samples = np.array([0x0701, 0x0702, 0x0703, 0x0904], "<u2").tobytes()
    offsets = [64 + 6, 64, *[0] * 13]
    header = struct.pack("<16I", 2, *offsets)
    low, high = bytes([3]), bytes([254, 128, 0])
    control = header + b"".join(
        len(codes).to_bytes(4, "little") + codes + len(gap).to_bytes(4, "little") + gap
        for codes, gap in ((low, b"\0"), (high, b""))
    )
    want = header + bytes([3, 1, 2, 3, 4, 0]) + bytes([254, 7, 128, 0, 9])
    assert rescue.rle_frame(samples, 2, 1, control) == want


@pytest.mark.parametrize(
    "text",
    ["", "acid " * 23, "acid " * 24, ("nothing " * 24)],
)
def test_slips_in_recovery_words_are_found(text: str) -> None:
    with pytest.raises(ValueError, match=r"words|word that is not"):
        rescue.recovery_bytes(text)


def test_a_long_or_foreign_name_is_still_a_name() -> None:
    (name,) = rescue.safe_parts("x" * 300 + ".dcm")
    assert name.endswith(".dcm")
    assert len(name) == 240
    assert rescue.safe_parts("\ud800") == ["?"]
    assert rescue.safe_parts("A:B:x/./../y//z\0") == ["A:B:x", "y", "z_"]
