"""Quarantine: what to do with the instances that were in flight when an association ended.

Whether the peer has them is unknown, and one of them may be what made the peer end the association.
So each is sent once more, alone; if that ends the association too, it is left for this run.
"""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.errors import AssociationLostError, InstanceQuarantinedError
from dcmvault.ports.catalogue import Item


def is_suspect(item: Item) -> bool:
    """Say whether an association ended at the last attempt while this item was in flight."""
    return item.code == AssociationLostError.code


def travelling_together(due: Sequence[Item]) -> list[Item]:
    """Return which of these items go next: all that are beyond suspicion, else one suspect.

    The others stay due. Suspects come last, so that they can keep nothing else from its copy.
    """
    unsuspected = [item for item in due if not is_suspect(item)]
    return unsuspected or list(due[:1])


def after_loss(item: Item, error: AssociationLostError) -> AssociationLostError:
    """Return the error of an item that was in flight: the loss itself, or its quarantine."""
    if not is_suspect(item):
        return error
    return InstanceQuarantinedError(
        f"sent once more and alone, it met the same end: {error.message}",
        hint="Look at the peer's log for this instance; a vault or folder takes it as it is.",
    )
