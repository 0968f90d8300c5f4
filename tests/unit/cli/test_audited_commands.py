"""What the journal gets to know of a command line: no passwords, no names of people."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dcmvault.cli.audited import audited


def journal_of(command: str, home: Path, **params: object) -> str:
    context = click.Context(click.Command(command), info_name=command)
    context.params = dict(params)
    with audited(context) as ended:
        ended.exit_status = 2
    return "".join(path.read_text() for path in (home / "audit").glob("*.jsonl"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCMVAULT_HOME", str(tmp_path))
    return tmp_path


def test_a_password_in_an_address_is_not_written_down(home: Path) -> None:
    """The command refuses such an address, after its begin was written down."""
    told = journal_of(
        "backup",
        home,
        source="orthanc+http://ana:s3cret@pacs:8042",
        to=("dicomweb+https://ana:s3cret@pacs/dicom-web", "dicom://A@pacs:4242"),
    )
    assert "s3cret" not in told
    assert "orthanc+http://***@pacs:8042" in told
    assert "dicom://A@pacs:4242" in told


def test_a_name_in_the_place_of_a_study_is_not_written_down(home: Path) -> None:
    told = journal_of("restore", home, source="vault", studies=("Silva^Maria", "1.2.3"))
    assert "Silva" not in told
    assert '"study_instance_uids":["1.2.3"]' in told
