"""The demonstration shows what it says, from an empty folder, and leaves a restored copy."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import RunDcmvault


def test_the_demonstration_tells_its_story(run_dcmvault: RunDcmvault, tmp_path: Path) -> None:
    home = tmp_path / "demo"
    told = run_dcmvault("demo", "--no-open", "--keep", str(home))
    assert told.returncode == 0, told.stderr
    assert "the vault is sound" in told.stdout
    assert "byte for byte the same" in told.stdout
    studies = [path for path in (home / "studies").rglob("*") if path.is_file()]
    assert studies
    for original in studies:
        copy = home / "restored" / original.relative_to(home / "studies")
        assert copy.read_bytes() == original.read_bytes()
    assert (home / "report.html").is_file()
