"""What a simulated PACS does wrong, as values: each fault is a function of what arrives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Ending(StrEnum):
    """What happens to the association instead of an answer."""

    ABORT = "abort"
    #: The connection is closed without a word.
    CLOSE = "close"
    #: Nothing is ever answered; the connection stays.
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One C-STORE request as it arrives."""

    sop_instance_uid: str
    #: Position among all arrivals, from 1.
    number: int
    #: Position of this UID's first arrival among the first arrivals, from 1.
    instance_number: int
    #: How often this UID arrived, this time included.
    attempt: int


@dataclass(frozen=True, slots=True)
class Action:
    """What the peer does with an arrival."""

    status: int = 0x0000
    #: Whether the instance is really kept.
    keeps: bool = True
    ending: Ending | None = None
    #: Seconds before the answer.
    delay_s: float = 0.0


Fault = Callable[[Arrival], Action]


def honest(_arrival: Arrival) -> Action:
    """Keep everything and say so."""
    return Action()


def drop_every(n: int) -> Fault:
    """Answer 0000 and keep nothing of every n-th instance, however often it comes."""
    return lambda arrival: Action(keeps=arrival.instance_number % n != 0)


def refuse_every(n: int, status: int, times: int | None = None) -> Fault:
    """Refuse every n-th instance with `status`: the first `times` attempts, or always."""

    def act(arrival: Arrival) -> Action:
        if arrival.instance_number % n or (times is not None and arrival.attempt > times):
            return Action()
        return Action(status, keeps=False)

    return act


def warn_all(status: int) -> Fault:
    """Keep everything and answer with a warning (B000 ...)."""
    return lambda _arrival: Action(status)


def end_after(n: int, ending: Ending, *, once: bool = True) -> Fault:
    """End the association at arrival n + 1, which is not kept; with `once` false at all later."""

    def act(arrival: Arrival) -> Action:
        ends = arrival.number == n + 1 if once else arrival.number > n
        return Action(keeps=False, ending=ending) if ends else Action()

    return act


def slow(delay_s: float) -> Fault:
    """Keep everything, and take `delay_s` seconds for each."""
    return lambda _arrival: Action(delay_s=delay_s)


@dataclass(frozen=True, slots=True)
class QueryBehaviour:
    """How the peer answers C-FIND; by default truly and completely."""

    #: Answers to one question at most; 0 means no limit.
    cap: int = 0
    #: Final status of a capped answer: 0000 is a cap that nobody tells.
    cap_status: int = 0x0000
    #: Each row of IMAGE level is sent this often (OsiriX: once per frame).
    repeats: int = 1
    #: Whether (0020,1206) and (0020,1208) are answered.
    gives_counts: bool = True
    #: Levels refused with A900.
    refuses_levels: Collection[str] = ()
    #: From this question on (counted from 1) nothing is answered; 0 means never.
    silent_from: int = 0


def _status(text: str) -> int:
    return int(text, 16)


#: Faults of the command line: name, to a maker that takes what stands behind the `=`.
FAULTS: Mapping[str, Callable[[list[str]], Fault]] = MappingProxyType(
    {
        "honest": lambda _arguments: honest,
        "drop-every": lambda arguments: drop_every(int(arguments[0])),
        "refuse-every": lambda arguments: refuse_every(
            int(arguments[0]),
            _status(arguments[1]),
            int(arguments[2]) if len(arguments) > 2 else None,
        ),
        "warn": lambda arguments: warn_all(_status(arguments[0])),
        "abort-after": lambda arguments: end_after(int(arguments[0]), Ending.ABORT),
        "close-after": lambda arguments: end_after(int(arguments[0]), Ending.CLOSE),
        "hang-after": lambda arguments: end_after(int(arguments[0]), Ending.HANG, once=False),
        "slow": lambda arguments: slow(float(arguments[0])),
    }
)


def fault_from_text(text: str) -> Fault:
    """Read `NAME[=ARGUMENT[:ARGUMENT ...]]`, as in `refuse-every=7:A700:1`; ValueError."""
    name, _, rest = text.partition("=")
    try:
        return FAULTS[name](rest.split(":") if rest else [])
    except (KeyError, IndexError, ValueError) as error:
        message = f"no such fault: {text} (known: {', '.join(FAULTS)})"
        raise ValueError(message) from error
