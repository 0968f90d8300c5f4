"""Files that a source fetches: kept as long as they are used, and never too long."""

from __future__ import annotations

import stat

import pytest

from dcmvault.sources.fetched_files import FetchedFiles, FetchedTooLargeError


def test_the_newest_stay() -> None:
    """Of three files handed out one after the other, the last two are there."""
    with FetchedFiles(kept=2, longest_file=10) as files:
        paths = []
        for number in range(3):
            file = files.new()
            file.write(b"%d" % number)
            paths.append(file.finish())
            files.hand_out(paths[-1])
        assert [path.exists() for path in paths] == [False, True, True]
        assert paths[2].read_bytes() == b"2"
        assert stat.S_IMODE(paths[2].stat().st_mode) == 0o600
        assert stat.S_IMODE(paths[2].parent.stat().st_mode) == 0o700
    assert not paths[2].parent.exists()


def test_too_much() -> None:
    """What a peer sends beyond the limit is refused before it is written."""
    with FetchedFiles(kept=1, longest_file=4) as files:
        file = files.new()
        file.write(b"1234")
        with pytest.raises(FetchedTooLargeError):
            file.write(b"5")
        assert file.size == 4
        file.drop()
        assert not file.path.exists()
