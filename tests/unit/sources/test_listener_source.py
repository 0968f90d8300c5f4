"""When an instance of the spool has settled, and stays so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dcmvault.config.listener_section import ListenerSection
from dcmvault.errors import SourceUnavailableError
from dcmvault.sources.listener import ListenerSource

STUDY = "a" * 40


def _spool(folder: Path, *came: float) -> ListenerSection:
    """Make a study whose instances came at these seconds."""
    study = folder / "studies" / STUDY
    study.mkdir(parents=True)
    for number, seconds in enumerate(came):
        path = study / f"{number:040x}.dcm"
        path.write_bytes(b"x")
        os.utime(path, (seconds, seconds))
    return ListenerSection(folder=str(folder), settle_s=60)


@pytest.mark.parametrize(
    ("came", "now", "listed"),
    [
        ((1000, 1010, 1020), 1079, 0),
        ((1000, 1010, 1020), 1080, 3),
        ((1000, 1010, 1100), 1101, 2),
        ((1000, 1100, 1150), 1151, 1),
        ((1000, 1100, 1200), 1201, 2),
        ((1000,), 1000, 0),
        ((5000,), 1000, 1),
    ],
)
def test_settled(tmp_path: Path, came: tuple[float, ...], now: float, listed: int) -> None:
    """Listed is what had a minute without a newcomer after it, whatever came later."""
    source = ListenerSource(_spool(tmp_path, *came), now=lambda: now)
    studies = list(source.studies())
    assert len(studies) == (1 if listed else 0)
    assert sum(len(list(source.entries(study))) for study in studies) == listed


def test_nothing_was_received_yet(tmp_path: Path) -> None:
    """Without a spool there is no empty source, but none at all."""
    source = ListenerSource(ListenerSection(folder=str(tmp_path / "none")))
    with pytest.raises(SourceUnavailableError, match="There is no spool"):
        next(source.studies())
