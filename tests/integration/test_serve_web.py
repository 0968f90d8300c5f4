"""dicomweb-client asks a vault and Orthanc's DICOMweb plug-in for the same: answers are equal."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from scripts import peer_processes
from tests.integration.archive_world import ArchiveWorld
from tests.integration.serving_studies import instance_uid, make_studies, series_uid, study_uid
from tests.integration.web_serving_world import WebAnswering, web_answering

from dcmvault.testing.dicom_files import MadeInstance

pytestmark = pytest.mark.peers


@dataclass
class Peers:
    """Both of them, with the same studies."""

    ours: WebAnswering
    theirs_url: str
    made: tuple[MadeInstance, ...]

    @property
    def client(self) -> DICOMwebClient:
        """A client of ours."""
        return DICOMwebClient(self.ours.url)

    @property
    def their_client(self) -> DICOMwebClient:
        """A client of Orthanc's."""
        return DICOMwebClient(self.theirs_url)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    folder = tmp_path_factory.mktemp("serve-web")
    made = make_studies(folder / "studies")
    world = ArchiveWorld(folder / "vault")
    world.back_up([one.path for one in made])
    with (
        peer_processes.orthanc(DefaultEncoding="Utf8") as orthanc,
        world.archive() as archive,
        web_answering(archive) as ours,
    ):
        for one in made:
            orthanc.store(one.path.read_bytes())
        yield Peers(ours, f"{orthanc.http_url}/dicom-web", made)


#: What differs by what it is: addresses, titles, and what only one of them adds.
ADDED = {"00081190", "00080054", "00080005", "00080056", "00083002", "00201209", "00081195"}


def _plain(rows: list[dict[str, Any]], unique: str) -> dict[str, dict[str, Any]]:
    found = {}
    for row in rows:
        values = {tag: _values(row[tag]) for tag in row if tag not in ADDED}
        found[str(row[unique]["Value"][0])] = {tag: one for tag, one in values.items() if one}
    assert len(found) == len(rows)
    return found


def _values(attribute: dict[str, Any]) -> list[Any]:
    values = []
    for value in attribute.get("Value", []):
        if isinstance(value, dict) and "Alphabetic" in value:
            value = {key: text.rstrip("^ ") for key, text in value.items()}
        elif isinstance(value, str):
            value = value.strip()
        if value not in (None, "", {}):
            values.append(value)
    return sorted(values, key=str)


def _common(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> None:
    """Compare row by row; each may tell attributes unasked that the other does not."""
    assert ours.keys() == theirs.keys()
    for uid, row in ours.items():
        both = row.keys() & theirs[uid].keys()
        assert len(both) >= 3
        assert {tag: row[tag] for tag in both} == {tag: theirs[uid][tag] for tag in both}


STUDIES = [
    {},
    {"PatientName": "doe*"},
    {"00100010": "DOE^J?HN*"},
    {"PatientID": "P-3"},
    {"PatientID": "P?"},
    {"StudyDate": "20200101-20210101"},
    {"StudyDate": "20200102"},
    {"StudyDescription": "CT*"},
    {"AccessionNumber": "A4"},
    {"ModalitiesInStudy": "SR"},
    {"StudyInstanceUID": f"{study_uid(0, 0)},{study_uid(2, 0)},1.2.3"},
    {"PatientID": "nobody"},
]


@pytest.mark.parametrize("keys", STUDIES)
def test_studies_are_found_as_orthanc_finds_them(peers: Peers, keys: dict[str, str]) -> None:
    ours = peers.client.search_for_studies(search_filters=keys)
    # Orthanc reads no escapes here.
    query = urlencode(keys, safe="*?^")
    with urllib.request.urlopen(f"{peers.theirs_url}/studies?{query}", timeout=30) as answer:
        theirs = json.load(answer)
    _common(_plain(ours, "0020000D"), _plain(theirs, "0020000D"))


def test_series_are_found_as_orthanc_finds_them(peers: Peers) -> None:
    for study, keys in ((study_uid(0, 0), {}), (study_uid(0, 0), {"Modality": "SR"}), (None, {})):
        ours = peers.client.search_for_series(study, search_filters=keys)
        theirs = peers.their_client.search_for_series(study, search_filters=keys)
        _common(_plain(ours, "0020000E"), _plain(theirs, "0020000E"))


def test_instances_are_found_as_orthanc_finds_them(peers: Peers) -> None:
    asks: tuple[tuple[str | None, str | None, dict[str, str]], ...] = (
        (study_uid(0, 0), series_uid(0, 0, 1), {}),
        (study_uid(0, 0), series_uid(0, 0, 1), {"InstanceNumber": "2"}),
        (study_uid(3, 1), None, {}),
        (None, None, {}),
    )
    for study, series, keys in asks:
        ours = peers.client.search_for_instances(study, series, search_filters=keys)
        theirs = peers.their_client.search_for_instances(study, series, search_filters=keys)
        _common(_plain(ours, "00080018"), _plain(theirs, "00080018"))


def test_answers_come_in_pages(peers: Peers) -> None:
    every = [row["0020000D"]["Value"][0] for row in peers.client.search_for_studies()]
    paged = [
        row["0020000D"]["Value"][0]
        for offset in range(0, len(every), 3)
        for row in peers.client.search_for_studies(limit=3, offset=offset)
    ]
    assert paged == every
    past = peers.ours.get(f"/studies?offset={len(every)}")
    assert (past.status, past.body) == (204, b"")


def test_more_attributes_are_told_on_request(peers: Peers) -> None:
    asked = f"/studies?StudyInstanceUID={study_uid(0, 0)}&includefield="
    (row,) = peers.ours.get(f"{asked}InstitutionName,00081030").json
    assert row["00080080"]["Value"] == ["General Hospital"]
    (row,) = peers.ours.get(f"{asked}all").json
    assert row["00080080"]["Value"] == ["General Hospital"]


def _of(peers: Peers, uid: str) -> MadeInstance:
    (made,) = (one for one in peers.made if one.sop_instance_uid == uid)
    return made


def test_instances_come_out_bit_for_bit(peers: Peers) -> None:
    """Stored in RLE, implicit and big endian, deflated: with any transfer syntax accepted."""
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    for made in peers.made:
        path = (
            f"/studies/{made.study_instance_uid}/series/{made.series_instance_uid}"
            f"/instances/{made.sop_instance_uid}"
        )
        alone = peers.ours.get(path, Accept="application/dicom; transfer-syntax=*")
        assert alone.body == made.path.read_bytes()
        got = peers.ours.get(path, Accept=accept)
        assert got.headers["Content-Type"].startswith('multipart/related; type="application/dicom"')
        assert made.path.read_bytes() in got.body


def test_studies_and_series_come_whole(peers: Peers) -> None:
    everything = (("application/dicom", "*"),)
    study = peers.client.retrieve_study(study_uid(0, 0), media_types=everything)
    assert {one.SOPInstanceUID for one in study} == {
        one.sop_instance_uid for one in peers.made if one.study_instance_uid == study_uid(0, 0)
    }
    series = peers.client.retrieve_series(study_uid(3, 0), series_uid(3, 0, 2))
    assert len(series) == 2


@pytest.mark.parametrize("key", [(0, 1, 1, 1), (1, 0, 1, 1), (2, 0, 1, 1), (3, 1, 2, 1)], ids=str)
def test_who_says_nothing_gets_explicit_vr_little_endian(
    peers: Peers, key: tuple[int, int, int, int]
) -> None:
    """RLE, implicit, big endian and deflated: equal in all elements and all pixels."""
    uid = instance_uid(*key)
    path = f"/studies/{study_uid(*key[:2])}/series/{series_uid(*key[:3])}/instances/{uid}"
    accept = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    got = pydicom.dcmread(BytesIO(peers.ours.get(path, Accept=accept).body))
    held = pydicom.dcmread(_of(peers, uid).path)
    assert got.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert got.SOPInstanceUID == uid
    assert np.array_equal(got.pixel_array, held.pixel_array)
    assert [one.tag for one in got] == [one.tag for one in held]


def test_metadata_are_what_pydicom_reads(peers: Peers) -> None:
    for made in peers.made:
        (told,) = peers.ours.get(
            f"/studies/{made.study_instance_uid}/series/{made.series_instance_uid}"
            f"/instances/{made.sop_instance_uid}/metadata"
        ).json
        held = pydicom.dcmread(made.path)
        expected = held.to_json_dict(
            bulk_data_threshold=0, bulk_data_element_handler=lambda _e: "x"
        )
        for tag, attribute in expected.items():
            if tag == "00080005":
                continue
            if "BulkDataURI" in attribute:
                assert "BulkDataURI" in told[tag] or "InlineBinary" in told[tag]
                continue
            assert told[tag]["vr"] == attribute["vr"], tag
            assert _values(told[tag]) == _values(attribute), tag


def test_metadata_are_those_of_orthanc(peers: Peers) -> None:
    ours = peers.client.retrieve_study_metadata(study_uid(0, 0))
    theirs = peers.their_client.retrieve_study_metadata(study_uid(0, 0))
    _common(_plain(ours, "00080018"), _plain(theirs, "00080018"))


@pytest.mark.parametrize("key", [(0, 0, 1, 2), (0, 1, 1, 1), (2, 0, 1, 1), (3, 1, 2, 1)], ids=str)
def test_frames_are_samples(peers: Peers, key: tuple[int, int, int, int]) -> None:
    uid = instance_uid(*key)
    place = (study_uid(*key[:2]), series_uid(*key[:3]), uid)
    (frame,) = peers.client.retrieve_instance_frames(
        *place, frame_numbers=[1], media_types=("application/octet-stream",)
    )
    held = pydicom.dcmread(_of(peers, uid).path).pixel_array
    assert frame == held.astype(held.dtype.newbyteorder("<")).tobytes()


def test_a_compressed_frame_comes_as_stored(peers: Peers) -> None:
    path = f"/studies/{study_uid(0, 1)}/series/{series_uid(0, 1, 1)}"
    path += f"/instances/{instance_uid(0, 1, 1, 1)}/frames/1"
    got = peers.ours.get(
        path, Accept='multipart/related; type="application/octet-stream"; transfer-syntax=*'
    )
    assert b"Content-Type: image/dicom-rle; transfer-syntax=1.2.840.10008.1.2.5" in got.body
    held = pydicom.dcmread(_of(peers, instance_uid(0, 1, 1, 1)).path)
    (stored,) = pydicom.encaps.generate_frames(held.PixelData, number_of_frames=1)
    assert stored in got.body


def test_pixel_data_are_where_metadata_say(peers: Peers) -> None:
    uid = instance_uid(0, 0, 1, 1)
    path = f"/studies/{study_uid(0, 0)}/series/{series_uid(0, 0, 1)}/instances/{uid}"
    (told,) = peers.ours.get(f"{path}/metadata").json
    address = told["7FE00010"]["BulkDataURI"].removeprefix(peers.ours.url)
    got = peers.ours.get(address, Accept="application/octet-stream")
    assert pydicom.dcmread(_of(peers, uid).path).PixelData in got.body


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_an_image_is_rendered(peers: Peers, media_type: str) -> None:
    uid = instance_uid(0, 0, 1, 1)
    path = f"/studies/{study_uid(0, 0)}/series/{series_uid(0, 0, 1)}/instances/{uid}"
    got = peers.ours.get(f"{path}/rendered", Accept=media_type)
    assert (got.status, got.headers["Content-Type"]) == (200, media_type)
    image = _decoded(got.body, media_type)
    held = pydicom.dcmread(_of(peers, uid).path)
    assert image.shape == (held.Rows, held.Columns)
    small = _decoded(
        peers.ours.get(f"{path}/rendered?viewport=8,8", Accept=media_type).body, media_type
    )
    assert max(small.shape) == 8
    assert peers.ours.get(f"/studies/{study_uid(0, 1)}/thumbnail").status == 200
    assert peers.ours.get(f"{path}/rendered?window=40,0,linear").status == 400


def _decoded(data: bytes, media_type: str) -> Any:
    if media_type == "image/png":
        return imagecodecs.png_decode(data)
    return imagecodecs.jpeg8_decode(data)


def test_what_cannot_be_given_is_said(peers: Peers) -> None:
    rle = f"/studies/{study_uid(0, 1)}/series/{series_uid(0, 1, 1)}"
    rle += f"/instances/{instance_uid(0, 1, 1, 1)}"
    for path, accept, status in (
        ("/studies/1.2.3", "", 404),
        ("/studies/1.2.3/metadata", "", 404),
        ("/studies/x%20y", "", 400),
        ("/nothing", "", 404),
        ("/studies?limit=x", "", 400),
        ("/studies?Nonsense=1", "", 400),
        ("/studies", "text/html", 406),
        (rle, "image/jpeg", 406),
        (rle, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.100", 406),
        (f"{rle}/frames/2", "", 404),
        (f"{rle}/frames/0", "", 404),
        (f"{rle}/frames/x", "", 400),
        (f"{rle}/bulkdata/00091001", "", 404),
    ):
        got = peers.ours.get(path, Accept=accept)
        assert got.status == status, path
        assert got.json["error"]
    assert peers.ours.get("/studies", "POST").status == 405


def test_accesses_are_noted_without_names(peers: Peers) -> None:
    peers.ours.get("/studies?PatientName=Doe*&limit=3")
    peers.ours.get(f"/studies/{study_uid(0, 0)}", Accept="application/dicom; transfer-syntax=*")
    found, got = peers.ours.noted(2)
    assert (found.service, found.keys, found.answers) == ("QIDO-RS", ("00100010",), 3)
    assert (got.service, got.sent, got.outcome) == ("WADO-RS", 4, "200")
    assert got.study_instance_uids == (study_uid(0, 0),)
    assert "Doe" not in repr(peers.ours.journal.accesses)
