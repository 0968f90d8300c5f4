"""The chain of manifests with the catalogue as its outside witness: who cut it is found out."""

from __future__ import annotations

from pathlib import Path

from dcmvault.app.manifest_chain import Chain, read_chain
from dcmvault.app.wiring.workplace import known_catalogue
from dcmvault.config.settings import Settings


def chain_of(home: Path, settings: Settings) -> Chain:
    """Read the chain of a state folder as `read_chain` does, with its catalogue as a witness."""
    with known_catalogue(home, settings) as catalogue:
        if catalogue is None:
            return read_chain(home)
        return read_chain(home, catalogue.manifests.newest_link)
