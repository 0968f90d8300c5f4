"""A real vault of very many small studies: one image of 16 x 16 pixels each, made once.

Files are made of a template in memory and go through the vault's writer as those of a backup do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import product
from pathlib import Path

from dcmvault.app.wiring.clock import SystemClock
from dcmvault.dicom.byte_source import MemoryBytes
from dcmvault.dicom.part10 import scan_bytes
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile
from dcmvault.object_stores.local import LocalStore
from dcmvault.testing.dicom_files import make_instance
from dcmvault.vault.initialise import init_vault
from dcmvault.vault.profile import PROFILES
from dcmvault.vault.repository import open_vault
from dcmvault.vault.taking_snapshots import Change, take_snapshot
from dcmvault.vault.writer import KnownFiles, VaultWriter

_BEGIN, _MIDDLE = ("Al", "Bra", "Cos", "Du", "Fer"), ("ri", "ma", "va", "lo", "ne")
_END = ("s", "ra", "do", "ca", "nt", "z", "no", "ti")
#: 200 of each: a family name and * means 500 studies of 100,000.
FAMILY_NAMES = tuple(map("".join, product(_BEGIN, _MIDDLE, _END)))
GIVEN_NAMES = tuple(map("".join, product(("An", "Be", "Jo", "Lu", "Ma"), _MIDDLE, _END)))
_FIRST_DAY = date(2010, 1, 1)
DAYS = 5000
_FLUSHED = 2000
#: Values of the template, each as long as what stands for it.
_UIDS = {kind: f"1.2.826.0.1.3680043.8.498.8{kind}.{10**8}" for kind in (1, 2, 3)}
_NAME, _ID, _DATE = "Name^" + "x" * 15, "ID-0000000", "20100101"


def study_date(number: int) -> str:
    """Return the date of a day, counted from the first."""
    return f"{_FIRST_DAY + timedelta(days=number):%Y%m%d}"


def make_vault(folder: Path, studies: int) -> None:
    """Make an unencrypted vault with so many studies, and its snapshot."""
    clock = SystemClock()
    store = LocalStore(folder, clock)
    init_vault(store, [], clock, encrypted=False)
    vault = open_vault(store, [], clock)
    profile = PROFILES["fast"]
    with ThreadPoolExecutor(2) as encoders:
        known = KnownFiles(lambda _uid: [])
        writer = VaultWriter(vault, known, profile, encoders, source="/bench", run="bench")
        contents = _contents(folder.with_name("template.dcm"), studies)
        while batch := [one for _number, one in zip(range(_FLUSHED), contents, strict=False)]:
            for locator, content in batch:
                source = MemoryBytes(content)
                entry = InstanceEntry(locator, Fingerprint(len(content), 0, 0))
                writer.put(InstanceFile(entry, Path(), scan_bytes(source)), source)
            writer.flush()
        writer.close()
    take_snapshot(vault, Change("backup", "bench", "/bench", None), profile)


def _contents(sample: Path, studies: int) -> Iterator[tuple[str, bytes]]:
    """Yield locators and files: the template with the values of each study."""
    make_instance(
        sample,
        _UIDS[1],
        _UIDS[2],
        _UIDS[3],
        patient_name=_NAME,
        patient_id=_ID,
        study_date=_DATE,
        study_description="Bench",
    )
    template = sample.read_bytes()
    sample.unlink()
    places = {
        text.encode(): number for number, text in enumerate((*_UIDS.values(), _NAME, _ID, _DATE))
    }
    cut = re.split(b"(" + b"|".join(map(re.escape, places)) + b")", template)
    parts = [places.get(part, part) for part in cut]
    rng = random.Random(7)
    for number in range(studies):
        uids = [f"1.2.826.0.1.3680043.8.498.8{kind}.{10**8 + number}".encode() for kind in _UIDS]
        name = f"{rng.choice(FAMILY_NAMES)}^{rng.choice(GIVEN_NAMES)}".ljust(len(_NAME))
        values = (
            *uids,
            name.encode(),
            f"ID-{number:07}".encode(),
            study_date(rng.randrange(DAYS)).encode(),
        )
        content = b"".join(values[one] if isinstance(one, int) else one for one in parts)
        # Other pixels in each, or all would share one blob.
        yield f"{number:06}", content[:-8] + number.to_bytes(8, "little")
