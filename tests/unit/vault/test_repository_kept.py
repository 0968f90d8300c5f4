"""What stays decoded: header blocks, as many bytes as somebody asks for, and little else."""

from __future__ import annotations

from dcmvault.vault.repository import _Kept


def test_what_was_not_used_for_longest_goes_when_less_may_stay() -> None:
    kept = _Kept(100)
    for number in range(4):
        kept.put(bytes([number]), bytes(25))
    assert kept.get(b"\0") is not None
    kept.limit(50)
    assert [number for number in range(4) if kept.get(bytes([number])) is not None] == [0, 3]
    assert kept.size == 50


def test_what_would_drive_most_of_it_out_is_not_kept() -> None:
    kept = _Kept(100)
    kept.put(b"a", bytes(26))
    assert kept.get(b"a") is None
    kept.limit(200)
    kept.put(b"a", bytes(26))
    assert kept.get(b"a") is not None
