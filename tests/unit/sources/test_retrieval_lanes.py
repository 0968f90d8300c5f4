"""Lanes of a retrieval: whatever happens to one batch, the others do not wait for ever."""

from __future__ import annotations

from typing import cast

import pytest

from dcmvault.config.peer_sections import DimseSourceSection
from dcmvault.dicom.channel import Peer
from dcmvault.dicom.intake import Room
from dcmvault.model.instance import InstanceIdentity
from dcmvault.sources.fetched_files import FetchedFiles
from dcmvault.sources.query_retrieve import fetching
from dcmvault.sources.query_retrieve.lane import Batch, Lane


def test_a_defect_gives_its_lane_back() -> None:
    """A failure that nobody foresaw is raised, and its lane is there for the next batch."""
    section = DimseSourceSection(host="127.0.0.1", max_associations=1)
    with FetchedFiles(kept=1, longest_file=1) as files:
        retrieval = fetching._Retrieval(section, cast("Peer", None), files, Room(1))
        lane = cast("Lane", object())
        retrieval._lanes.put(lane)

        def defect(_lane: Lane) -> None:
            raise ZeroDivisionError

        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                retrieval._by_a_lane(Batch(InstanceIdentity("1", "2", "3")), defect)
        assert retrieval._lanes.get_nowait() is lane
