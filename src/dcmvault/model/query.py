"""What an archive is asked, and what it answers: the Query/Retrieve information model as values.

Attributes are named by their tags as integers (0x00100010 is Patient's Name); values are text:
several are joined by backslashes, numbers are decimal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

#: Tag to value. What is empty has no value.
Attributes = Mapping[int, str]


class QueryLevel(IntEnum):
    """The levels of the information model, from above (PS3.4 section C.3)."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


@dataclass(frozen=True, slots=True)
class ArchiveQuery:
    """A question for all patients, studies, series or instances that match every key.

    An empty key matches all, and asks for the attribute. Keys match as PS3.4 section C.2.2.2 says.
    A key of a level below the one asked at matches nothing out and is answered without a value.
    """

    level: QueryLevel
    keys: Attributes


@dataclass(frozen=True, slots=True)
class ArchiveAnswer:
    """One patient, study, series or instance: what is known of the keys, and its unique keys."""

    attributes: Attributes
    #: Not all that was asked for could be looked up: there was too much of it.
    is_partial: bool = False


class Selection(NamedTuple):
    """Which instances are meant: those in all of these; an empty collection means any."""

    study_instance_uids: Collection[str]
    series_instance_uids: Collection[str] = ()
    sop_instance_uids: Collection[str] = ()
    patient_ids: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class ArchivedInstance:
    """An instance that an archive holds, and what it takes to send it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    size: int  #: bytes of the Part 10 file
    file_sha256: bytes
    instance_number: str = ""
    #: What the archive itself finds it by; nobody else's business.
    place: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class InstanceBytes:
    """A whole Part 10 file, exactly as it was stored; its SHA-256 was compared.

    `data` is valid until the next one is asked for.
    """

    instance: ArchivedInstance
    data: memoryview


@dataclass(frozen=True, slots=True)
class UnreadableInstance:
    """An instance that cannot be given: `code` as in the error tree, `message` for people."""

    instance: ArchivedInstance
    code: str
    message: str
