"""What the catalogue tells whoever writes down what a run left at its destinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from dcmvault.model.identifiers import RunId
from dcmvault.model.manifest import ListedInstance


class ManifestCatalogue(Protocol):
    """Digests of what destinations hold."""

    def held_after(self, run_id: RunId) -> Iterator[tuple[str, Sequence[ListedInstance]]]:
        """Yield what each destination of a run holds now of the studies that the run was about.

        Address and whole studies, some at a time; a destination comes several times where it has
        many. Held by evidence, or by receipts where only these were asked for; all versions.
        Instances whose file digest is not known (they were found there, never read) are left out.
        """
        ...
