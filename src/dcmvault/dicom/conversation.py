"""What goes to and fro while one request of an association is answered: its C-CANCEL, too."""

from __future__ import annotations

from dcmvault.dicom import command as commands
from dcmvault.dicom.inbound_messages import Command, InboundMessages
from dcmvault.dicom.query_identifiers import LONGEST_IDENTIFIER
from dcmvault.errors import MalformedDicomError


class Conversation:
    """One request at a time, over the messages of an association (PS3.7 section 9.3)."""

    def __init__(self, messages: InboundMessages) -> None:
        self._messages = messages
        #: The message id of the request that is being answered, and whether it was cancelled.
        self._current = 0
        self._cancelled = False

    def begin(self, command: Command) -> bytes:
        """Read the identifier of a request that will have several answers."""
        self._current = commands.number(command.elements, commands.MESSAGE_ID)
        self._cancelled = False
        return self._messages.data_set(command.context_id, LONGEST_IDENTIFIER)

    def is_cancelled(self) -> bool:
        """Say whether the request at hand was cancelled; nothing else may come meanwhile."""
        while not self._cancelled and self._messages.has_input():
            self._take_cancel(self._next())
        return self._cancelled

    def _take_cancel(self, command: Command) -> None:
        if command.field != commands.C_CANCEL_RQ:
            raise MalformedDicomError("a request while another one is answered")
        answered = commands.number(command.elements, commands.MESSAGE_ID_BEING_RESPONDED_TO)
        self._cancelled |= answered == self._current

    def stored(self, context_id: int, message_id: int) -> int:
        """Wait for the answer to a C-STORE of ours; return its status."""
        while True:
            command = self._next()
            if command.field == commands.C_STORE_RQ | commands.RESPONSE:
                answered = commands.number(command.elements, commands.MESSAGE_ID_BEING_RESPONDED_TO)
                if answered != message_id or command.context_id != context_id:
                    raise MalformedDicomError("an answer to another message")
                self.drop(command)
                return commands.number(command.elements, commands.STATUS)
            self._take_cancel(command)

    def _next(self) -> Command:
        command = self._messages.next_command()
        if command is None:
            raise ConnectionAbortedError
        return command

    def drop(self, command: Command) -> None:
        """Read a data set that nobody wants."""
        if command.has_data_set:
            for _piece in self._messages.pieces(command.context_id):
                pass

    def answer(self, command: Command, status: int) -> None:
        """Answer a request without a data set."""
        response = commands.encode_response(command.elements, status)
        self._messages.send(self._messages.encoded(command.context_id, response, is_command=True))
