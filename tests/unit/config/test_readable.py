"""A place is read in the same way, whichever role it is configured for."""

from __future__ import annotations

from pathlib import Path

from dcmvault.config.load import load_settings
from dcmvault.config.peer_sections import DicomwebSourceSection, DimseSourceSection
from dcmvault.config.readable import as_source, readable_section
from dcmvault.config.sections import FolderSourceSection, VaultSourceSection
from dcmvault.config.settings import Settings

_CONFIGURATION = """
[sources.old]
address = "dicom://OLD@old:104?calling=US"
retrieve = "move"

[destinations.new]
address = "dicoms://NEW@new:2762?calling=US"
tls_fingerprint = "{fingerprint}"
max_associations = 7

[destinations.web]
address = "dicomweb+https://host/root"
token = "env:TOKEN"

[destinations.disk]
address = "/backup/copies"

[destinations.safe]
address = "vault:/backup/vault"
key_file = "/keys/one"
profile = "small"
"""


def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(_CONFIGURATION.format(fingerprint="ab" * 32))
    return load_settings(path)


def test_a_destination_is_read_with_what_both_roles_share(tmp_path: Path) -> None:
    known = settings(tmp_path)
    pacs = readable_section(known, "new")
    assert isinstance(pacs, DimseSourceSection)
    assert (pacs.tls, pacs.tls_fingerprint, pacs.max_associations) == (True, "ab" * 32, 2)
    web = readable_section(known, "web")
    assert isinstance(web, DicomwebSourceSection)
    assert web.token == "env:TOKEN"
    assert readable_section(known, "disk") == FolderSourceSection(path=Path("/backup/copies"))
    vault = readable_section(known, "safe")
    assert isinstance(vault, VaultSourceSection)
    assert (vault.key_file, vault.snapshot) == ("/keys/one", "")


def test_an_address_that_is_configured_has_its_options(tmp_path: Path) -> None:
    known = settings(tmp_path)
    for name in ("old", "new", "web", "disk", "safe"):
        section = readable_section(known, name)
        assert readable_section(known, section.address) == section
    # A snapshot of a configured vault is opened by the vault's key.
    assert as_source(known.destination("safe").section).address == "vault:/backup/vault"
    snapshot = readable_section(known, "vault:/backup/vault#abcd1234")
    assert isinstance(snapshot, VaultSourceSection)
    assert (snapshot.key_file, snapshot.snapshot) == ("/keys/one", "abcd1234")
