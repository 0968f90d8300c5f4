"""What peers mean by HTTP statuses and by the reasons in a STOW-RS answer, as tables."""

from __future__ import annotations

from dcmvault.dicom.status import StatusKind, StatusMeaning, store_status

_K = StatusKind
_GENERAL = "PS3.18 table 8.5-1"
_STORE = "PS3.18 table 10.5.3-1"

#: Ordered; the first row whose range holds the status counts. What 2xx means for one instance
#: stands in the body.
HTTP_STATUSES: tuple[StatusMeaning, ...] = (
    StatusMeaning(200, 299, _K.STORED, "success", _STORE),
    StatusMeaning(
        300,
        399,
        _K.STOP_DESTINATION,
        "it refers to another address",
        _GENERAL,
        "The service has moved, or wants a login in a browser.",
        "Write the address of the service itself; dcmvault follows no redirection, because"
        " secrets would go along.",
    ),
    StatusMeaning(
        400,
        400,
        _K.PERMANENT,
        "bad request",
        _STORE,
        "The peer cannot read this instance, or not the request.",
        "Look at the peer's log; keep such instances in a vault or folder.",
    ),
    StatusMeaning(
        401,
        401,
        _K.STOP_DESTINATION,
        "not authenticated",
        _GENERAL,
        "The peer wants to know who we are, or does not believe it.",
        "Check user and password, token or client secret in the configuration.",
    ),
    StatusMeaning(
        403,
        403,
        _K.STOP_DESTINATION,
        "not authorised",
        _GENERAL,
        "The peer knows who we are and does not allow this.",
        "Ask the peer's administrator to allow storing and searching.",
    ),
    StatusMeaning(
        404,
        404,
        _K.STOP_DESTINATION,
        "there is no such resource",
        _GENERAL,
        "The root in the address is not that of a DICOMweb service, or it does not offer this.",
        "Check the path in the address: dicomweb+https://host/root",
    ),
    StatusMeaning(
        405,
        407,
        _K.STOP_DESTINATION,
        "it does not offer this",
        _GENERAL,
        "The service behind this address does not take or search instances, or a proxy refuses.",
        "Check the path in the address and what the peer's conformance statement offers.",
    ),
    StatusMeaning(
        408,
        408,
        _K.RETRY_LATER,
        "the request took too long",
        "RFC 9110 section 15.5.9",
        "The network is slower than the peer waits.",
        "Raise the peer's time limit of a request if it keeps happening.",
    ),
    StatusMeaning(
        409,
        409,
        _K.PERMANENT,
        "the instance conflicts with what the peer takes",
        _STORE,
        "The peer does not store this kind of object, or its UIDs do not fit together.",
        "Look at the peer's log; keep such instances in a vault or folder.",
    ),
    StatusMeaning(
        410,
        411,
        _K.STOP_DESTINATION,
        "it does not offer this",
        _GENERAL,
        "The service behind this address was removed, or a proxy stands before it.",
        "Check the path in the address.",
    ),
    StatusMeaning(
        413,
        413,
        _K.PERMANENT,
        "the instance is too large for it",
        _GENERAL,
        "The peer, or a proxy before it, limits the size of a request.",
        "Raise that limit, or keep such instances in a vault or folder.",
    ),
    StatusMeaning(
        415,
        415,
        _K.PERMANENT,
        "it does not take this media type",
        _STORE,
        "The peer does not take DICOM files, or not this transfer syntax.",
        "Look at the peer's conformance statement.",
    ),
    StatusMeaning(
        425,
        425,
        _K.RETRY_LATER,
        "too early",
        "RFC 8470 section 5.2",
        "The peer wants the request again.",
    ),
    StatusMeaning(
        429,
        429,
        _K.RETRY_LATER,
        "too many requests",
        "RFC 6585 section 4",
        "The peer limits how much is sent in a time.",
        "Lower max_connections if it keeps happening.",
    ),
    StatusMeaning(
        400,
        499,
        _K.PERMANENT,
        "the request is refused",
        "RFC 9110 section 15.5",
        "The peer, or a proxy before it, does not like the request.",
        "Look at the peer's log for the reason.",
    ),
    StatusMeaning(
        501,
        501,
        _K.STOP_DESTINATION,
        "it does not offer this",
        _GENERAL,
        "The service behind this address does not take or search instances.",
        "Check the path in the address and what the peer's conformance statement offers.",
    ),
    StatusMeaning(
        503,
        503,
        _K.RETRY_LATER,
        "the service is not available",
        _GENERAL,
        "The peer is overloaded, or is being looked after.",
        "Look at the peer's log if it keeps happening.",
    ),
    StatusMeaning(
        505,
        505,
        _K.STOP_DESTINATION,
        "it does not speak HTTP/1.1",
        _GENERAL,
        "The service behind this address is of another kind.",
        "Check host and port in the address.",
    ),
    StatusMeaning(
        507,
        507,
        _K.RETRY_LATER,
        "out of resources",
        "RFC 4918 section 11.5",
        "The peer says that it has no room.",
        "Check the peer's free space.",
    ),
    StatusMeaning(
        500,
        599,
        _K.RETRY_LATER,
        "processing failure",
        "RFC 9110 section 15.6",
        "Something went wrong inside the peer, or a proxy does not reach it.",
        "Look at the peer's log if it keeps happening.",
    ),
)

#: What PS3.18 has beyond C-STORE, and what services are known to say.
FAILURE_REASONS: tuple[StatusMeaning, ...] = (
    StatusMeaning(
        0xB00E,
        0xB00E,
        _K.DUPLICATE,
        "duplicate SOP instance",
        "PS3.18 section I.2.2",  # a code of its own of Azure's service (45070)
        "The peer holds an instance with this UID already and keeps what it has.",
        "Verify it: the copy that is there may differ from this one.",
    ),
    StatusMeaning(
        0xC122,
        0xC122,
        _K.PERMANENT,
        "transfer syntax not supported",
        "PS3.18 table I.2-2",
        "The peer does not take instances that are compressed in this way.",
        "Enable the transfer syntax at the peer, or keep these instances in a vault or folder.",
    ),
    StatusMeaning(
        0x0112,
        0x0112,
        _K.PERMANENT,
        "SOP class not supported",
        "PS3.7 Annex C",
        "The peer does not store this kind of object.",
        "Enable the SOP class at the peer, or keep these instances in a vault or folder.",
    ),
)


def http_status(status: int) -> StatusMeaning:
    """Return what an HTTP status means; one that no table knows is a permanent failure."""
    for row in HTTP_STATUSES:
        if row.first <= status <= row.last:
            return row
    return StatusMeaning(
        status,
        status,
        _K.PERMANENT,
        "a status that HTTP does not know",
        "RFC 9110 section 15",
        "The peer uses a code of its own.",
        "Look at the peer's documentation and log for the code.",
    )


def failure_reason(code: int) -> StatusMeaning:
    """Return what a Failure Reason (0008,1197) means; it never means that all is well.

    The values are those of C-STORE, and a few more (PS3.18 section I.2.2).
    """
    for row in FAILURE_REASONS:
        if row.first <= code <= row.last:
            return row
    meaning = store_status(code)
    if meaning.kind not in (_K.STORED, _K.STORED_WITH_CHANGES):
        return meaning
    return StatusMeaning(
        code,
        code,
        _K.PERMANENT,
        "it was not stored",
        "PS3.18 section I.2.2",
        "The peer names the instance as failed and gives no reason that the Standard knows.",
        "Look at the peer's log for the reason.",
    )
