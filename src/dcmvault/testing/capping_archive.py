"""An archive that answers C-FIND, matches as PS3.4 says, and tells only so many.

    with CappingArchive(studies, cap=500) as archive:
        ...  # ask 127.0.0.1:archive.port

It sends no instances: it is about lists that are cut, silently or not.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from dcmvault.dicom import command as commands
from dcmvault.dicom import pdu
from dcmvault.dicom.association import VERIFICATION
from dcmvault.dicom.association_request import acceptance, read_request
from dcmvault.dicom.channel import Channel, Peer
from dcmvault.dicom.inbox import Inbox
from dcmvault.errors import DcmvaultError

_Tag = tuple[int, int]
_CHARACTER_SET: _Tag = (0x0008, 0x0005)
_LEVEL: _Tag = (0x0008, 0x0052)
_UID: _Tag = (0x0020, 0x000D)
_DATE: _Tag = (0x0008, 0x0020)
_TIME: _Tag = (0x0008, 0x0030)
_MODALITIES: _Tag = (0x0008, 0x0061)
_PATIENT_ID: _Tag = (0x0010, 0x0020)
_SERIES_UID: _Tag = (0x0020, 0x000E)
_SOP_UID: _Tag = (0x0008, 0x0018)
_NUMBER: _Tag = (0x0020, 0x0013)
_SERIES_OF_STUDY: _Tag = (0x0020, 0x1206)
_INSTANCES_OF_STUDY: _Tag = (0x0020, 0x1208)
_INSTANCES_OF_SERIES: _Tag = (0x0020, 0x1209)
_MODALITY: _Tag = (0x0008, 0x0060)
_UIDS = frozenset({_UID, _SERIES_UID, _SOP_UID})
_OF_STUDIES = frozenset({_UID, _DATE, _TIME, _PATIENT_ID})
_OF_PARTS = frozenset({_SERIES_UID, _MODALITY, _NUMBER})
_PENDING, _SUCCESS, _UNABLE, _NO_SUCH_QUERY = 0xFF00, 0x0000, 0xC001, 0xA900
#: C-FIND in the Study Root and in the Patient Root model.
_FIND_UIDS = {"S": "1.2.840.10008.5.1.4.1.2.2.1", "P": "1.2.840.10008.5.1.4.1.2.1.1"}
_LONGEST_S = 300.0
#: Answers in one system call.
_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class ArchivedStudy:
    """What the archive tells of one study."""

    study_instance_uid: str
    study_date: str = "20200102"
    study_time: str = "101112"
    modality: str = "CT"
    patient_id: str = "TEST-0001"
    #: How many series it has, and instances each of them, numbered from 1.
    series: int = 0
    instances: int = 1
    #: How many more it says that the study has: some peers count frames, or objects of their own.
    miscounted: int = 0

    @property
    def row(self) -> Mapping[_Tag, str]:
        """Its attributes by tag."""
        return {
            _SERIES_OF_STUDY: str(self.series),
            _INSTANCES_OF_STUDY: str(self.series * self.instances + self.miscounted),
            _UID: self.study_instance_uid,
            _DATE: self.study_date,
            _TIME: self.study_time,
            _MODALITIES: self.modality,
            _PATIENT_ID: self.patient_id,
        }

    def series_rows(self) -> list[Mapping[_Tag, str]]:
        """Return the attributes of its series."""
        return [
            {
                _UID: self.study_instance_uid,
                _SERIES_UID: f"{self.study_instance_uid}.{number}",
                _INSTANCES_OF_SERIES: str(self.instances),
                _MODALITY: self.modality,
            }
            for number in range(1, self.series + 1)
        ]

    def instance_rows(self, series_uid: str) -> list[Mapping[_Tag, str]]:
        """Return the attributes of the instances of one of its series."""
        return [
            {
                _UID: self.study_instance_uid,
                _SERIES_UID: series_uid,
                _SOP_UID: f"{series_uid}.{number}",
                _NUMBER: str(number),
            }
            for number in range(1, self.instances + 1)
        ]


class _BreakError(Exception):
    """The archive fails over a question."""


class CappingArchive:
    """Serves on a free port of the loopback while it is used as a context.

    Of all that match it tells the first `cap` (0: all), with `cap_status` at the end. Keys in
    `ignores` are not matched; with `needs_keys` a question without any is refused, with the status
    `refuses` every one. Studies and instances in `hidden` are named only by UID, as those whose
    attributes do not match what lists ask for. Without `tells_counts` it says of no study and
    series how much it has (PS3.4 section C.3.4 makes that optional). A question about the parts of
    a study in `breaks_at` ends the association.

    It is `relational` if asked whether it is (PS3.4 section C.5.1.1); otherwise a question for
    instances must name a series, and one for series a study. `lacks_at_once` of the instances that
    a relational question should bring, it leaves out. With `drops_extended` it closes connections
    over which extended negotiation is proposed. It serves the `models` given: S is Study Root, P
    Patient Root, where hierarchical questions must name a patient.
    """

    def __init__(
        self,
        studies: Sequence[ArchivedStudy],
        *,
        cap: int = 0,
        cap_status: int = _SUCCESS,
        ignores: Collection[_Tag] = (),
        needs_keys: bool = False,
        refuses: int = 0,
        hidden: Collection[str] = (),
        tells_counts: bool = True,
        breaks_at: Collection[str] = (),
        relational: bool = False,
        lacks_at_once: int = 0,
        drops_extended: bool = False,
        models: str = "SP",
    ) -> None:
        self._relational = relational
        self._lacks_at_once = lacks_at_once
        self._drops_extended = drops_extended
        self._models = {uid for model, uid in _FIND_UIDS.items() if model in models}
        self._breaks_at = frozenset(breaks_at)
        self._studies = {study.study_instance_uid: study for study in studies}
        counts = {_SERIES_OF_STUDY, _INSTANCES_OF_STUDY, _INSTANCES_OF_SERIES}
        self._untold = frozenset() if tells_counts else counts
        self._rows = [study.row for study in studies]
        self._by_uid = {row[_UID]: row for row in self._rows}
        self._cap = cap
        self._cap_status = cap_status
        self._ignores = frozenset(ignores)
        self._needs_keys = needs_keys
        self._refuses = refuses
        self._hidden = frozenset(hidden)
        #: Questions so far, and those of them that only relational queries allow.
        self.asked = 0
        self.asked_relationally = 0
        self._listening: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._listening is not None, "not started"
        return int(self._listening.getsockname()[1])

    def forget(self, study_instance_uid: str) -> None:
        """Lose a study."""
        self._rows.remove(self._by_uid.pop(study_instance_uid))

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._listening is not None
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        assert self._listening is not None
        while True:
            try:
                connection, _address = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        peer = Peer("127.0.0.1", 0, "?", "CAPPING", dimse_timeout_s=30)
        channel = Channel(connection, peer)
        with suppress(DcmvaultError, OSError, _BreakError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _kind, body = channel.receive(10)
            request = read_request(body)
            if request.relational and self._drops_extended:
                raise _BreakError
            granted = request.relational & self._models if self._relational else frozenset()
            chosen = {
                one.context_id: one.transfer_syntax_uids[0]
                for one in request.contexts
                if one.abstract_syntax_uid in self._models | {VERIFICATION}
            }
            channel.send(
                [
                    acceptance(
                        request,
                        chosen,
                        maximum_length=1 << 16,
                        implementation_class_uid="2.25.1",
                        implementation_version="CAPPING",
                        relational=granted,
                    )
                ]
            )
            self._answer_all(Inbox(peer, channel), channel, granted)
        channel.close()

    def _answer_all(self, inbox: Inbox, channel: Channel, relational: Collection[str]) -> None:
        ends_at = time.monotonic() + _LONGEST_S
        while True:
            context_id, encoded = inbox.whole(is_command=True, ends_at=ends_at)
            command = commands.decode_command(encoded)
            if commands.number(command, commands.COMMAND_FIELD) != commands.C_FIND_RQ:
                inbox.reply(context_id, commands.encode_response(command, _SUCCESS))
                continue
            _context, identifier = inbox.whole(is_command=False, ends_at=ends_at)
            self.asked += 1
            answers = list(self._answers(context_id, command, identifier, relational))
            for start in range(0, len(answers), _TOGETHER):
                channel.send(answers[start : start + _TOGETHER])

    def _answers(
        self,
        context_id: int,
        command: Mapping[int, bytes],
        identifier: bytes,
        relational: Collection[str],
    ) -> Iterator[bytes]:
        asked = {
            tag: value.decode().strip("\0 ") for tag, value in commands.decode_flat(identifier)
        }
        asked.pop(_CHARACTER_SET, None)
        keys = {tag: value for tag, value in asked.items() if value and tag != _LEVEL}
        if self._refuses or (self._needs_keys and not keys):
            yield _response(context_id, command, self._refuses or _UNABLE)
            return
        level = asked.get(_LEVEL, "STUDY")
        if level != "STUDY" and keys.get(_UID) in self._breaks_at:
            raise _BreakError
        model = commands.uid(command, commands.AFFECTED_SOP_CLASS_UID)
        if not _names_levels_above(level, keys, has_patients=model == _FIND_UIDS["P"]):
            if model not in relational:
                yield _response(context_id, command, _NO_SUCH_QUERY)
                return
            self.asked_relationally += 1
        found = self._found(level, keys)
        told = found[: self._cap] if self._cap else found
        for row in told:
            elements = {
                tag: row.get(tag, "") for tag in asked if tag != _LEVEL and tag not in self._untold
            }
            if not all(map(str.isascii, elements.values())):
                elements[_CHARACTER_SET] = "ISO_IR 192"
            data_set = commands.encode_identifier(
                (*tag, _padded(value, b"\0" if tag in _UIDS else b" "))
                for tag, value in elements.items()
            )
            yield _response(context_id, command, _PENDING, data_set)
        yield _response(
            context_id, command, self._cap_status if len(told) < len(found) else _SUCCESS
        )

    def _found(self, level: str, keys: Mapping[_Tag, str]) -> list[Mapping[_Tag, str]]:
        """Return what matches at a level."""
        if level == "STUDY":
            return self._matching(keys)
        if level == "PATIENT":
            patients = {row[_PATIENT_ID]: row for row in self._matching(keys)}
            return list(patients.values())
        of_studies = {tag: value for tag, value in keys.items() if tag in _OF_STUDIES}
        of_parts = {tag: value for tag, value in keys.items() if tag in _OF_PARTS}
        found = []
        for study in self._matching(of_studies):
            archived = self._studies[study[_UID]]
            rows = archived.series_rows()
            if level == "IMAGE":
                rows = [row for one in rows for row in archived.instance_rows(one[_SERIES_UID])]
                asked = keys.get(_SOP_UID, "").split("\\")
                rows = [
                    row
                    for row in rows
                    if (row[_SOP_UID] in asked if asked[0] else row[_SOP_UID] not in self._hidden)
                ]
            found += [
                row for row in rows if all(row[tag] == value for tag, value in of_parts.items())
            ]
        if level == "IMAGE" and _SERIES_UID not in keys and self._lacks_at_once:
            del found[-self._lacks_at_once :]
        return found

    def _matching(self, keys: Mapping[_Tag, str]) -> list[Mapping[_Tag, str]]:
        if _UID in keys:
            asked = (self._by_uid.get(uid) for uid in keys[_UID].split("\\"))
            return [row for row in asked if row is not None]
        matched = {tag: value for tag, value in keys.items() if tag not in self._ignores}
        return [
            row
            for row in self._rows
            if row[_UID] not in self._hidden
            and all(_matches(tag, value, row.get(tag, "")) for tag, value in matched.items())
        ]


def _names_levels_above(level: str, keys: Mapping[_Tag, str], *, has_patients: bool) -> bool:
    """Say whether a hierarchical question may be asked so (PS3.4 section C.4.1.2.1)."""
    levels = ("PATIENT", "STUDY", "SERIES", "IMAGE")
    above = (_PATIENT_ID, _UID, _SERIES_UID)[: levels.index(level)]
    return all(tag in keys for tag in above[0 if has_patients else 1 :])


def _matches(tag: _Tag, key: str, value: str) -> bool:
    """Match one key (PS3.4 section C.2.2.2); a value that is not there matches no range."""
    if tag in (_DATE, _TIME):
        if not value:
            return False
        low, dash, high = key.partition("-")
        return low <= value and (not high or value <= high) if dash else value == key
    if tag == _PATIENT_ID:
        return fnmatchcase(value, key.replace("[", "[[]"))
    return value == key


def _padded(value: str, padding: bytes) -> bytes:
    encoded = value.encode()
    return encoded + padding * (len(encoded) % 2)


def _response(
    context_id: int, command: Mapping[int, bytes], status: int, data_set: bytes = b""
) -> bytes:
    encoded = commands.encode_response(command, status)
    if not data_set:
        return pdu.command_pdu(context_id, encoded)
    with_data = encoded.replace(_NO_DATA, _DATA)
    value = pdu.PDV_HEADER.pack(len(data_set) + 2, context_id, pdu.IS_LAST) + data_set
    return (
        pdu.command_pdu(context_id, with_data) + pdu.HEADER.pack(pdu.P_DATA_TF, len(value)) + value
    )


#: The element that says whether a data set follows, without and with one.
_NO_DATA, _DATA = (
    commands.encode_element(0, commands.DATA_SET_TYPE, number.to_bytes(2, "little"))
    for number in (commands.NO_DATA_SET, 1)
)
