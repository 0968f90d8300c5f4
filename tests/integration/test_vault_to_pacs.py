"""A vault as the source of a PACS: files are rebuilt for several associations at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import RunDcmvault
from tests.integration.story import instances, summary_of

from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peer_faults import slow
from dcmvault.testing.peers import SimulatedPacs


@pytest.mark.parametrize("count", [1, 3, 120])
def test_every_file_is_there_until_it_is_sent(
    run_dcmvault: RunDcmvault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse battery staple")
    make_study(tmp_path / "studies", key="vault to pacs", instances=count)
    vault = f"vault:{tmp_path / 'vault'}"
    assert run_dcmvault("vault", "init", vault).returncode == 0
    assert run_dcmvault("backup", tmp_path / "studies", "--to", vault).returncode == 0
    with SimulatedPacs(slow(0.05 if count < 100 else 0.005)) as pacs:
        address = f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
        summary = summary_of(run_dcmvault("backup", vault, "--to", address, "--json"))
        assert len(pacs.held()) == count
    assert instances(summary) == {"selected": count, "stored": count}
