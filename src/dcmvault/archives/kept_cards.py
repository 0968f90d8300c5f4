"""Cards of a vault's studies on this machine: a service that starts again knows them at once.

They are sealed under the vault's own keys, as the vault is: whoever has only the file learns
nothing. They are never needed: a file that cannot be read, or is another version's, is no file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import zstandard

from dcmvault.archives.study_cards import CARD_TAGS, SeriesCount, StudyCard
from dcmvault.archives.study_table import StudyRow
from dcmvault.errors import DestinationError, StateError, VaultDamagedError
from dcmvault.vault.records import json_bytes, unpack_json
from dcmvault.vault.repository import Vault

_log = logging.getLogger(__name__)

#: Of the sealed object; the vault itself has none of this kind.
_KIND = b"c"
_DIGEST_BYTES = 32
_LEVEL = 6
#: Cards that are encoded at once.
_CARDS_AT_ONCE = 500
#: What a file was written as, and which attributes its cards have.
_FORM = [1, sorted(CARD_TAGS)]

#: What reading a document raises that has another form than it says.
_NO_CARDS = (LookupError, TypeError, ValueError, AttributeError)

#: By study and manifest.
Cards = Mapping[tuple[str, bytes], StudyCard]


class KeptCards:
    """The file of one vault's cards in a folder, mode 0600."""

    def __init__(self, vault: Vault, folder: Path) -> None:
        self._vault = vault
        self._path = folder / f"{vault.config.vault_id.hex()}.cards"
        #: Of what the file holds; None where there is one that could not be read.
        self._written: frozenset[tuple[str, bytes]] | None = None

    def load(self) -> Cards:
        """Return what was kept; nothing where it cannot be read."""
        try:
            cards = self._read(self._path.read_bytes())
        except FileNotFoundError:
            self._written = frozenset()
            return {}
        except (OSError, DestinationError, *_NO_CARDS) as error:
            _log.warning("kept cards cannot be read and are made anew: %s", type(error).__name__)
            return {}
        self._written = frozenset(cards)
        return cards

    def save(self, rows: Iterable[StudyRow], cards: Cards) -> None:
        """Keep the cards of these studies, and of no others; a failure is logged.

        A card that may say less than its study, because something of it was damaged, is not kept.
        """
        whole = {
            key: card
            for row in rows
            if (card := cards.get(key := (row.study_instance_uid, row.manifest))) is not None
            and card.attributes
            and card.instances == row.files
        }
        if whole.keys() == self._written:
            return
        try:
            self._write(whole)
        except (OSError, DestinationError) as error:
            _log.warning("cards could not be kept: %s", type(error).__name__)
        else:
            self._written = frozenset(whole)

    def forget(self, study_instance_uid: str) -> None:
        """Let go of a study's cards: patient data that is to be forgotten is not kept here.

        Where the others' cards cannot be kept without it, none are. Raises StateError where the
        file stays as it is.
        """
        try:
            cards = self._read(self._path.read_bytes())
            rest = {key: card for key, card in cards.items() if key[0] != study_instance_uid}
            if cards and len(rest) == len(cards):
                return
            self._write(rest)
        except FileNotFoundError:
            return
        except (OSError, DestinationError, *_NO_CARDS):
            self._remove()

    def _remove(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(
                f"what was kept of the study for quick answers cannot be removed: {error.strerror}",
                hint="The vault has forgotten the study. Remove the folder “cards” in the state "
                "folder; it is made anew.",
            ) from error

    def _read(self, data: bytes) -> Cards:
        content = self._vault.sealing.open(_KIND, data)
        digest, packed = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        # A vault without encryption has nothing else that tells damage.
        if hashlib.sha256(packed).digest() != digest:
            raise VaultDamagedError("kept cards are damaged")
        document = unpack_json(packed)
        if document["form"] != _FORM:
            return {}
        kinds = [(sop_class, syntax) for sop_class, syntax in document["kinds"]]
        return {
            (uid, bytes.fromhex(manifest)): StudyCard(
                {int(tag): value for tag, value in attributes.items()},
                tuple(
                    SeriesCount(one, instances, tuple(kinds[number] for number in numbers))
                    for one, instances, numbers in series
                ),
            )
            for uid, manifest, attributes, series in document["cards"]
        }

    def _write(self, cards: Cards) -> None:
        packed = zstandard.compress(b"".join(_document(cards)), _LEVEL)
        data = self._vault.sealing.seal(_KIND, hashlib.sha256(packed).digest() + packed)
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).replace(self._path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _document(cards: Cards) -> Iterator[bytes]:
    """Yield the JSON in parts: whoever encodes it at once lets nobody else go on meanwhile."""
    kinds: dict[tuple[str, str], int] = {}
    yield b'{"cards":['
    coming = iter(cards.items())
    divider = b""
    while some := list(islice(coming, _CARDS_AT_ONCE)):
        rows = [_row(*key, card, kinds) for key, card in some]
        yield divider + json.dumps(rows, separators=(",", ":"))[1:-1].encode()
        divider = b","
    rest = {"form": _FORM, "kinds": list(kinds)}
    yield b"]," + json_bytes(rest)[1:]


def _row(
    uid: str, manifest: bytes, card: StudyCard, kinds: dict[tuple[str, str], int]
) -> list[object]:
    """Return a card as JSON has it, with `kinds` by number; new ones are numbered."""
    series = [
        [
            one.series_instance_uid,
            one.instances,
            [kinds.setdefault(kind, len(kinds)) for kind in one.kinds],
        ]
        for one in card.series
    ]
    attributes = {str(tag): value for tag, value in card.attributes.items()}
    return [uid, manifest.hex(), attributes, series]
