"""Options of a destination that say how copies are read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.config.load import load_settings
from dcmvault.config.peer_sections import DimseDestinationSection, StowDestinationSection
from dcmvault.errors import ConfigurationError


def _pacs(tmp_path: Path, options: str, *, scheme: str = "dicom") -> DimseDestinationSection:
    path = tmp_path / "config.toml"
    path.write_text(f'[destinations.pacs]\naddress = "{scheme}://A@host:104"\n{options}\n')
    section = load_settings(path).destinations["pacs"].section
    assert isinstance(section, DimseDestinationSection)
    return section


def test_c_move_needs_its_port(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="move_port"):
        _pacs(tmp_path, 'retrieve = "move"')
    assert _pacs(tmp_path, 'retrieve = "move"\nmove_port = 11113').move_port == 11_113


def test_c_move_would_come_back_without_tls(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="without TLS"):
        _pacs(tmp_path, "move_port = 11113", scheme="dicoms")


def test_an_orthanc_beside_a_pacs(tmp_path: Path) -> None:
    assert _pacs(tmp_path, "").orthanc.url == ""
    table = '[destinations.pacs.orthanc]\nurl = "http://127.0.0.1:8042"\n'
    login = 'user = "backup"\npassword = "env:ORTHANC_PASSWORD"\n'
    assert _pacs(tmp_path, table + login).orthanc.user == "backup"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('urll = "http://127.0.0.1:8042"', "Did you mean “url”"),
        ('url = "http://orthanc.example:8042"', "HTTP without TLS"),
        ('url = "localhost:8042"', "https://"),
        ('url = "http://127.0.0.1:8042"\nuser = "backup"', "go together"),
    ],
)
def test_an_orthanc_that_cannot_be(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _pacs(tmp_path, f"[destinations.pacs.orthanc]\n{line}")
    assert said in f"{caught.value.message}{caught.value.hint}"


def test_a_dicomweb_service_may_coerce() -> None:
    section = StowDestinationSection(url="https://host/root", coerced="(0010,0020)")
    assert section.coerced_tags == {0x00100020}
