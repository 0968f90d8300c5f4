"""Trials of places: against real peers, odd ones, and those that never answer."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripts.peer_clouds import S3Server
from scripts.peer_processes import DicomPeer, Orthanc
from tests.integration.cloud_vault_world import s3_place

from dcmvault.app import place_trial
from dcmvault.app.place_trial import (
    Rung,
    RungOutcome,
    TrialWishes,
    try_out_destination,
    try_out_source,
)
from dcmvault.app.vault_making import MakingRequest, make_vault
from dcmvault.config.addresses import destination_section, source_section
from dcmvault.config.settings import Settings
from dcmvault.i18n import sentence, speaking
from dcmvault.testing.dicom_files import make_study


def _by_name(rungs: list[Rung]) -> dict[str, Rung]:
    return {rung.name: rung for rung in rungs}


def _good(rungs: list[Rung]) -> list[str]:
    assert not [rung for rung in rungs if rung.outcome is RungOutcome.BAD]
    return [rung.name for rung in rungs]


@pytest.mark.peers
def test_every_rung_to_an_orthanc(orthanc: Orthanc) -> None:
    names = _good(list(try_out_destination(destination_section(orthanc.address))))
    assert names[:4] == ["resolve", "connect", "associate", "echo"]
    assert {"storage", "query", "commitment"} <= {*names}
    assert orthanc.instances() == []
    names = _good(list(try_out_source(source_section(orthanc.address))))
    assert "query" in names
    assert "storage" not in names


@pytest.mark.peers
def test_a_test_instance_is_sent_only_where_that_is_asked_for(orthanc: Orthanc) -> None:
    section = destination_section(orthanc.address)
    names = _good(list(try_out_destination(section, TrialWishes(stores=True))))
    assert names[-1] == "bandwidth"
    assert len(orthanc.instances()) == 1


@pytest.mark.peers
def test_an_orthanc_tells_its_version(orthanc: Orthanc) -> None:
    rungs = list(try_out_source(source_section(f"orthanc+{orthanc.http_url}")))
    assert _good(rungs) == ["resolve", "connect", "http", "list"]
    assert _by_name(rungs)["http"].detail.startswith("Orthanc 1.")
    assert _by_name(rungs)["list"].detail == "it holds 0 studies with 0 instances"


@pytest.mark.peers
def test_what_lacks_at_a_pacs_is_told_with_what_to_ask(storescp: DicomPeer) -> None:
    rungs = _by_name(list(try_out_destination(destination_section(storescp.address))))
    assert rungs["query"].outcome is RungOutcome.BAD
    request = rungs["query"].request
    assert "C-FIND" in request
    assert "DCMVAULT" in request
    assert "127.0.0.1" in request
    assert socket.gethostname() in request


def test_where_nobody_listens_the_firewall_is_asked_for_in_both_languages() -> None:
    section = destination_section("dicom://PACS@127.0.0.1:1")
    rungs = list(try_out_destination(section))
    assert [rung.name for rung in rungs] == ["resolve", "connect"]
    assert rungs[-1].outcome is RungOutcome.BAD
    assert "TCP port 1 (firewall)" in rungs[-1].request
    with speaking("pt-BR"):
        spoken = list(try_out_destination(section))[-1]
        assert "porta TCP 1" in spoken.request
        assert sentence(spoken.detail) != spoken.detail


@contextmanager
def _silent() -> Iterator[int]:
    """A peer that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
    for thread in threading.enumerate():
        if thread.name == "trial":
            thread.join(60)


@pytest.mark.parametrize(
    "address", ["dicom://X@127.0.0.1:{}", "dicomweb+http://127.0.0.1:{}/dicom-web"]
)
def test_a_peer_that_never_answers_is_given_up(address: str) -> None:
    with _silent() as port:
        section = destination_section(address.format(port))
        waits = {
            name: 1.0
            for name in ("association_timeout_s", "response_timeout_s")
            if hasattr(section, name)
        }
        section = section.model_copy(update=waits)
        rungs = list(try_out_destination(section))
        assert rungs[-1].outcome is RungOutcome.BAD
        assert rungs[-1].name in ("associate", "http")
        given_up = list(try_out_destination(section, TrialWishes(longest_rung_s=0.2)))
        assert given_up[-1].name == "patience"
        assert given_up[-1].request


def test_a_folder_is_tried_down_to_its_disk(tmp_path: Path) -> None:
    make_study(tmp_path / "studies", key="a", instances=1)
    source = source_section(str(tmp_path / "studies"))
    section = destination_section(str(tmp_path / "copies"))
    before = sorted(tmp_path.iterdir())
    rungs = _by_name(list(try_out_destination(section, TrialWishes(sources=(source,)))))
    assert [*rungs] == ["folder", "write", "space", "sync", "same_disk"]
    assert rungs["same_disk"].outcome is RungOutcome.WARNING
    assert sorted(tmp_path.iterdir()) == before
    inside = destination_section(str(tmp_path / "studies" / "copies"))
    first = next(iter(try_out_destination(inside, TrialWishes(sources=(source,)))))
    assert (first.name, first.outcome) == ("overlap", RungOutcome.BAD)


def test_a_place_for_a_vault_and_then_the_vault(tmp_path: Path, home: Path) -> None:
    secret = tmp_path / "secret"
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"correct horse\n")
    os.close(descriptor)
    section = destination_section(f"vault:{tmp_path / 'place'}").model_copy(
        update={"passphrase": f"file:{secret}"}
    )
    wishes = TrialWishes(makes_vault=True)
    assert _good(list(try_out_destination(section, wishes)))[:2] == ["folder", "write"]
    (tmp_path / "place").mkdir()
    names = _good(list(try_out_destination(section, wishes)))
    assert names == ["place", "put", "get", "delete", "sync"]
    missing = list(try_out_destination(section))
    assert (missing[-1].name, missing[-1].outcome) == ("vault", RungOutcome.BAD)
    settings = Settings.model_validate({"destinations": {"vault": {"section": section}}})
    make_vault(settings, "vault", MakingRequest())
    names = _good(list(try_out_destination(section)))
    assert names[:4] == ["place", "vault", "key", "write"]


@pytest.mark.peers
def test_a_bucket_is_tried_with_its_clock_and_its_locks(
    s3_server: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = s3_place(s3_server, object_lock=True)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    section = place.configured(home, object_lock="governance")
    names = _good(list(try_out_destination(section, TrialWishes(makes_vault=True))))
    assert names == ["place", "put", "get", "clock", "lock", "delete"]
    wrong = section.model_copy(update={"location": "s3://there-is-no-such-bucket"})
    rungs = list(try_out_destination(wrong, TrialWishes(makes_vault=True)))
    assert rungs[-1].outcome is RungOutcome.BAD
    assert "s3://there-is-no-such-bucket" in rungs[-1].request


def test_odd_sources_are_told_of_and_raise_nothing(tmp_path: Path) -> None:
    for address in (str(tmp_path / "none"), f"horos:{tmp_path}", f"vault:{tmp_path}"):
        rungs = list(try_out_source(source_section(address)))
        assert rungs[-1].outcome is RungOutcome.BAD, address
        assert rungs[-1].detail


def test_a_defect_is_told_and_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A plug-in may raise anything: the page says that there is more in the log."""

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(place_trial, "try_source", fail)
    (rung,) = try_out_source(source_section(str(tmp_path)))
    assert rung.outcome is RungOutcome.BAD
    assert "ZeroDivisionError" in rung.detail
    assert "failed by a defect" in caplog.text
    assert "ZeroDivisionError" in caplog.text
