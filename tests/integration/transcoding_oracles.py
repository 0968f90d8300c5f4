"""Second opinions on transcoded files: DCMTK's decoders, pydicom's, and files that come in pairs.

pydicom-data has lossy and lossless JPEG 2000 files together with what another decoder made of
them, which is all there is for JPEG 2000: DCMTK has no decoder for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from dcmvault.testing.corpus import real_files

#: What a transfer syntax dictates, and what DCMTK adds when it decompresses.
DICTATED = frozenset({0x7FE00010, 0x7FE00001, 0x7FE00002, 0x7FE00003, 0x00280004, 0x00280006})
_PAIRS = {
    "JPEG2000.dcm": "",
    "693_J2KI.dcm": "693_UNCI.dcm",
    "693_J2KR.dcm": "693_UNCR.dcm",
    "MR2_J2KI.dcm": "MR2_UNCI.dcm",
    "MR2_J2KR.dcm": "MR2_UNCR.dcm",
    "RG1_J2KI.dcm": "RG1_UNCI.dcm",
    "RG1_J2KR.dcm": "RG1_UNCR.dcm",
    "RG3_J2KI.dcm": "RG3_UNCI.dcm",
    "RG3_J2KR.dcm": "RG3_UNCR.dcm",
    "US1_J2KI.dcm": "US1_UNCI.dcm",
    "US1_J2KR.dcm": "US1_UNCR.dcm",
    "examples_jpeg2k.dcm": "US1_UNCR.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "emri_small_jpeg_2k_lossless.dcm": "emri_small.dcm",
}


def by_name(name: str) -> Path:
    return next(path for path in real_files() if path.name == name)


def second_opinion(path: Path, scratch: Path) -> tuple[NDArray[np.generic], bool] | None:
    """Return the samples by somebody else's decoder, and whether they must be equal to the bit.

    None where nobody else here decodes them.
    """
    data_set = pydicom.dcmread(path, force=True)
    syntax = data_set.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2")
    out = scratch / "opinion.dcm"
    if syntax in JPEG2000TransferSyntaxes:
        pair = _PAIRS.get(path.name)
        # Decoders of irreversible wavelets may round differently.
        return (samples_of(by_name(pair)), "J2KI" not in path.name) if pair else None
    program = _program(syntax)
    if not program:
        return samples_of(path), True
    result = subprocess.run([*program, str(path), str(out)], capture_output=True, check=False)
    if result.returncode:
        return None  # DCMTK cannot read it
    # Of subsampled colour decoders make whole pixels in ways of their own.
    whole = data_set.SamplesPerPixel == 1 or syntax not in JPEGTransferSyntaxes
    return samples_of(out), whole or data_set.PhotometricInterpretation == "RGB"


def _program(syntax: str) -> tuple[str, ...]:
    if syntax in JPEGTransferSyntaxes:
        return ("dcmdjpeg", "+cn")
    if syntax in JPEGLSTransferSyntaxes:
        return ("dcmdjpls",)
    return ("dcmdrle",) if syntax == RLELossless else ()


def samples_of(path: Path) -> NDArray[np.generic]:
    """Decode a native file's samples, colours as they stand and by pixel."""
    data_set = pydicom.dcmread(path, force=True)
    return np.asarray(pydicom.pixels.utils.pixel_array(data_set, raw=True))


def read_native_little_endian(path: Path, scratch: Path) -> Dataset:
    """Read a file; DCMTK turns big endian ones first."""
    data_set = pydicom.dcmread(path, force=True)
    if data_set.file_meta.get("TransferSyntaxUID") != ExplicitVRBigEndian:
        return data_set
    out = scratch / "little.dcm"
    subprocess.run(["dcmconv", "+te", str(path), str(out)], check=True, capture_output=True)
    return pydicom.dcmread(out)


def elements(data_set: Dataset, *, top: bool = True) -> Iterator[object]:
    """Yield (path, value bytes) of everything but what a transfer syntax dictates."""
    # As they were read: an access converts them.
    for tag, raw in sorted(data_set._dict.items()):
        if tag.element == 0 or int(tag) == 0xFFFCFFFC or (top and int(tag) in DICTATED):
            continue
        element = data_set[tag]
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                for inside in elements(item, top=False):
                    yield (int(tag), number, inside)
            continue
        value = raw.value if isinstance(raw, pydicom.dataelem.RawDataElement) else element.value
        if value is None:
            value = b""
        elif not isinstance(value, bytes):
            value = str(element.value).encode()
        yield (int(tag), bytes(value).rstrip(b"\0 "))
