"""Who a DICOMweb source says that it is, with every question and every retrieval."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from tests.integration.web_peer import Reply, Seen, web_peer
from tests.integration.web_source_story import web_source

from dcmvault.dicom.part10 import scan
from dcmvault.errors import SourceUnavailableError
from dcmvault.model.instance import InstanceFile, UnreadableEntry
from dcmvault.sources.dicomweb import DicomwebSource
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.web_archive import multipart

_KIND = {"Content-Type": 'multipart/related; boundary="b"'}


def _service(path: Path, is_let_in: Callable[[Seen], bool]) -> Callable[[Seen], Reply]:
    """Hold one file, and answer only who is let in."""
    identity = scan(path).identity
    uids = {
        "0020000D": identity.study_instance_uid,
        "0020000E": identity.series_instance_uid,
        "00080018": identity.sop_instance_uid,
    }
    rows = json.dumps([{tag: {"Value": [uid]} for tag, uid in uids.items()}]).encode()
    tokens = count(1)

    def answer(seen: Seen) -> Reply:
        if seen.path == "/token":
            return Reply(200, json.dumps({"access_token": f"token-{next(tokens)}"}).encode())
        if not is_let_in(seen):
            return Reply(401)
        if "multipart" in seen.headers["Accept"]:
            return Reply(200, multipart(path.read_bytes(), boundary="b"), _KIND)
        return Reply(200, rows) if seen.query["offset"] == ["0"] else Reply(204)

    return answer


def _said(seen: Seen) -> str:
    return seen.headers.get("Authorization", "")


def _read_all(source: DicomwebSource) -> list[InstanceFile | UnreadableEntry]:
    return list(source.read([e for study in source.studies() for e in source.entries(study)]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study", key="login", instances=1)[0].path


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"user": "me", "password": "env:SECRET"}, "Basic bWU6c2VzYW1l"),
        ({"token": "env:SECRET"}, "Bearer sesame"),
    ],
)
def test_a_password_or_token_goes_with_every_request(
    monkeypatch: pytest.MonkeyPatch, path: Path, options: dict[str, str], value: str
) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    with web_peer(_service(path, lambda seen: _said(seen) == value)) as peer:
        (answer,) = _read_all(web_source(peer.url, **options))
        assert isinstance(answer, InstanceFile)
        assert {seen.headers.get("Authorization") for seen in peer.seen} == {value}
        monkeypatch.setenv("SECRET", "wrong")
        with pytest.raises(SourceUnavailableError, match="not authenticated"):
            _read_all(web_source(peer.url, **options))


def test_a_token_that_is_refused_is_renewed_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """OAuth2: listed with one token, retrieved with the next."""
    monkeypatch.setenv("SECRET", "sesame")

    def is_let_in(seen: Seen) -> bool:
        is_retrieval = "multipart" in seen.headers["Accept"]
        return _said(seen) == ("Bearer token-2" if is_retrieval else "Bearer token-1")

    with web_peer(_service(path, is_let_in)) as peer:
        token_url = peer.url.replace("/dicom-web", "/token")
        source = web_source(
            peer.url,
            oauth2_token_url=token_url,
            oauth2_client_id="us",
            oauth2_client_secret="env:SECRET",
        )
        (answer,) = _read_all(source)
        assert isinstance(answer, InstanceFile)
        assert sum(seen.path == "/token" for seen in peer.seen) == 2


def test_a_secret_that_is_not_there_is_said(path: Path) -> None:
    with web_peer(_service(path, lambda _seen: True)) as peer:
        source = web_source(peer.url, token="env:NO_SUCH_SECRET")
        with pytest.raises(SourceUnavailableError, match="NO_SUCH_SECRET"):
            list(source.studies())
        assert peer.seen == []
