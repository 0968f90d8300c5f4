"""Whatever samples: what a coder made of them is taken apart and made again, bit for bit."""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from tests.unit.vault.compressed_frames import (
    ALL_CATEGORIES,
    JLS,
    LJPEG,
    LONG_CODES,
    RLE,
    attributes,
    jls_stream,
    ljpeg_stream,
    recoded,
    rle_stream,
)

from dcmvault.vault.recoding import recode

QUICK = settings(max_examples=80, deadline=None)
SIDES = st.integers(8, 40)
SEEDS = st.integers(0, 1 << 32)


@st.composite
def words(draw: st.DrawFn, *, precision: int, count: int) -> npt.NDArray[np.uint16]:
    """Pictures between flat and pure noise."""
    rows, columns = draw(SIDES), draw(SIDES)
    made = np.random.default_rng(draw(SEEDS))
    noise = draw(st.integers(0, precision))
    steps = made.integers(0, 1 << noise, (rows, columns, count))
    flat = made.random((rows, columns, count)) < draw(st.floats(0, 1))
    values = np.where(flat, draw(st.integers(0, (1 << precision) - 1)), steps)
    return values.astype(np.uint16) & np.uint16((1 << precision) - 1)


def _jls(sample: npt.NDArray[np.uint16], precision: int, mode: int) -> bytes:
    """Encode by pyjpegls, which has room for twice the samples: not enough for little noise."""
    try:
        if mode == 0:  # a scan for each component: each must have room
            for plane in range(sample.shape[2]):
                jls_stream(sample[:, :, plane : plane + 1], precision)
        return jls_stream(sample, precision, mode)
    except RuntimeError:
        reject()


def _allocated(precision: int) -> int:
    return 8 if precision <= 8 else 16


@QUICK
@given(st.data(), st.integers(2, 16), st.sampled_from([1, 3]), st.integers(0, 2))
def test_jpeg_ls(data: st.DataObject, precision: int, count: int, mode: int) -> None:
    sample = data.draw(words(precision=precision, count=count))
    stream = _jls(sample, precision, 0 if count == 1 else mode)
    width = _allocated(precision)
    found = recoded(stream, JLS, attributes((*sample.shape[:2], count), width))
    assert found.samples == sample.astype(f"<u{width // 8}").tobytes()


@QUICK
@given(
    st.data(),
    st.integers(2, 16),
    st.sampled_from([1, 3]),
    st.integers(1, 7),
    st.integers(0, 5),
    st.sampled_from([(ALL_CATEGORIES,), (ALL_CATEGORIES, LONG_CODES)]),
    st.booleans(),
)
def test_jpeg_lossless(
    data: st.DataObject,
    precision: int,
    count: int,
    predictor: int,
    restart_rows: int,
    tables: tuple[bytes, ...],
    separate: bool,
) -> None:
    sample = data.draw(words(precision=precision, count=count))
    if precision > 14:  # LONG_CODES has no categories above 15
        tables = (ALL_CATEGORIES,)
    stream = ljpeg_stream(
        sample,
        precision,
        predictor=predictor,
        restart_rows=restart_rows,
        tables=tables,
        separate=separate,
    )
    width = _allocated(precision)
    found = recoded(stream, LJPEG, attributes((*sample.shape[:2], count), width))
    assert found.samples == sample.astype(f"<u{width // 8}").tobytes()


def rle_segment(choose: Random, size: int) -> tuple[bytes, bytes]:
    """Return a segment that stands for `size` bytes in a way that some encoder might choose."""
    segment, plane = bytearray(), bytearray()
    while len(plane) < size:
        left = min(128, size - len(plane))
        if choose.random() < 0.1:
            segment.append(128)
        elif left > 1 and choose.random() < 0.5:
            length = choose.randint(2, left)
            byte = choose.randbytes(1)
            segment += bytes((257 - length,)) + byte
            plane += byte * length
        else:
            literals = choose.randbytes(choose.randint(1, left))
            segment += bytes((len(literals) - 1,)) + literals
            plane += literals
    return bytes(segment + choose.randbytes(choose.randint(0, 3))), bytes(plane)


@QUICK
@given(SEEDS, SIDES, SIDES, st.sampled_from([(1, 1), (1, 2), (3, 1), (3, 2), (1, 4)]))
def test_rle(seed: int, rows: int, columns: int, pixel: tuple[int, int]) -> None:
    count, width = pixel
    choose = Random(seed)
    made = [rle_segment(choose, rows * columns) for _ in range(count * width)]
    order = list(range(count * width))
    choose.shuffle(order)
    stream = rle_stream([segment for segment, _ in made], order)
    found = recoded(stream, RLE, attributes((rows, columns, count), 8 * width))
    planes = np.array([list(plane) for _, plane in made], np.uint8)
    by_pixel = planes.reshape(count, width, -1)[:, ::-1].transpose(2, 0, 1)
    assert found.samples == by_pixel.tobytes()


@QUICK
@given(st.data(), st.sampled_from([JLS, LJPEG, RLE]))
def test_damaged_streams_are_kept_or_still_come_back(data: st.DataObject, syntax: str) -> None:
    sample = data.draw(words(precision=8, count=1))
    shape = (*sample.shape[:2], 1)
    if syntax == JLS:
        stream = _jls(sample, 8, 0)
    elif syntax == LJPEG:
        stream = ljpeg_stream(sample, 8, restart_rows=2)
    else:
        stream = rle_stream([rle_segment(Random(data.draw(SEEDS)), sample.size)[0]])
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    found = recode(bytes(damaged), syntax, attributes(shape, 8))
    if found is not None:
        recoded(bytes(damaged), syntax, attributes(shape, 8))
