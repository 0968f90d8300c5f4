"""An instance in another transfer syntax, without loss: planned, done, and checked before use.

What changes is what a transfer syntax dictates, and nothing else. The result is compared with the
source before anybody gets it: all elements by their canonical digest, pixels by that of their
decoded frames.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.datadict import keyword_for_tag

from dcmvault.dicom.byte_source import ByteSource, FileBytes, InflatedBytes
from dcmvault.dicom.digest import MAX_INFLATED, elements_digest
from dcmvault.dicom.encoding import EXPLICIT_LITTLE, IMPLICIT_LITTLE, PIXEL_DATA, Encoding
from dcmvault.dicom.file_meta import IMPLICIT_VR_LITTLE_ENDIAN, read_file_meta
from dcmvault.dicom.pixels import pixels_digest
from dcmvault.dicom.reencoding import ENCAPSULATION_TAGS, Reencoder
from dcmvault.dicom.transfer_syntaxes import (
    COMPRESSED_TARGETS,
    FAMILIES,
    NATIVE_TARGETS,
    NotTranscodableError,
    is_transcodable,
    uid_words,
)
from dcmvault.errors import InstanceDeferredError, InstanceUnsendableError, MalformedDicomError

_CHUNK = 1 << 20
#: What an operating system says when there is no room to write.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HINT = "Keep it in a vault or folder, or let the peer take it as it is."


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A data set in another transfer syntax, checked. Valid while its context is open."""

    transfer_syntax_uid: str
    #: Keywords of attributes whose values had to change with the transfer syntax.
    changed: tuple[str, ...]
    #: Bytes of the data set.
    length: int
    _descriptor: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the data set in pieces of 1 MiB."""
        for at in range(0, self.length, _CHUNK):
            yield os.pread(self._descriptor, min(_CHUNK, self.length - at), at)


def target_for(transfer_syntax_uid: str, accepted: Collection[str]) -> str:
    """Return what to send as instead, of what a peer accepts; empty when there is nothing.

    Native forms come first, so that nothing depends on a coder of the peer.
    """
    if not is_transcodable(transfer_syntax_uid):
        return ""
    for uid in (*NATIVE_TARGETS, *COMPRESSED_TARGETS):
        if uid in accepted and uid != transfer_syntax_uid:
            return uid
    return ""


@contextmanager
def transcoded(descriptor: int, target: str) -> Iterator[Transcoded]:
    """Turn an open Part 10 file into `target`, one of what `target_for` returns.

    The result is in an unnamed temporary file, which nobody else can open and which is gone
    when the context is left, or when this process ends in any way. Memory is that of one frame,
    compressed and decoded, and of its coder. Raises InstanceUnsendableError for what cannot be
    turned, or did not come out equal; InstanceDeferredError when there is no room for it; OSError
    where the source cannot be read.
    """
    with ExitStack() as stack:
        try:
            out = stack.enter_context(tempfile.TemporaryFile(prefix="dcmvault-"))
        except OSError as error:
            raise _no_room(error) from error
        try:
            made = _transcode(descriptor, target, out)
        except MalformedDicomError as error:
            raise InstanceUnsendableError(
                f"the instance cannot be sent as {uid_words(target)}: {error.message}", hint=_HINT
            ) from error
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise _no_room(error) from error
        yield made


def _no_room(error: OSError) -> InstanceDeferredError:
    return InstanceDeferredError(
        f"the instance could not be transcoded ({error.strerror or type(error).__name__})",
        hint="Check the room in the folder for temporary files (TMPDIR).",
    )


def _transcode(descriptor: int, target: str, out: BinaryIO) -> Transcoded:
    """Write the transcoded data set and compare it with its source."""
    with FileBytes(descriptor) as file, _data_set(file) as (source, position, encoding):
        syntax = read_file_meta(file).transfer_syntax_uid
        reencoder = Reencoder(source, position, encoding, (syntax, target), out)
        reencoder.run()
        out.flush()
        with FileBytes(out.fileno()) as result:
            _check(reencoder, (source, position, encoding), result, target)
            changed = tuple(sorted(map(keyword_for_tag, reencoder.changed)))
            return Transcoded(target, changed, result.size, out.fileno())


@contextmanager
def _data_set(file: FileBytes) -> Iterator[tuple[ByteSource, int, Encoding]]:
    meta = read_file_meta(file)
    if not meta.deflated:
        yield file, meta.data_set_start, meta.encoding
        return
    inflated = InflatedBytes(file, meta.data_set_start, MAX_INFLATED)
    try:
        yield inflated, 0, meta.encoding
    finally:
        inflated.close()


def _check(
    reencoder: Reencoder,
    before: tuple[ByteSource, int, Encoding],
    result: FileBytes,
    target: str,
) -> None:
    """Compare the result with what it was made of; NotTranscodableError where they differ."""
    encoding = IMPLICIT_LITTLE if target == IMPLICIT_VR_LITTLE_ENDIAN else EXPLICIT_LITTLE
    leave_out: set[int] = set()
    if reencoder.decodes:
        leave_out = {PIXEL_DATA, *ENCAPSULATION_TAGS, *reencoder.changed}
    after = elements_digest(result, 0, encoding, leave_out)
    if after != elements_digest(*before, leave_out):
        raise NotTranscodableError("an attribute did not come out equal")
    if reencoder.decodes:
        pixels = pixels_digest(result, 0, encoding, FAMILIES.get(target))
        if pixels != reencoder.pixels.text():
            raise NotTranscodableError("the pixels did not come out equal")
    if result.size % 2:
        raise NotTranscodableError("the length of its data set is odd")
