"""The instance that was in flight when an association ended: once more alone, then left."""

from __future__ import annotations

from dcmvault.errors import AssociationLostError, Retry
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceIdentity, InstanceKind
from dcmvault.model.job import ItemState
from dcmvault.model.plan import PlanItem
from dcmvault.pipeline.quarantine import after_loss, is_suspect, travelling_together
from dcmvault.ports.catalogue import Item

LOST = AssociationLostError("A at b:1 closed the connection", hint="Look at its log.")


def _item(number: int, code: str = "") -> Item:
    entry = InstanceEntry(f"{number}.dcm", Fingerprint(1, 1, 1))
    identity = InstanceIdentity("1.2", "1.3", f"1.4.{number}")
    plan = PlanItem(VersionId(number), entry, identity, InstanceKind("1.5", "1.6"), "new")
    return Item(number, plan, ItemState.DUE, int(bool(code)), code)


def test_who_was_in_flight_is_suspect() -> None:
    assert is_suspect(_item(1, "association_lost"))
    # Nothing was in flight then: not connected, or the peer's word about the instance.
    for code in ("", "unreachable", "refused_for_now"):
        assert not is_suspect(_item(1, code))


def test_suspects_go_last_and_one_by_one() -> None:
    first, second = _item(1, "association_lost"), _item(3, "association_lost")
    others = [_item(2), _item(4, "refused_for_now")]
    assert travelling_together([first, others[0], second, others[1]]) == others
    assert travelling_together([first, second]) == [first]
    assert travelling_together([]) == []


def test_the_first_loss_is_tried_again_and_the_second_is_not() -> None:
    assert after_loss(_item(1), LOST) is LOST
    assert LOST.retry is Retry.LATER
    error = after_loss(_item(1, "association_lost"), LOST)
    assert (error.code, error.retry, error.exit_status) == ("quarantined", Retry.NEVER, 5)
    assert LOST.message in error.message
    assert error.hint
