"""Events: in order, to those who want them, and nobody is waited for."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from dcmvault.ports.events import Topic
from dcmvault.web.event_stream import Event, EventStream, Listener, TooManyListenersError

ALL = [topic.value for topic in Topic]


async def _next(listener: Listener) -> list[Event]:
    return await listener.next(60)


def test_everybody_hears_what_they_asked_for_in_order() -> None:
    async def story() -> None:
        stream = EventStream()
        everything, _ = stream.listen(ALL)
        alerts, _ = stream.listen(["alert"])
        for number in range(3):
            stream.announce(Topic.RUN, {"number": number})
        stream.announce(Topic.ALERT, {"number": 3})
        heard = await _next(everything)
        assert [json.loads(event.data)["number"] for event in heard] == [0, 1, 2, 3]
        (alert,) = await _next(alerts)
        assert alert.topic == "alert"

    asyncio.run(story())


def test_a_thread_announces_and_never_waits() -> None:
    async def story() -> int:
        stream = EventStream()
        listener, _ = stream.listen(ALL)

        def announce() -> None:
            for number in range(200):
                stream.announce(Topic.QUEUE, {"number": number})

        thread = threading.Thread(target=announce)
        thread.start()
        heard = 0
        while heard < 200:
            heard += len(await _next(listener))
        thread.join()
        return heard

    assert asyncio.run(story()) == 200


def test_one_who_does_not_listen_is_dropped_and_the_others_are_not() -> None:
    async def story() -> None:
        stream = EventStream()
        slow, _ = stream.listen(ALL)
        quick, _ = stream.listen(ALL)
        for number in range(300):
            stream.announce(Topic.RUN, {"number": number})
            await _next(quick)
        assert slow.has_ended
        assert await _next(slow) == []
        assert not quick.has_ended

    asyncio.run(story())


def test_one_who_comes_back_hears_what_came_meanwhile() -> None:
    async def story() -> None:
        stream = EventStream()
        listener, _ = stream.listen(ALL)
        stream.announce(Topic.RUN, {"number": 1})
        (first,) = await _next(listener)
        stream.leave(listener)
        stream.announce(Topic.RUN, {"number": 2})
        stream.announce(Topic.ALERT, {"number": 3})
        again, is_all = stream.listen(["run"], stream.id_of(first))
        (second,) = await _next(again)
        assert (is_all, json.loads(second.data)) == (True, {"number": 2})
        up_to_date, is_all = stream.listen(ALL, stream.id_of(Event(3, "", "")))
        assert is_all
        assert not up_to_date.has_ended

    asyncio.run(story())


@pytest.mark.parametrize("last", ["", "earlier-1"])
def test_one_who_missed_many_is_not_dropped_for_that(last: str) -> None:
    """What was missed waits beside what comes; who then does not listen is dropped all the same."""

    async def story() -> None:
        stream = EventStream()
        for number in range(1000):
            stream.announce(Topic.RUN, {"number": number})
        back, _ = stream.listen(ALL, last or stream.id_of(Event(1, "", "")))
        for number in range(1000, 1256):
            stream.announce(Topic.RUN, {"number": number})
        assert not back.has_ended
        heard = [json.loads(event.data)["number"] for event in await _next(back)]
        assert heard == list(range(0 if last else 1, 1256))
        for number in range(257):
            stream.announce(Topic.RUN, {"number": number})
        assert back.has_ended

    asyncio.run(story())


@pytest.mark.parametrize("name", ["", "nonsense", "deadbeef-1", "-", "deadbeef-x"])
def test_one_who_missed_too_much_is_told(name: str) -> None:
    async def story() -> bool:
        stream = EventStream()
        stream.announce(Topic.RUN, {})
        _listener, is_all = stream.listen(ALL, name)
        return is_all

    assert asyncio.run(story()) == (name == "")


def test_what_is_too_long_ago_counts_as_missed() -> None:
    async def story() -> None:
        stream = EventStream()
        for number in range(1200):
            stream.announce(Topic.RUN, {"number": number})
        _listener, is_all = stream.listen(ALL, stream.id_of(Event(100, "", "")))
        assert not is_all
        _listener, is_all = stream.listen(ALL, stream.id_of(Event(200, "", "")))
        assert is_all

    asyncio.run(story())


def test_not_everybody_may_listen_at_once_and_nobody_after_the_end() -> None:
    async def story() -> None:
        stream = EventStream()
        listeners = [stream.listen(ALL, who=str(number))[0] for number in range(64)]
        with pytest.raises(TooManyListenersError):
            stream.listen(ALL)
        stream.leave(listeners[0])
        stream.listen(ALL)
        stream.close()
        assert all(listener.has_ended for listener in listeners)
        with pytest.raises(TooManyListenersError):
            stream.listen(ALL)

    asyncio.run(story())


def test_one_who_opens_many_streams_takes_none_from_others() -> None:
    async def story() -> None:
        stream = EventStream()
        mine = [stream.listen(ALL, who="mine")[0] for _number in range(16)]
        with pytest.raises(TooManyListenersError):
            stream.listen(ALL, who="mine")
        stream.listen(ALL, who="another")
        stream.leave(mine[0])
        stream.listen(ALL, who="mine")
        stream.close()

    asyncio.run(story())
