"""Instances by which one sees whether a peer sends anything back now.

Where nothing of a study comes, either it is lost or the peer sends nothing back at all: to us, by
this way, at this time. What it sent back a while ago, or lists elsewhere, tells which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

from dcmvault.destinations.ways_back import Asked, WayBack
from dcmvault.dicom.returning import Returning, WantedInstance
from dcmvault.errors import AssociationLostError
from dcmvault.model.instance import InstanceKind

#: Instances of other studies that are asked for, at most.
_ASKED = 5
_REMEMBERED = 4


@dataclass(frozen=True, slots=True)
class Witness:
    """One instance, and how to ask for it."""

    asked: Asked
    wanted: WantedInstance


def _nothing_listed(_study_instance_uid: str) -> Iterable[Witness]:
    return ()


@dataclass(slots=True)
class Witnesses:
    """What one peer is known to have, of several studies. Safe for several threads.

    `listed` finds instances that the peer names outside a study, and raises nothing.
    """

    listed: Callable[[str], Iterable[Witness]] = _nothing_listed
    _seen: deque[Witness] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def came_back(self, witness: Witness) -> None:
        """Remember an instance that the peer sent back just now."""
        uid = witness.asked.study_instance_uid
        if not self._seen or self._seen[-1].asked.study_instance_uid != uid:
            self._seen.append(witness)

    def sends_back(self, way: WayBack, study_instance_uid: str, kind: InstanceKind) -> bool:
        """Ask for instances of other studies until one comes.

        Where associations are negotiated it tells about its own kind only: a peer may take the
        part of an SCU for one SOP class, and not for another. Raises as `WayBack.fetch` does.
        """
        telling = (
            one
            for one in self._of_others(way, study_instance_uid)
            if way.singly or kind in one.asked.kinds
        )
        for witness in islice(telling, _ASKED):
            came: list[str] = []

            def take(uid: str, file: BinaryIO, came: list[str] = came) -> None:
                came.append(uid)
                file.close()

            returning = Returning([witness.wanted], take)
            try:
                way.fetch(witness.asked, returning)
            except AssociationLostError:
                continue
            if came or returning.too_large:
                return True
        return False

    def _of_others(self, way: WayBack, study_instance_uid: str) -> Iterator[Witness]:
        # The latest of each study: what is asked for is not all one study that is lost, too.
        seen = {one.asked.study_instance_uid: one for one in list(self._seen)}
        yield from (one for uid, one in reversed(seen.items()) if uid != study_instance_uid)
        # Who lists needs a connection, and one may be all that may stand.
        way.end(sound=True)
        yield from self.listed(study_instance_uid)
