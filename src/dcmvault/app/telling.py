"""Telling: what the outbox holds is handed to the channels, each by itself, until it is taken."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dcmvault.app.alert_news import AlertReporter
from dcmvault.app.announcing import Announcer
from dcmvault.app.digests import Digests
from dcmvault.app.messages import MessageWriter
from dcmvault.config.notifications_section import ChannelSection, HealthchecksSection
from dcmvault.errors import (
    DcmvaultError,
    NotificationPartlyTakenError,
    NotificationRefusedError,
    StateError,
)
from dcmvault.model.notice import Event
from dcmvault.pipeline.notice_times import GIVE_UP_AFTER, GIVE_UP_START_AFTER, next_attempt
from dcmvault.ports.clock import Clock
from dcmvault.ports.notices import Delivery, DeliveryState, NoticeBook
from dcmvault.ports.notifier import Notifier

_log = logging.getLogger(__name__)

#: How long nobody else tries what is being tried: longer than a channel may take for a message.
_LEASE = timedelta(minutes=5)
#: How often at least the outbox is looked at: another process may have put something in.
_LOOK = timedelta(seconds=30)
_LOOK_WHILE_BUSY = timedelta(seconds=2)
#: Seconds for which a command waits for its messages before it ends; the rest is sent later.
_PATIENCE_S = 30.0
#: Seconds for which channels are waited for before others get their next turn.
_HOLD_UP_S = 5.0
#: How long a channel's turn lasts at most: well within the lease.
_TURN = timedelta(minutes=2)
#: Messages that a channel may refuse in a turn: more than one, it may be about the message only
#: (too large, say); not many, a wrong password locks accounts.
_MOST_REFUSALS = 2

BuildNotifier = Callable[[ChannelSection, Clock], Notifier]


@dataclass(slots=True)
class Teller:
    """Sends what is due. One channel never waits for another, and no run for any.

    At least once: who dies between handing over and writing that down sends the same again, with
    the same `notice_id`.
    """

    announcer: Announcer
    digests: Digests
    alerts: AlertReporter
    book: NoticeBook
    writer: MessageWriter
    clock: Clock
    build: BuildNotifier
    _threads: list[threading.Thread] = field(default_factory=list)
    #: Nobody begins any more once somebody waits for all who began.
    _is_finishing: bool = False
    #: Channels whose turn it is.
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell_due(self, now: datetime) -> datetime:
        """Post what is news, try what is due, and return when to come again.

        Safe for several processes on one outbox. Raises StateError.
        """
        upcoming: list[datetime | None] = []
        try:
            if self.announcer.has_channels:
                since = self.announcer.begin(now)
                upcoming.append(self.announcer.announce(now))
                self.alerts.announce(since)
                upcoming.append(self.digests.announce(now, since))
        finally:
            # What is in the outbox is told though something else cannot be made out.
            self._deliver(now)
        with self._lock:
            busy = frozenset(self._busy)
        # What is due at a channel whose turn lasts is taken when that is over.
        upcoming.append(self.book.next_due(but=busy))
        if busy:
            upcoming.append(now + _LOOK_WHILE_BUSY)
        moments = [moment for moment in upcoming if moment is not None]
        return max(now, min([*moments, now + _LOOK]))

    def tell_soon(self) -> None:
        """Try what is due beside whatever the process does; harmless where there is nobody."""
        with self._lock:
            if not self._is_finishing:
                self._start()

    def finish(self, patience_s: float = _PATIENCE_S) -> None:
        """Wait until what is due was tried, for so long at most; what is left is tried later."""
        with self._lock:
            self._is_finishing = True
            self._start()
        until = time.monotonic() + patience_s
        self._wait(until)
        # What came for a channel while it was its turn.
        with self._lock:
            self._start()
        self._wait(until)

    def _wait(self, until: float) -> None:
        """Wait for all threads, until then at most."""
        while time.monotonic() < until:
            with self._lock:
                running = [one for one in self._threads if one.is_alive()]
            if not running:
                return
            running[0].join(max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        if self.announcer.has_channels:
            thread = threading.Thread(target=self._tell_quietly, name="telling", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _tell_quietly(self) -> None:
        try:
            self.tell_due(self.clock.now())
        except StateError as error:
            _log.warning("nobody was told: %s", error.code)
        except Exception:  # noqa: BLE001 - a thread's outermost frame: no news may end a run
            _log.exception("nobody was told, by a defect")

    def _deliver(self, now: datetime) -> None:
        """Have each channel told in a thread of its own; one that takes long is not waited for."""
        with self._lock:
            busy = frozenset(self._busy)
        by_channel: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in self.book.take_due(now, now + _LEASE, but=busy):
            by_channel[delivery.channel].append(delivery)
        threads = [
            threading.Thread(
                target=self._take_turn, args=(name, some, now), name=f"tell-{name}", daemon=True
            )
            for name, some in by_channel.items()
        ]
        with self._lock:
            self._busy |= set(by_channel)
            self._threads = [one for one in self._threads if one.is_alive()] + threads
            for thread in threads:
                thread.start()
        until = time.monotonic() + _HOLD_UP_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _take_turn(self, name: str, deliveries: Sequence[Delivery], now: datetime) -> None:
        try:
            self._deliver_to(name, deliveries, now)
        except StateError as error:
            _log.warning("the channel “%s”: %s", name, error.code)
        finally:
            with self._lock:
                self._busy.discard(name)

    def _deliver_to(self, name: str, deliveries: Sequence[Delivery], now: datetime) -> None:
        """Try one channel, oldest first, until it cannot be reached, or refuses several."""
        section = self.announcer.settings.notifications.get(name)
        if section is None:
            for delivery in deliveries:
                self.book.settle(
                    delivery.delivery_id, DeliveryState.SUPERSEDED, now, attempted=False
                )
            return
        worth = self._worth_telling(section, deliveries, now)
        # What was refused before comes last: it may be the message, and not the channel.
        worth.sort(key=lambda one: one.code == NotificationRefusedError.code)
        refusals = 0
        for number, delivery in enumerate(worth):
            if self.clock.now() - now > _TURN:
                return  # the lease ends soon; what is left is taken again then
            try:
                message = self.writer.message(delivery.notice, section)
                message = replace(message, only_for=delivery.recipients_left)
                self.build(section, self.clock).send(message)
            except NotificationPartlyTakenError as error:
                self._settle_partly(delivery, now, error)
            except NotificationRefusedError as error:
                refusals += 1
                left = worth[number + 1 :] if refusals == _MOST_REFUSALS else ()
                self._postpone(delivery, left, now, error)
                if left:
                    return
            except DcmvaultError as error:
                self._postpone(delivery, worth[number + 1 :], now, error)
                return
            except Exception as error:  # noqa: BLE001 - outermost, and a plug-in raises anything
                _log.exception("the channel “%s” failed by a defect", name)
                failure = DcmvaultError(f"a defect ({type(error).__name__}); the log has more")
                self._postpone(delivery, worth[number + 1 :], now, failure)
                return
            else:
                self.book.settle(delivery.delivery_id, DeliveryState.SENT, now)

    def _settle_partly(
        self, delivery: Delivery, now: datetime, error: NotificationPartlyTakenError
    ) -> None:
        """Write down who was refused; whom another attempt may reach is tried again, alone."""
        if error.left:
            self._postpone(delivery, (), now, error, error.left)
            return
        _log.warning("not everybody of the channel “%s” was told", delivery.channel)
        self.book.settle(
            delivery.delivery_id,
            DeliveryState.SENT,
            now,
            code=error.code,
            message=_said(error),
        )

    def _worth_telling(
        self, section: ChannelSection, deliveries: Sequence[Delivery], now: datetime
    ) -> list[Delivery]:
        """Leave out what a newer one outdates, and begins that lie back too far."""
        worth = []
        newest: dict[str, int] = {}
        for delivery in deliveries:
            if delivery.notice.event.is_about_a_run:
                newest[delivery.notice.plan] = delivery.delivery_id
        for delivery in deliveries:
            notice = delivery.notice
            is_old = (
                notice.event is Event.RUN_STARTED and now - notice.at > GIVE_UP_START_AFTER
            ) or (
                # A ping says how a check stands now, not how it stood.
                isinstance(section, HealthchecksSection)
                and notice.event.is_about_a_run
                and notice.event is not Event.RUN_STARTED
                and newest[notice.plan] != delivery.delivery_id
            )
            if is_old:
                self.book.settle(
                    delivery.delivery_id, DeliveryState.SUPERSEDED, now, attempted=False
                )
            else:
                worth.append(delivery)
        return worth

    def _postpone(
        self,
        failed: Delivery,
        others: Sequence[Delivery],
        now: datetime,
        error: DcmvaultError,
        recipients_left: tuple[str, ...] = (),
    ) -> None:
        """Write down what failed; what the channel was to get after it waits as long."""
        _log.warning("the channel “%s” was not told: %s", failed.channel, error.code)
        next_at = next_attempt(failed.attempts + 1, now)
        for delivery in (failed, *others):
            given_up = now - delivery.notice.at > GIVE_UP_AFTER
            self.book.settle(
                delivery.delivery_id,
                DeliveryState.GIVEN_UP if given_up else DeliveryState.WAITING,
                now,
                next_at=None if given_up else next_at,
                code=error.code,
                message=_said(error),
                attempted=delivery is failed,
                recipients_left=recipients_left if delivery is failed else (),
            )


def _said(error: DcmvaultError) -> str:
    return f"{error.message}. {error.hint}" if error.hint else error.message
