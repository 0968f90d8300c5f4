"""What peers mean by their codes: C-STORE statuses and association rejections, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class StatusKind(StrEnum):
    """What a C-STORE status asks of us."""

    STORED = "stored"
    #: Stored, but the peer changed or doubted something: it must be verified.
    STORED_WITH_CHANGES = "stored_with_changes"
    #: The peer has something under this UID already, perhaps not the same.
    DUPLICATE = "duplicate"
    RETRY_LATER = "retry_later"
    PERMANENT = "permanent"
    #: No further instance will be taken either.
    STOP_DESTINATION = "stop_destination"


@dataclass(frozen=True, slots=True)
class StatusMeaning:
    """One row: a range of codes, its meaning by the Standard, and what people can do."""

    first: int
    last: int
    kind: StatusKind
    meaning: str
    reference: str
    cause: str = ""
    remedy: str = ""


_K = StatusKind

#: Ordered; the first row whose range holds the code counts.
STORE_STATUSES: tuple[StatusMeaning, ...] = (
    StatusMeaning(0x0000, 0x0000, _K.STORED, "success", "PS3.7 Annex C"),
    StatusMeaning(
        0x0105,
        0x0106,
        _K.PERMANENT,
        "an attribute or its value is not accepted",
        "PS3.7 Annex C",
        "The peer checks attributes and does not like one of this instance.",
        "Look at the peer's log for the attribute; correct the instance where it was made.",
    ),
    StatusMeaning(
        0x0110,
        0x0110,
        _K.RETRY_LATER,
        "failure while processing it",
        "PS3.7 Annex C",
        "Something went wrong inside the peer.",
        "Look at the peer's log if it keeps happening.",
    ),
    StatusMeaning(
        0x0111,
        0x0111,
        _K.DUPLICATE,
        "duplicate SOP instance",
        "PS3.7 Annex C",
        "The peer holds an instance with this UID already and keeps what it has.",
        "Verify it: the copy that is there may differ from this one.",
    ),
    StatusMeaning(
        0x0112,
        0x0115,
        _K.PERMANENT,
        "the peer does not accept this instance or a value in it",
        "PS3.7 Annex C",
        "The peer checks what it takes and does not like this instance.",
        "Look at the peer's log for the reason.",
    ),
    StatusMeaning(
        0x0117,
        0x0117,
        _K.PERMANENT,
        "invalid SOP instance",
        "PS3.7 Annex C",
        "The SOP Instance UID breaks the rules for UIDs.",
        "Keep such instances in a vault or folder, which take them as they are.",
    ),
    StatusMeaning(
        0x0118,
        0x0121,
        _K.PERMANENT,
        "the peer does not accept this instance or a value in it",
        "PS3.7 Annex C",
        "The peer checks what it takes and does not like this instance.",
        "Look at the peer's log for the reason.",
    ),
    StatusMeaning(
        0x0122,
        0x0122,
        _K.PERMANENT,
        "SOP class not supported",
        "PS3.7 Annex C",
        "The peer does not store this kind of object.",
        "Enable the SOP class at the peer, or keep these instances in a vault or folder.",
    ),
    StatusMeaning(
        0x0123,
        0x0123,
        _K.PERMANENT,
        "the peer does not understand the request",
        "PS3.7 Annex C",
        "The peer answers as if another service had been asked for.",
        "Check that the address is that of a storage service.",
    ),
    StatusMeaning(
        0x0124,
        0x0124,
        _K.STOP_DESTINATION,
        "not authorised to store",
        "PS3.7 Annex C",
        "The peer does not let this AE title store anything.",
        "Ask the peer's administrator to allow our AE title to store.",
    ),
    StatusMeaning(
        0x0210,
        0x0210,
        _K.RETRY_LATER,
        "duplicate invocation of a request",
        "PS3.7 Annex C",
        "The peer believes that an earlier request is still running.",
        "Try again later; look at the peer's log if it keeps happening.",
    ),
    StatusMeaning(
        0x0211,
        0x0212,
        _K.PERMANENT,
        "the peer does not understand the request",
        "PS3.7 Annex C",
        "The peer does not offer storage on this association.",
        "Check that the address is that of a storage service.",
    ),
    StatusMeaning(
        0x0213,
        0x0213,
        _K.RETRY_LATER,
        "a limit of its resources",
        "PS3.7 Annex C",
        "The peer is short of memory, disk or connections.",
        "Check the peer's free space if it keeps happening.",
    ),
    StatusMeaning(
        0xA700,
        0xA7FF,
        _K.RETRY_LATER,
        "out of resources",
        "PS3.4 table B.2-1",
        "The peer says that it has no room; some say so also of instances they dislike.",
        "Check the peer's free space and its log.",
    ),
    StatusMeaning(
        0xA900,
        0xA9FF,
        _K.PERMANENT,
        "data set does not match SOP class",
        "PS3.4 table B.2-1",
        "The peer finds that attributes of this kind of object are missing or wrong.",
        "Keep such instances in a vault or folder, which take them as they are.",
    ),
    StatusMeaning(
        0xB000,
        0xB000,
        _K.STORED_WITH_CHANGES,
        "coercion of data elements",
        "PS3.4 table B.2-1",
        "The peer changed values, for example the patient's identification.",
        "Verify it; a byte-identical copy needs a vault or folder.",
    ),
    StatusMeaning(
        0xB006,
        0xB006,
        _K.STORED_WITH_CHANGES,
        "some elements were discarded",
        "PS3.4 table B.2-1",
        "The peer kept only some of the attributes.",
        "Verify it; a complete copy needs a vault or folder.",
    ),
    StatusMeaning(
        0xB007,
        0xB007,
        _K.STORED_WITH_CHANGES,
        "data set does not match SOP class",
        "PS3.4 table B.2-1",
        "The peer stored the instance although it finds attributes missing or wrong.",
        "Verify it.",
    ),
    StatusMeaning(
        0x0001,
        0x0001,
        _K.STORED_WITH_CHANGES,
        "stored with an unexplained warning",
        "PS3.7 Annex C",
        "The peer stored the instance and warns without a reason.",
        "Verify it.",
    ),
    StatusMeaning(
        0x0116,
        0x0116,
        _K.STORED_WITH_CHANGES,
        "attribute value out of range",
        "PS3.7 Annex C",
        "The peer stored the instance and doubts one of its values.",
        "Verify it.",
    ),
    StatusMeaning(
        0x0107,
        0x0107,
        _K.STORED_WITH_CHANGES,
        "some attributes were ignored",
        "PS3.7 Annex C",
        "The peer does not know some of the attributes.",
        "Verify it.",
    ),
    StatusMeaning(
        0xB001,
        0xBFFF,
        _K.STORED_WITH_CHANGES,
        "stored with a warning of the peer's own",
        "PS3.7 Annex C",
        "The peer stored the instance and warns.",
        "Verify it, and look at the peer's documentation for the code.",
    ),
    StatusMeaning(
        0xC000,
        0xCFFF,
        _K.PERMANENT,
        "it cannot understand the instance",
        "PS3.4 table B.2-1",
        "The peer cannot read this instance.",
        "Look at the peer's log; keep such instances in a vault or folder.",
    ),
    StatusMeaning(
        0xFE00,
        0xFE00,
        _K.RETRY_LATER,
        "cancelled at the peer",
        "PS3.7 Annex C",
        "The peer ended its work on this instance; we did not ask for that.",
        "Try again later; look at the peer's log if it keeps happening.",
    ),
    StatusMeaning(
        0xFF00,
        0xFF01,
        _K.PERMANENT,
        "a pending status, which storing does not know",
        "PS3.7 Annex C",
        "The peer answers as if another service had been asked for.",
        "Check that the address is that of a storage service.",
    ),
)


def store_status(code: int) -> StatusMeaning:
    """Return what a C-STORE status means; a code that no table knows is a permanent failure."""
    for row in STORE_STATUSES:
        if row.first <= code <= row.last:
            return row
    return StatusMeaning(
        code,
        code,
        _K.PERMANENT,
        "a status that the Standard does not know",
        "PS3.7 Annex C",
        "The peer uses a code of its own.",
        "Look at the peer's documentation and log for the code.",
    )


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association was rejected or aborted, in words, and what to do."""

    reason: str
    remedy: str


#: (source, reason) of an A-ASSOCIATE-RJ (PS3.8 table 9-21).
REJECTIONS: Mapping[tuple[int, int], Rejection] = MappingProxyType(
    {
        (1, 1): Rejection(
            "it gives no reason",
            "Ask the peer's administrator whether our AE title and address are allowed.",
        ),
        (1, 2): Rejection(
            "it does not know the DICOM application context",
            "Check that the address is that of a DICOM service.",
        ),
        (1, 3): Rejection(
            "it does not know our (calling) AE title",
            "Register our AE title at the peer, or write one it knows: ?calling=AET.",
        ),
        (1, 7): Rejection(
            "it is not called by this (called) AE title",
            "Write the AE title of the peer in its exact spelling: dicom://CALLED@host:port",
        ),
        (2, 1): Rejection("it gives no reason", "Look at the peer's log."),
        (2, 2): Rejection(
            "it does not speak this version of the DICOM protocol",
            "Check that the address is that of a DICOM service.",
        ),
        (3, 1): Rejection("it is congested for the moment", "Try again later."),
        (3, 2): Rejection(
            "it has as many associations as it allows",
            "Lower max_associations, or raise the peer's limit.",
        ),
    }
)


def explain_rejection(source: int, reason: int) -> Rejection:
    """Return what an A-ASSOCIATE-RJ means; unknown codes are named by their numbers."""
    return REJECTIONS.get((source, reason)) or Rejection(
        f"with a reason that the Standard does not know (source {source}, reason {reason})",
        "Look at the peer's log.",
    )


#: Results of a presentation context (PS3.8 table 9-18).
CONTEXT_RESULTS: Mapping[int, str] = MappingProxyType(
    {
        1: "the peer refuses it",
        2: "the peer refuses it without a reason",
        3: "the peer does not take this SOP class",
        4: "the peer does not take this transfer syntax",
    }
)

_LOOK_AT_LOG = "Look at the peer's log for the reason."
_DEFECT = "Report it to the makers of the peer and of dcmvault, with the peer's log."
#: Reasons of an A-ABORT by the service provider (PS3.8 table 9-26).
ABORT_REASONS: Mapping[int, Rejection] = MappingProxyType(
    {
        0: Rejection("it gives no reason", _LOOK_AT_LOG),
        1: Rejection("it does not recognise a message of the protocol", _DEFECT),
        2: Rejection("it did not expect this message of the protocol now", _DEFECT),
        4: Rejection("it does not recognise a parameter of a message", _DEFECT),
        5: Rejection("it did not expect a parameter of a message", _DEFECT),
        6: Rejection("it finds the value of a parameter invalid", _DEFECT),
    }
)
#: Who aborts (PS3.8 table 9-26): the application, or the layer below it that speaks the protocol.
_ABORTED_BY_USER = 0
_ABORTED_BY_PROVIDER = 2


def explain_abort(source: int, reason: int) -> Rejection:
    """Return what an A-ABORT means; an application that aborts gives no reason."""
    if source == _ABORTED_BY_USER:
        return Rejection("its application gave up", _LOOK_AT_LOG)
    words = ABORT_REASONS.get(reason) if source == _ABORTED_BY_PROVIDER else None
    return words or Rejection(
        f"with a reason that the Standard does not know (source {source}, reason {reason})",
        _LOOK_AT_LOG,
    )
