"""A process of its own that makes a small picture of a file that may be hostile.

`python -I -m dcmvault.dicom.thumbnail_process SIDE` reads a Part 10 file from standard input, which
must be a file, and writes a JPEG to standard output. Before the first byte is looked at it gives up
what it could do harm with: memory, time on the processor, writing files, new processes. Exit
status 3: it is no picture, or none that can be shown.
"""

from __future__ import annotations

import mmap
import os
import resource
import sys

import imagecodecs

from dcmvault.dicom.byte_source import ViewBytes
from dcmvault.dicom.file_meta import read_file_meta
from dcmvault.dicom.instance_frames import frames_of
from dcmvault.dicom.json_model import opened_data_set
from dcmvault.dicom.rendering import Look, encoded, render
from dcmvault.dicom.transfer_syntaxes import NotTranscodableError
from dcmvault.errors import MalformedDicomError

#: What a large frame takes: its samples, and them as floating-point numbers.
MEMORY_BYTES = 2 << 30
CPU_SECONDS = 10
NO_PICTURE = 3
_QUALITY = 80
#: Each is loaded when it is looked up; later no file can be opened any more.
_CODECS = (
    *("jpeg2k_decode", "dicomrle_decode", "jpegls_decode", "jpeg8_decode", "jpegsof3_decode"),
    *("jpeg8_encode", "packbits_encode"),
)


def _give_up() -> None:
    """Set limits that this process cannot raise again."""
    for name in _CODECS:
        getattr(imagecodecs, name)
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        # No further file can be opened: nothing above standard error.
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(what, (limit, limit))


def _picture(data: memoryview, side: int) -> bytes:
    source = ViewBytes(data)
    syntax = read_file_meta(source).transfer_syntax_uid
    with opened_data_set(source) as opened:
        held = frames_of(opened, syntax)
        number = held.shape.frames // 2 + 1
        shown = render(source, held, number, Look(viewport=(side, side)))
        return encoded(shown, "image/jpeg", _QUALITY)


def main() -> int:
    """Do it; return the exit status."""
    side = int(sys.argv[1])
    data = mmap.mmap(sys.stdin.fileno(), 0, access=mmap.ACCESS_READ)
    _give_up()
    try:
        image = _picture(memoryview(data), side)
    except (MalformedDicomError, NotTranscodableError, MemoryError):
        return NO_PICTURE
    os.write(sys.stdout.fileno(), image)
    return 0


if __name__ == "__main__":
    # Nothing is tidied up: what a hostile file left behind is not run through once more.
    os._exit(main())
