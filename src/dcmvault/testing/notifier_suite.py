"""The contract of `ports.notifier` as tests: every implementation subclasses the suite.

    class TestMine(NotifierSuite):
        def notifier(self): ...
        def unreachable_notifier(self): ...
        def refused_notifier(self): ...
        def taken(self): ...
        secrets = ("s3cret",)

The suite asserts plainly and does not need pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from dcmvault.errors import (
    NotificationRefusedError,
    NotificationUnreachableError,
)
from dcmvault.model.notice import Attachment, Event, Message, Notice, Severity
from dcmvault.ports.notifier import Notifier

#: What must arrive, in letters of several alphabets.
_WORDS = "São Paulo, 東京: the copies are verified"


def sample_message(number: int = 1, *, event: Event = Event.RUN_INCOMPLETE) -> Message:
    """Make a message about a run, with a page and an attached report."""
    notice = Notice(
        notice_id=f"run_ended:20260131-020000-0000000{number}",
        event=event,
        severity=Severity.WARNING,
        at=datetime(2026, 1, 31, 2, number, tzinfo=UTC),
        plan="nightly",
        run_id=f"20260131-020000-0000000{number}",
        facts={"exit_status": 3, "plan_exit_status": 3, "source": "horos"},
    )
    return Message(
        notice,
        f"nightly: message {number}",
        f"{_WORDS}.\nNumber {number}.\n",
        f"<!doctype html><html><body><p>{_WORDS}</p></body></html>",
        {"id": notice.notice_id, "event": event.value, "headline": _WORDS},
        (Attachment("report.html", "text/html", b"<p>report</p>"),),
    )


class NotifierSuite:
    """Tests that every channel passes."""

    #: What no name, answer or error may contain.
    secrets: tuple[str, ...] = ()

    # What a subclass gives.

    def notifier(self) -> Notifier:
        """Return a channel whose other end takes what is sent."""
        raise NotImplementedError

    def unreachable_notifier(self) -> Notifier:
        """Return a channel of the same kind whose other end is not there."""
        raise NotImplementedError

    def refused_notifier(self) -> Notifier | None:
        """Return one whose other end says no; None where that cannot be told."""
        raise NotImplementedError

    def taken(self) -> Sequence[bytes]:
        """Return what the other end took, one for each message, as it came."""
        raise NotImplementedError

    def words_of(self, taken: bytes) -> str:
        """Return what a person, or program, reads in what was taken."""
        return taken.decode()

    # The contract.

    def test_a_message_arrives_once_with_its_words(self) -> None:
        """What was returned from is at the other end, letters of all alphabets included."""
        notifier = self.notifier()
        answer = notifier.send(sample_message())
        assert answer
        assert "\n" not in answer
        (taken,) = self.taken()
        assert "東京" in self.words_of(taken)

    def test_messages_arrive_in_the_order_sent(self) -> None:
        """One channel serves message after message."""
        notifier = self.notifier()
        for number in (1, 2, 3):
            notifier.send(sample_message(number))
        assert len(self.taken()) == 3

    def test_the_same_message_may_be_sent_again(self) -> None:
        """An answer may have been lost: that is no error."""
        notifier = self.notifier()
        notifier.send(sample_message())
        notifier.send(sample_message())
        assert len(self.taken()) == 2

    def test_every_event_can_be_told(self) -> None:
        """No event is an error of the channel."""
        notifier = self.notifier()
        for event in Event:
            notifier.send(sample_message(event=event))
        assert len(self.taken()) == len(Event)

    def test_a_message_without_page_and_attachment_arrives(self) -> None:
        """The words alone are enough."""
        self.notifier().send(replace(sample_message(), html="", attachments=()))
        assert len(self.taken()) == 1

    def test_nobody_there_is_unreachable_and_tells_no_secret(self) -> None:
        """It can be tried later, and the log may have the sentence."""
        error = _raised(self.unreachable_notifier(), NotificationUnreachableError)
        self._tells_nothing(f"{error.message} {error.hint}")

    def test_a_no_is_refused_and_tells_no_secret(self) -> None:
        """A person has to change something."""
        notifier = self.refused_notifier()
        if notifier is not None:
            error = _raised(notifier, NotificationRefusedError)
            self._tells_nothing(f"{error.message} {error.hint}")

    def test_neither_name_nor_answer_tells_a_secret(self) -> None:
        """They are shown by commands, and logged."""
        notifier = self.notifier()
        assert notifier.name
        self._tells_nothing(notifier.name)
        self._tells_nothing(repr(notifier))
        self._tells_nothing(notifier.send(sample_message()))

    def _tells_nothing(self, text: str) -> None:
        for secret in self.secrets:
            assert secret not in text, "a secret is told"


def _raised(
    notifier: Notifier,
    kind: type[NotificationUnreachableError] | type[NotificationRefusedError],
) -> NotificationUnreachableError | NotificationRefusedError:
    raised: NotificationUnreachableError | NotificationRefusedError | None = None
    try:
        notifier.send(sample_message())
    except (NotificationUnreachableError, NotificationRefusedError) as error:
        raised = error
    assert isinstance(raised, kind), f"it should raise {kind.__name__}, not: {raised!r}"
    assert raised.message
    return raised
