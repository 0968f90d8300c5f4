"""C-FIND as its provider: an identifier becomes a query, and its answers messages (PS3.4 C.4.1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydicom.datadict import keyword_for_tag

from dcmvault.dicom import attributes as tags
from dcmvault.dicom import command as commands
from dcmvault.dicom.attributes import is_answerable, level_of
from dcmvault.dicom.inbound_messages import Command, InboundMessages
from dcmvault.dicom.query_identifiers import AnswerEncoder, Identifier, decode_identifier
from dcmvault.dicom.query_models import IdentifierError, QueryModel
from dcmvault.errors import DcmvaultError, MalformedDicomError, QueryTooBroadError
from dcmvault.model.query import ArchiveQuery
from dcmvault.ports.archive import Archive

#: PS3.4 table C.4-1.
SUCCESS = 0x0000
_PENDING = 0xFF00
_PENDING_WITHOUT_OPTIONAL_KEYS = 0xFF01
CANCELLED = 0xFE00
IDENTIFIER_DOES_NOT_MATCH = 0xA900
_OUT_OF_RESOURCES = 0xA700
UNABLE_TO_PROCESS = 0xC001

#: Answers go out together when they have so many bytes, or so many seconds after the first.
_BYTES_TOGETHER = 32 * 1024
_TOGETHER_S = 0.02
#: Said of attributes that are no keys of an archive.
_TOLD = frozenset({tags.CHARACTER_SET, tags.RETRIEVE_AE_TITLE, tags.INSTANCE_AVAILABILITY})


@dataclass(slots=True)
class Found:
    """How a C-FIND ended, and what may be written down of what it asked."""

    status: int
    level: str = ""
    keys: tuple[str, ...] = ()
    #: UIDs asked for, of studies, series and instances.
    uids: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())
    answers: int = 0


@dataclass(slots=True)
class FindRequest:
    """One C-FIND."""

    messages: InboundMessages
    command: Command
    transfer_syntax_uid: str
    model: QueryModel
    ae_title: str
    #: Says whether the peer cancelled this request.
    is_cancelled: Callable[[], bool]
    #: How it stands, or ended; true also when the peer is gone in the middle.
    found: Found = field(default_factory=lambda: Found(SUCCESS))
    _pending: list[bytes] = field(default_factory=list)
    _bytes: int = 0
    _sent_at: float = 0.0

    def answer(self, data_set: bytes, archive: Archive) -> None:
        """Send all answers, the final one too. OSError where the peer is gone."""
        try:
            identifier = decode_identifier(data_set, self.transfer_syntax_uid)
            level = self.model.level(identifier.level)
            query = self.model.query(level, identifier.keys)
        except (MalformedDicomError, IdentifierError) as error:
            reason = error.message if isinstance(error, MalformedDicomError) else str(error)
            self.found.status = IDENTIFIER_DOES_NOT_MATCH
            self._end(self.found, reason)
            return
        found = self.found = _asked(identifier)
        try:
            found.status = self._send_answers(archive, query, identifier, found)
        except QueryTooBroadError as error:
            found.status = _OUT_OF_RESOURCES
            self._end(found, error.message)
        except DcmvaultError as error:
            found.status = UNABLE_TO_PROCESS
            self._end(found, error.code)
        else:
            self._end(found)

    def _send_answers(
        self, archive: Archive, query: ArchiveQuery, identifier: Identifier, found: Found
    ) -> int:
        encoder = AnswerEncoder(
            identifier, query.level.name, self.ae_title, self.transfer_syntax_uid
        )
        supported = all(
            level_of(tag) <= query.level and is_answerable(tag)
            for tag in identifier.keys
            if tag not in _TOLD
        )
        extra = (
            {tags.INSTANCE_AVAILABILITY: "ONLINE"}
            if tags.INSTANCE_AVAILABILITY in identifier.keys
            else {}
        )
        for answer in archive.find(query):
            whole = supported and not answer.is_partial
            status = _PENDING if whole else _PENDING_WITHOUT_OPTIONAL_KEYS
            self._add(status, encoder.encode({**answer.attributes, **extra}))
            found.answers += 1
            now = time.monotonic()
            if self._bytes >= _BYTES_TOGETHER or now - self._sent_at >= _TOGETHER_S:
                self._flush()
                self._sent_at = now
                if self.is_cancelled():
                    return CANCELLED
        return SUCCESS

    def _add(self, status: int, data_set: bytes) -> None:
        context_id, request = self.command
        command = commands.encode_response(request, status, has_data_set=True)
        encoded = self.messages.encoded(context_id, command, is_command=True)
        encoded += self.messages.encoded(context_id, data_set, is_command=False)
        self._pending.append(encoded)
        self._bytes += len(encoded)

    def _flush(self) -> None:
        if self._pending:
            self.messages.send(b"".join(self._pending))
            self._pending, self._bytes = [], 0

    def _end(self, found: Found, comment: str = "") -> None:
        context_id, request = self.command
        command = commands.encode_response(request, found.status, comment=comment)
        self._pending.append(self.messages.encoded(context_id, command, is_command=True))
        self._flush()


def _asked(identifier: Identifier) -> Found:
    """Say what was asked without saying anything of a patient."""
    named = tuple(
        keyword_for_tag(tag) or f"{tag:08X}" for tag, key in sorted(identifier.keys.items()) if key
    )
    uids = tuple(
        tuple(
            one for one in identifier.keys.get(tag, "").split("\\") if commands.is_usable_uid(one)
        )
        for tag in (tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.SOP_INSTANCE_UID)
    )
    return Found(0, identifier.level, named, (uids[0], uids[1], uids[2]))
