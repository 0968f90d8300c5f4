"""Streams that lie, are cut short or damaged: kept as they are, at no cost; and damaged parts."""

from __future__ import annotations

import tracemalloc

import pytest
from tests.unit.vault.compressed_frames import (
    ALL_CATEGORIES,
    JLS,
    JLS_NEAR,
    LJPEG,
    LJPEG_SV1,
    RLE,
    attributes,
    jls_stream,
    ljpeg_stream,
    picture,
    recoded,
    rle_stream,
)

from dcmvault.errors import VaultDamagedError
from dcmvault.vault.recoding import rebuild, recode
from dcmvault.vault.recoding.jpeg_markers import (
    SOF_JPEG_LS,
    SOF_LOSSLESS,
    SOS,
    Frame,
    frame_segment,
    segment,
    table_segment,
)
from dcmvault.vault.shape import PixelAttributes


def _samples_of_each_kind() -> list[tuple[bytes, str, PixelAttributes]]:
    words = picture(12, 14, 1, 12)
    pixels = attributes(words.shape, 16)
    grey = words[:, :, 0].astype("<u1").tobytes()
    return [
        (jls_stream(words, 12), JLS, pixels),
        (ljpeg_stream(words, 12, restart_rows=4), LJPEG, pixels),
        (rle_stream([bytes((127,)) + grey[:128] + bytes((39,)) + grey[128:]]), RLE, pixels),
    ]


@pytest.mark.parametrize("number", range(3))
def test_truncated_streams_are_kept(number: int) -> None:
    stream, syntax, pixels = _samples_of_each_kind()[number]
    if syntax == RLE:
        pixels = pixels._replace(bits_allocated=8)
    assert recode(stream, syntax, pixels) is not None
    for length in range(len(stream) - 2):
        assert recode(stream[:length], syntax, pixels) is None


@pytest.mark.parametrize("syntax", [JLS, JLS_NEAR, LJPEG, LJPEG_SV1, RLE, "1.2.840.10008.1.2.4.90"])
@pytest.mark.parametrize(
    "stream", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", bytes(1000), b"\xff" * 1000, b"DICM"]
)
def test_garbage_is_kept(stream: bytes, syntax: str) -> None:
    assert recode(stream, syntax, attributes((10, 10, 1), 16)) is None


def test_a_small_stream_that_claims_a_huge_frame_costs_nothing() -> None:
    huge = (65535, 65535, 1)
    lying = []
    for marker, middle, end in (
        (SOF_JPEG_LS, b"", b"\0\0\0"),
        (SOF_LOSSLESS, table_segment(0, ALL_CATEGORIES), b"\1\0\0"),
    ):
        frame = frame_segment(Frame(marker, 16, 65535, 65535, (1,)))
        head = b"\xff\xd8" + middle + frame + segment(SOS, b"\1\1\0" + end)
        lying.append(head + bytes(200) + b"\xff\xd9")
    lying.append(rle_stream([bytes(10), bytes(10)]))
    tracemalloc.start()
    try:
        for stream, syntax in zip(lying, (JLS, LJPEG, RLE), strict=True):
            for claimed in (huge, (4096, 4096, 1), (10, 10, 1)):
                assert recode(stream, syntax, attributes(claimed, 16)) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_is_not_as_the_data_set_says_is_kept() -> None:
    for stream, syntax, pixels in _samples_of_each_kind():
        if syntax == RLE:
            pixels = pixels._replace(bits_allocated=8)
        assert recode(stream, syntax, pixels) is not None
        for other in (
            pixels._replace(rows=pixels.rows + 1),
            pixels._replace(columns=0),
            pixels._replace(samples_per_pixel=3),
            pixels._replace(bits_allocated=1),
            pixels._replace(bits_allocated=32),
            pixels._replace(rows=-1),
        ):
            assert recode(stream, syntax, other) is None
    words = picture(10, 10, 1, 12)
    assert recode(jls_stream(words, 12), JLS, attributes(words.shape, 8)) is None


@pytest.mark.parametrize("number", range(3))
def test_rebuild_says_that_parts_do_not_fit(number: int) -> None:
    stream, syntax, pixels = _samples_of_each_kind()[number]
    if syntax == RLE:
        pixels = pixels._replace(bits_allocated=8)
    kind, samples, shape, head, tail = recoded(stream, syntax, pixels)
    half = len(head) // 2
    for parts in (
        ("jpx", samples, shape, head, tail),
        (kind, samples[:-1], shape, head, tail),
        (kind, samples, shape._replace(rows=shape.rows + 1), head, tail),
        (kind, samples, shape._replace(columns=0), head, tail),
        (kind, samples, shape._replace(precision=64), head, tail),
        (kind, samples[:-14], shape._replace(rows=shape.rows - 1), head[:half], tail),
        (kind, samples, shape, head[:half], tail),
        (kind, samples, shape, head[:-1], tail),
        (kind, samples, shape, head + b"\0", tail),
        (kind, samples, shape, b"", tail),
    ):
        with pytest.raises(VaultDamagedError):
            rebuild(*parts)
