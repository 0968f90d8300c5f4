"""A frame as people see it: window, colours and size, as JPEG or PNG (PS3.18 section 8.3.5).

Grey values go through the modality's slope and intercept, then the window asked for, else the
first one that the instance names, else from the darkest to the brightest (PS3.3 C.11.1, C.11.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from dcmvault.dicom.byte_source import ByteSource
from dcmvault.dicom.header_values import WantedValues
from dcmvault.dicom.instance_frames import InstanceFrames
from dcmvault.dicom.pixel_shape import PixelShape
from dcmvault.dicom.transfer_syntaxes import NotTranscodableError

WINDOW_CENTER, WINDOW_WIDTH = 0x00281050, 0x00281051
VOI_FUNCTION = 0x00281056
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_WANTED = (WINDOW_CENTER, WINDOW_WIDTH, VOI_FUNCTION, _INTERCEPT, _SLOPE)
#: Pixels of a frame that is rendered: 8192 by 8192.
MAX_PIXELS = 1 << 26
_JPEG_QUALITY = 90
_Words = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Look:
    """How a frame is to be shown."""

    #: Centre, width, function (LINEAR, LINEAR_EXACT, SIGMOID).
    window: tuple[float, float, str] | None = None
    #: It is made to fit into so many columns and rows, and never enlarged.
    viewport: tuple[int, int] | None = None
    quality: int = _JPEG_QUALITY


def render(header: ByteSource, frames: InstanceFrames, number: int, look: Look) -> _Words:
    """Return a frame as bytes per pixel: grey, or red, green and blue.

    Raises NotTranscodableError for what cannot be shown.
    """
    shape = frames.shape
    if shape.rows * shape.columns > MAX_PIXELS:
        raise NotTranscodableError(f"an image of more than {MAX_PIXELS} pixels is not rendered")
    if shape.samples == 1 and shape.photometric.startswith("MONOCHROME"):
        words = _grey(frames.samples(number), shape)
        shown = _windowed(words, WantedValues(_WANTED).read(header), look)
        if shape.photometric == "MONOCHROME1":
            shown = 255 - shown
    elif shape.samples == 3 and shape.bits_allocated == 8:
        shown = _colour(frames.samples(number), shape)
    else:
        raise NotTranscodableError(f"images of the kind {shape.photometric} are not rendered")
    return _fitted(shown, look.viewport)


def encoded(shown: _Words, media_type: str, quality: int = _JPEG_QUALITY) -> bytes:
    """Encode a rendered frame as image/jpeg or image/png."""
    shown = np.ascontiguousarray(shown)
    if media_type == "image/png":
        return bytes(imagecodecs.png_encode(shown))
    return bytes(imagecodecs.jpeg8_encode(shown, level=quality))


def _grey(samples: bytes, shape: PixelShape) -> _Words:
    size = (shape.rows, shape.columns)
    if shape.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(samples, np.uint8), bitorder="little")
        return bits[: size[0] * size[1]].reshape(size)
    if shape.bits_allocated not in (8, 16, 32):
        raise NotTranscodableError(f"samples of {shape.bits_allocated} bits are not rendered")
    kind = f"<{'i' if shape.signed else 'u'}{shape.sample_bytes}"
    words = np.frombuffer(samples, kind).reshape(size)
    spare = shape.bits_allocated - shape.bits_stored
    if 0 < spare < shape.bits_allocated and shape.high_bit == shape.bits_stored - 1:
        # What stands above the stored bits is no part of the value.
        words = (words << spare) >> spare
    return words


def _windowed(words: _Words, told: Mapping[int, str], look: Look) -> _Words:
    slope, intercept = _first(told, _SLOPE), _first(told, _INTERCEPT)
    values = words.astype(np.float32)
    if slope or intercept:
        values = values * np.float32(slope or 1) + np.float32(intercept or 0)
    window = look.window or _own_window(told)
    if window is None:
        low, high = float(values.min()), float(values.max())
        shown = (values - low) * (255 / max(high - low, 1e-6))
    else:
        centre, width, function = window
        if function == "SIGMOID":
            steepness = np.clip(-4 * (values - centre) / width, -80, 80)
            shown = 255 / (1 + np.exp(steepness))
        elif function == "LINEAR_EXACT":
            shown = ((values - centre) / width + 0.5) * 255
        else:
            shown = ((values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5) * 255
    shown_bytes: _Words = np.clip(np.nan_to_num(shown) + 0.5, 0, 255).astype(np.uint8)
    return shown_bytes


def _own_window(told: Mapping[int, str]) -> tuple[float, float, str] | None:
    centre, width = _first(told, WINDOW_CENTER), _first(told, WINDOW_WIDTH)
    function = told.get(VOI_FUNCTION, "LINEAR")
    if centre is None or width is None or width < (1 if function == "LINEAR" else 1e-6):
        return None
    return centre, width, function


def _first(told: Mapping[int, str], tag: int) -> float | None:
    try:
        number = float(told[tag].partition("\\")[0])
    except (KeyError, ValueError):
        return None
    return number if np.isfinite(number) and abs(number) < 1e12 else None


def _colour(samples: bytes, shape: PixelShape) -> _Words:
    words = np.frombuffer(samples, np.uint8)
    if words.size != shape.rows * shape.columns * 3:
        raise NotTranscodableError(f"images of the kind {shape.photometric} are not rendered")
    if shape.by_plane:
        words = np.moveaxis(words.reshape(3, shape.rows, shape.columns), 0, 2)
    else:
        words = words.reshape(shape.rows, shape.columns, 3)
    if shape.photometric in ("RGB", "YBR_RCT", "YBR_ICT"):
        return words
    if not shape.photometric.startswith("YBR_FULL"):
        raise NotTranscodableError(f"images of the kind {shape.photometric} are not rendered")
    # PS3.3 section C.7.6.3.1.2.
    y, blue, red = (words[..., at].astype(np.float32) for at in range(3))
    blue -= 128
    red -= 128
    rgb = np.stack((y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue), 2)
    shown: _Words = np.clip(rgb + 0.5, 0, 255).astype(np.uint8)
    return shown


def _fitted(shown: _Words, viewport: tuple[int, int] | None) -> _Words:
    """Make an image smaller: means of whole blocks first, then the nearest of each."""
    if viewport is None:
        return shown
    rows, columns = shown.shape[:2]
    scale = min(viewport[0] / columns, viewport[1] / rows)
    if scale >= 1:
        return shown
    block = int(1 / scale)
    if block > 1 and min(rows, columns) >= block:
        high, wide = rows // block * block, columns // block * block
        parts = shown[:high, :wide].reshape(high // block, block, wide // block, block, -1)
        means = parts.mean(axis=(1, 3), dtype=np.float32) + 0.5
        shown = means.astype(np.uint8).reshape(high // block, wide // block, *shown.shape[2:])
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    vertical = np.arange(height) * shown.shape[0] // height
    horizontal = np.arange(width) * shown.shape[1] // width
    fitted: _Words = shown[vertical][:, horizontal]
    return fitted
