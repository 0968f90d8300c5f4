"""`node probe`: what a PACS offers, and how fast it is, found out at the real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scripts.peer_processes import DicomPeer, Orthanc
from tests.conftest import RunDcmvault

pytestmark = pytest.mark.peers

_ALL = ("latency", "storage", "syntaxes", "query", "commitment")


def _steps(output: str) -> Mapping[str, Mapping[str, Any]]:
    return {step["name"]: step for step in json.loads(output)["steps"]}


def test_orthanc_offers_everything(run_dcmvault: RunDcmvault, orthanc: Orthanc) -> None:
    done = run_dcmvault("node", "probe", orthanc.address, "--json")
    steps = _steps(done.stdout)
    assert done.returncode == 0, done.stdout
    assert tuple(steps)[-5:] == _ALL
    assert all(step["ok"] for step in steps.values())
    assert re.match(r"C-ECHO answered after [0-9.]+ ms", steps["latency"]["detail"])
    taken, known = map(int, re.findall("[0-9]+", steps["storage"]["detail"]))
    assert 100 < taken <= known
    assert steps["commitment"]["detail"] == "offers storage commitment"
    assert orthanc.instances() == []


def test_bandwidth_leaves_one_test_object(run_dcmvault: RunDcmvault, orthanc: Orthanc) -> None:
    for _ in range(2):
        done = run_dcmvault("node", "probe", orthanc.address, "--bandwidth", "--json")
        assert done.returncode == 0, done.stdout
        detail = _steps(done.stdout)["bandwidth"]["detail"]
        assert re.match(r"3[0-9] MB in [0-9.]+ s by one association: [0-9.]+ MB/s$", detail)
    (test,) = orthanc.instances()
    assert test.startswith("2.25.")


def test_what_lacks_is_named(run_dcmvault: RunDcmvault, storescp: DicomPeer) -> None:
    done = run_dcmvault("node", "probe", storescp.address, "--json")
    steps = _steps(done.stdout)
    assert done.returncode == 5
    assert not steps["query"]["ok"]
    assert "offers no query" in steps["query"]["detail"]
    assert steps["commitment"]["detail"] == "offers no storage commitment"
    spoken = run_dcmvault("--lang", "pt-BR", "node", "probe", storescp.address)
    assert "não oferece" in spoken.stdout
    assert "recebe" in spoken.stdout


def test_nothing_is_surveyed_where_nobody_answers(run_dcmvault: RunDcmvault) -> None:
    done = run_dcmvault("node", "probe", "dicom://NOBODY@127.0.0.1:1", "--json")
    assert done.returncode == 5
    assert tuple(_steps(done.stdout)) == ("resolve", "connect")


def test_bandwidth_of_a_folder_is_a_usage_error(run_dcmvault: RunDcmvault, tmp_path: Path) -> None:
    done = run_dcmvault("node", "probe", str(tmp_path), "--bandwidth")
    assert done.returncode == 2
    assert "at a PACS only" in done.stderr
    assert run_dcmvault("node", "probe", str(tmp_path)).returncode == 0
