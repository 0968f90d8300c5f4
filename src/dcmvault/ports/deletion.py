"""What the catalogue tells whoever asks whether originals may be deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from dcmvault.model.deletion import StudyFacts
from dcmvault.model.identifiers import SourceId


class DeletionCatalogue(Protocol):
    """Facts about the studies that a source lists, and their copies at all its destinations."""

    def study_facts(
        self, source_id: SourceId, study_instance_uids: Collection[str] = ()
    ) -> Iterator[StudyFacts]:
        """Yield the facts of every study with an entry at the source, or of these only.

        As the last pass over the source found it. Destinations are those that the source was ever
        sent to; what stands for an instance there counts as it. Copies know nothing of locks.
        """
        ...

    def unplaced(self, source_id: SourceId) -> int:
        """Count the source's entries whose study is not known and that no destination holds.

        They could not be read when they were listed last, or are no valid DICOM.
        """
        ...
