from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dcmvault.config.addresses import destination_section, is_plain_word, source_section
from dcmvault.config.listener_section import ListenerSourceSection
from dcmvault.config.locations import SftpPlace, sftp_place
from dcmvault.config.peer_sections import (
    DicomwebSourceSection,
    DimseDestinationSection,
    DimseSourceSection,
    OrthancSourceSection,
    StowDestinationSection,
)
from dcmvault.config.sections import (
    FolderDestinationSection,
    FolderSourceSection,
    HorosSourceSection,
    VaultDestinationSection,
    VaultSourceSection,
)
from dcmvault.errors import AddressError


def test_a_path_is_a_folder_or_a_library(tmp_path: Path) -> None:
    assert source_section(str(tmp_path)) == FolderSourceSection(path=tmp_path)
    (tmp_path / "Database.sql").touch()
    library = HorosSourceSection(path=tmp_path)
    assert source_section(str(tmp_path)) == library
    assert source_section(f"{tmp_path}/") == library
    assert source_section(f"{tmp_path}/Database.sql") == library
    assert source_section(f"horos:{tmp_path}/") == library
    assert source_section(f"horos:{tmp_path}/Database.sql") == library
    assert source_section(library.address) == library


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for text in ("in", "./in", "in/", "other/../in", f"{tmp_path}//in"):
        assert source_section(text).address == str(tmp_path / "in")
        assert destination_section(text).address == str(tmp_path / "in")
    assert source_section("~/studies").address == str(tmp_path / "home" / "studies")
    assert source_section("horos:~/Horos Data").address == f"horos:{tmp_path}/home/Horos Data"
    assert source_section("./2024:01").address == str(tmp_path / "2024:01")


def test_the_address_of_an_orthanc() -> None:
    section = source_section("Orthanc+HTTP://LocalHost:8042/")
    assert section == OrthancSourceSection(url="http://localhost:8042")
    assert section.address == "orthanc+http://localhost:8042"
    assert source_section(section.address) == section
    behind_a_proxy = source_section("orthanc+https://pacs.example:443/orthanc/")
    assert behind_a_proxy.address == "orthanc+https://pacs.example/orthanc"
    for text, says in (
        ("orthanc+http://pacs.example:8042", "write https, or say"),
        ("orthanc+https://me@host", "stand in the configuration"),
        ("orthanc+https://host/a?b", "Nothing may follow"),
        ("orthanc+https://", "host is missing"),
    ):
        with pytest.raises(AddressError, match=says):
            source_section(text)
    open_to_all = source_section("orthanc+http://pacs.example:8042", allow_plain_http=True)
    assert open_to_all.address == "orthanc+http://pacs.example:8042"


def test_nothing_is_written_into_a_library(tmp_path: Path) -> None:
    (tmp_path / "Database.sql").touch()
    for text in (str(tmp_path), f"horos:{tmp_path}", f"{tmp_path}/Database.sql"):
        with pytest.raises(AddressError, match="cannot be a destination"):
            destination_section(text)


@pytest.mark.parametrize(
    ("address", "called", "host", "port", "calling"),
    [
        ("dicom://ORTHANC@127.0.0.1:4242", "ORTHANC", "127.0.0.1", 4242, "DCMVAULT"),
        ("DICOM://PACS@Pacs.Example:104", "PACS", "pacs.example", 104, "DCMVAULT"),
        ("dicom://PACS@pacs/?calling=HOROS", "PACS", "pacs", 104, "HOROS"),
        ("dicom://pacs:11112", "ANY-SCP", "pacs", 11112, "DCMVAULT"),
        ("dicom://PACS@[::1]:104", "PACS", "::1", 104, "DCMVAULT"),
        ("dicom://MY%20PACS@h:1?calling=A%40B", "MY PACS", "h", 1, "A@B"),
    ],
)
def test_the_address_of_a_pacs(
    address: str, called: str, host: str, port: int, calling: str
) -> None:
    section = destination_section(address)
    assert section == DimseDestinationSection(
        called_ae_title=called, host=host, port=port, calling_ae_title=calling
    )
    assert destination_section(section.address) == section


def test_the_address_of_a_pacs_over_tls() -> None:
    section = destination_section("DICOMS://PACS@Pacs.Example?calling=HOROS")
    assert section == DimseDestinationSection(
        called_ae_title="PACS",
        host="pacs.example",
        port=2762,
        tls=True,
        calling_ae_title="HOROS",
    )
    assert section.address == "dicoms://PACS@pacs.example:2762?calling=HOROS"
    assert destination_section(section.address) == section
    other_port = destination_section("dicoms://PACS@pacs.example:104")
    assert other_port.address == "dicoms://PACS@pacs.example:104?calling=DCMVAULT"


AE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"),
    min_size=1,
    max_size=16,
)


@given(called=AE, calling=AE, port=st.integers(1, 65535))
def test_every_ae_title_survives_the_canonical_address(
    called: str, calling: str, port: int
) -> None:
    section = DimseDestinationSection(
        host="::1", port=port, called_ae_title=called, calling_ae_title=calling
    )
    assert destination_section(section.address) == section


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("horos:", "names no folder"),
        ("a\0b", "NUL"),
        ("./" + "a" * 256, "longer"),
        ("é" * 128, "longer"),
        ("/".join(["a" * 200] * 30), "longer"),
        ("dicom://", "host is missing"),
        ("dicom:PACS", "host is missing"),
        ("dicom://PACS@:104", "host is missing"),
        ("dicom://PACS@host:0", "1 to 65535"),
        ("dicom://PACS@host:70000", "host or the port"),
        ("dicom://PACS@host:http", "host or the port"),
        ("dicom://PACS@[::1:104", "host or the port"),
        ("dicom://PACS:secret@host:104", "colon"),
        ("dicom://PACS@host:104/root", "may follow the port"),
        ("dicom://SEVENTEEN-LETTERS@host:104", "1 to 16"),
        ("dicom://PACS@host:104?calling=A%5CB", "1 to 16"),
        ("dicom://PACS@host:104?calling=", "needs one value"),
        ("dicom://PACS@host:104?calling=A&calling=B", "needs one value"),
        ("dicom://PACS@host:104?caling=A", "unknown option “caling”"),
        ("dicoms://PACS@host:0", "1 to 65535"),
        ("dicoms://PACS@host?tls_fingerprint=00", "unknown option"),
        ("vault:", "names no folder"),
        ("vault:ftp://host/vault", "cannot be at “ftp://”"),
        ("vault:s3://b", "3 to 63"),
        ("vault:s3://Bucket/x", "3 to 63"),
        ("vault:s3://", "3 to 63"),
        ("vault:s3://key@bucket/x", "a bucket alone"),
        ("vault:gs://bucket:80/x", "a bucket alone"),
        ("vault:az://key:secret@bucket", "secret does not belong"),
        ("vault:s3://bucket/a/../b", "no part begins with"),
        ("vault:s3://bucket/a b", "prefix has letters"),
        ("vault:s3://bucket/a?region=x", "options stand in the configuration"),
        ("vault:sftp:///x", "host is missing"),
        ("vault:sftp://host", "path of the folder is missing"),
        ("vault:sftp://u:secret@host/x", "secret does not belong"),
        ("vault:sftp://host:0/x", "1 to 65535"),
        ("vault:sftp://host:x/x", "host or the port"),
        ("dicomweb+https://", "host is missing"),
        ("dicomweb+https:root", "host is missing"),
        ("dicomweb+https://host:0/root", "1 to 65535"),
        ("dicomweb+https://host:x/root", "host or the port"),
        ("dicomweb+https://me@host/root", "stand in the configuration"),
        ("dicomweb+https://me:secret@host/root", "stand in the configuration"),
        ("dicomweb+https://host/root?x=1", "follow the path"),
        ("dicomweb+https://host/root#x", "follow the path"),
        ("dicomweb+https://host/a//b", "do not belong"),
        ("dicomweb+https://host/../b", "do not belong"),
        ("dicomweb+https://host/a b", "do not belong"),
        ("dicomweb+https://host/a%0", "do not belong"),
        ("dicomweb+https://pacs evil/a", "neither spaces nor letters"),
        ("dicomweb+https://pacs\u00a0evil/a", "neither spaces nor letters"),
        ("dicomweb+https://pacs%20evil\x7f/a", "neither spaces nor letters"),
        ("dicomweb+https://k\u00f6ln..de/a", "host or the port"),
        ("dicomweb+ftp://host/root", "no kind of address"),
        ("orthanc+http://host:8042", "write https, or say|REST interface is for reading"),
        ("orthanc+http://", "host is missing"),
        ("orthanc+https://me:secret@host", "stand in the configuration"),
        ("dicomm://PACS@host:104", "no kind of address"),
        ("backup:2024", "no kind of address"),
    ],
)
def test_what_is_wrong_is_said(address: str, says: str) -> None:
    for parse in (source_section, destination_section):
        with pytest.raises(AddressError, match=says) as caught:
            parse(address)
        assert caught.value.exit_status == 2


def test_there_is_one_listener() -> None:
    """It is a source without anything behind its colon, and no destination."""
    assert source_section("listener:").address == "listener:"
    assert source_section("LISTENER:") == ListenerSourceSection()
    with pytest.raises(AddressError, match="Nothing may follow"):
        source_section("listener:11112")
    with pytest.raises(AddressError, match="cannot be a destination"):
        destination_section("listener:")


def test_the_nearest_word_is_offered() -> None:
    with pytest.raises(AddressError) as caught:
        destination_section("dicomm://PACS@host:104")
    assert "dicom" in caught.value.hint
    with pytest.raises(AddressError) as caught:
        destination_section("dicom://PACS@host:104?caling=A")
    assert "calling" in caught.value.hint
    with pytest.raises(AddressError) as caught:
        source_section("backup:2024")
    assert "./backup:2024" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("vault:/backup//vault/", "vault:/backup/vault"),
        ("VAULT:/backup/../vault", "vault:/vault"),
        ("vault:S3://bucket//my/prefix/", "vault:s3://bucket/my/prefix"),
        ("vault:gs://my-bucket", "vault:gs://my-bucket"),
        ("vault:az://container/vault.1", "vault:az://container/vault.1"),
        ("vault:sftp://me@Nas.Example:22/volume/../vault/", "vault:sftp://me@nas.example/vault"),
        ("vault:sftp://nas:2222/a b", "vault:sftp://nas:2222/a b"),
        ("vault:sftp://me%40home@[::1]:2222/%7e/x", "vault:sftp://me%40home@[::1]:2222/~/x"),
    ],
)
def test_the_address_of_a_vault(address: str, canonical: str) -> None:
    for parse in (source_section, destination_section):
        section = parse(address)
        assert section.address == canonical
        assert parse(section.address) == section
    assert destination_section(address) == VaultDestinationSection(
        location=canonical.removeprefix("vault:")
    )


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("dicomweb+https://pacs/dicom-web", "dicomweb+https://pacs/dicom-web"),
        ("DICOMweb+HTTPS://Pacs.Example:443/a/B/", "dicomweb+https://pacs.example/a/B"),
        ("dicomweb+https://pacs:8443", "dicomweb+https://pacs:8443"),
        ("dicomweb+https://K\u00f6ln.de/x", "dicomweb+https://xn--kln-sna.de/x"),
        ("dicomweb+https://[2001:DB8::1]:8443/x", "dicomweb+https://[2001:db8::1]:8443/x"),
        ("dicomweb+http://127.0.0.1:8042/dicom-web", "dicomweb+http://127.0.0.1:8042/dicom-web"),
        ("dicomweb+http://[::1]:80/x%20y", "dicomweb+http://[::1]/x%20y"),
        ("dicomweb+http://localhost/", "dicomweb+http://localhost"),
    ],
)
def test_the_address_of_a_dicomweb_service(address: str, canonical: str) -> None:
    section = destination_section(address)
    assert section == StowDestinationSection(url=canonical.removeprefix("dicomweb+"))
    assert section.address == canonical
    assert destination_section(section.address) == section
    as_source = source_section(address)
    assert as_source == DicomwebSourceSection(url=canonical.removeprefix("dicomweb+"))
    assert as_source.address == canonical


@pytest.mark.parametrize(
    "host", ["pacs", "10.0.0.5", "localhost.example", "128.0.0.1", "[fe80::1]"]
)
def test_plain_http_stays_on_this_machine(host: str) -> None:
    address = f"dicomweb+http://{host}:8042/dicom-web"
    with pytest.raises(AddressError, match="HTTP without TLS"):
        destination_section(address)
    section = destination_section(address, allow_plain_http=True)
    assert isinstance(section, StowDestinationSection)
    assert section.allow_plain_http
    with pytest.raises(AddressError, match="HTTP without TLS"):
        source_section(address)
    assert source_section(address, allow_plain_http=True).address == section.address


def test_the_folder_of_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = destination_section("vault:here"), destination_section("vault:s3://bucket/x")
    assert isinstance(near, VaultDestinationSection)
    assert isinstance(far, VaultDestinationSection)
    assert (near.scheme, near.path) == ("", tmp_path / "here")
    assert (far.scheme, far.path) == ("s3", None)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "Database.sql").touch()
    with pytest.raises(AddressError, match="library cannot be a destination"):
        destination_section("vault:here")


def test_an_sftp_place_is_taken_apart() -> None:
    section = source_section("vault:sftp://me%40home@[::1]:2222/a b/%25")
    assert isinstance(section, VaultSourceSection)
    assert sftp_place(section.location) == SftpPlace("me@home", "::1", 2222, "/a b/%")
    assert sftp_place("sftp://nas/vault") == SftpPlace("", "nas", 22, "/vault")


@pytest.mark.parametrize("address", ["dicom://PACS@host:104", "dicoms://PACS@host"])
def test_a_pacs_is_a_source_as_it_is_a_destination(address: str) -> None:
    section = source_section(address)
    assert isinstance(section, DimseSourceSection)
    assert section.address == destination_section(address).address
    assert (section.retrieve, section.move_to, section.move_port) == ("get", "", 11112)


def test_what_would_come_back_without_tls_is_refused() -> None:
    with pytest.raises(ValidationError, match="without TLS"):
        DimseSourceSection(host="pacs", tls=True, retrieve="move")


@pytest.mark.parametrize("title", ["a" * 17, "a\\b", "é"])
def test_whom_the_pacs_sends_to_is_an_ae_title(title: str) -> None:
    with pytest.raises(ValidationError):
        DimseSourceSection(host="pacs", move_to=title)


def test_a_path_must_be_unicode() -> None:
    with pytest.raises(AddressError, match="UTF-8"):
        source_section(os.fsdecode(b"/studies/\xff"))


def test_a_drive_is_a_path() -> None:
    assert isinstance(destination_section("C:"), FolderDestinationSection)


@pytest.mark.parametrize(
    ("address", "plain"),
    [("pacs", True), ("./pacs", False), ("~", False), ("a/b", False), ("horos:x", False)],
)
def test_a_plain_word_may_be_a_misspelt_name(address: str, plain: bool) -> None:
    assert is_plain_word(address) is plain


@pytest.mark.parametrize(
    ("address", "location", "snapshot"),
    [
        ("vault:/a", "/a", ""),
        ("vault:/a#1A2b3c4d", "/a", "1a2b3c4d"),
        ("vault:s3://bucket/x#latest", "s3://bucket/x", "latest"),
        ("vault:/a#b#", "/a#b", ""),
        ("vault:/a#b#1a2b", "/a#b", "1a2b"),
    ],
)
def test_a_snapshot_of_a_vault(address: str, location: str, snapshot: str) -> None:
    section = source_section(address)
    assert isinstance(section, VaultSourceSection)
    assert (section.location, section.snapshot) == (location, snapshot)
    assert source_section(section.address) == section


def test_what_is_no_snapshot_of_a_vault() -> None:
    with pytest.raises(AddressError, match="no snapshot"):
        source_section("vault:/a#b c")
