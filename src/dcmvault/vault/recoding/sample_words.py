"""Samples as native Pixel Data holds them, and as coders take them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcmvault.vault.recoding.jpeg_markers import NotRecodableError
from dcmvault.vault.shape import StreamShape


def samples_of(words: npt.NDArray[np.generic], shape: StreamShape, *, signed: bool) -> bytes:
    """Return decoded words (unsigned, `precision` bits) as the bytes of native Pixel Data.

    Signed samples (two's complement) are extended to the allocated bits.
    """
    expected = (shape.rows, shape.columns, shape.samples)
    if words.size != shape.rows * shape.columns * shape.samples or words.dtype.kind != "u":
        raise NotRecodableError("the decoder returned an image of another size")
    values = words.reshape(expected)
    if signed and shape.precision < 8 * shape.sample_bytes:
        spare = 8 * shape.sample_bytes - shape.precision
        raised = values.astype(f"<u{shape.sample_bytes}") << spare
        return (raised.view(f"<i{shape.sample_bytes}") >> spare).tobytes()
    return values.astype(f"<u{shape.sample_bytes}", copy=False).tobytes()


def pixel_words(samples: bytes, shape: StreamShape) -> npt.NDArray[np.generic]:
    """Return samples, cut to their low `precision` bits, as rows x columns x samples words.

    Words are as wide as the precision needs: one byte, or two.
    """
    values = np.frombuffer(samples, f"<u{shape.sample_bytes}")
    values = values.reshape(shape.rows, shape.columns, shape.samples)
    if shape.precision < 8 * shape.sample_bytes:
        values = values & values.dtype.type((1 << shape.precision) - 1)
    return values.astype("<u1" if shape.precision <= 8 else "<u2", copy=False)
