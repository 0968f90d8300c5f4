"""C-STORE requests of a peer that sends because we asked for instances, each answered (PS3.7)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from dcmvault.dicom import command as commands
from dcmvault.dicom.inbox import Inbox
from dcmvault.errors import MalformedDicomError

#: Success (PS3.7 Annex C.1.1).
_SUCCESS = 0x0000


class StoreSink(Protocol):
    """Takes the instances that a peer sends because we asked for them, one after the other."""

    def begin(self, context_id: int, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Begin an instance; the UIDs are what the command says, unchecked."""
        ...

    def write(self, data: bytes) -> None:
        """Go on with its data set."""
        ...

    def end(self) -> int:
        """End it; return the status for the peer (PS3.4 table B.2-1)."""
        ...


def take_in(
    inbox: Inbox, context_id: int, command: Mapping[int, bytes], sink: StoreSink, ends_at: float
) -> None:
    """Hand the data set of a request to the sink as it comes, and answer the request."""
    sop_class, instance = (
        command.get(element, b"").decode("ascii", "replace").strip("\0 ")
        for element in (commands.AFFECTED_SOP_CLASS_UID, commands.AFFECTED_SOP_INSTANCE_UID)
    )
    sink.begin(context_id, sop_class, instance)
    for value in inbox.values_of(is_command=False, ends_at=ends_at):
        if value.context_id != context_id:
            raise MalformedDicomError("a data set under another presentation context")
        sink.write(value.fragment)
    inbox.reply(context_id, commands.encode_response(command, sink.end()))


def take_stores(inbox: Inbox, sink: StoreSink, longest_s: float) -> None:
    """Answer what a peer that associated with us sends: C-STORE, and C-ECHO.

    Goes on until it raises: AssociationLostError when the peer releases the association or is
    lost, MalformedDicomError for anything else.
    """
    ends_at = time.monotonic() + longest_s
    while True:
        context_id, encoded = inbox.whole(is_command=True, ends_at=ends_at)
        command = commands.decode_command(encoded)
        field = commands.number(command, commands.COMMAND_FIELD)
        has_data = commands.number(command, commands.DATA_SET_TYPE) != commands.NO_DATA_SET
        if field == commands.C_STORE_RQ and has_data:
            take_in(inbox, context_id, command, sink, ends_at)
        elif field == commands.C_ECHO_RQ and not has_data:
            inbox.reply(context_id, commands.encode_response(command, _SUCCESS))
        else:
            raise MalformedDicomError(f"a request {field:04X} that nobody offered to serve")
