"""What the catalogue tells whoever writes down what a run left at its destinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from dcmvault.model.identifiers import RunId
from dcmvault.model.manifest import ListedInstance


@dataclass(frozen=True, slots=True)
class NewestLink:
    """The link of a chain of manifests that was added last, as somebody outside it knows it."""

    sequence: int
    sha256: str  #: of its file


class ManifestCatalogue(Protocol):
    """Digests of what destinations hold, and the outside witness of chains of manifests."""

    def held_after(self, run_id: RunId) -> Iterator[tuple[str, Sequence[ListedInstance]]]:
        """Yield what each destination of a run holds now of the studies that the run was about.

        Address and whole studies, some at a time; a destination comes several times where it has
        many. Held by evidence, or by receipts where only these were asked for; all versions.
        Instances whose file digest is not known (they were found there, never read) are left out.
        """
        ...

    def newest_link(self, chain: str) -> NewestLink | None:
        """Return the newest link of a chain, named by its key's fingerprint; None if unknown."""
        ...

    def remember_link(self, chain: str, link: NewestLink) -> None:
        """Remember a link as the newest of its chain; one that is older is left out."""
        ...
