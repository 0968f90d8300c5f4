"""The compare page over a folder and a real vault: what lacks is told, taken along, delivered."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import pytest
from tests.integration.rescue_world import PASSPHRASE, World
from tests.integration.test_restore_page import ended
from tests.unit.web.dashboard_world import Browser, Dashboard, dashboard_in

from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study, make_uid

SIDES = {"a": "workstation", "b": "disk", "depth": "instance"}


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A workstation with three studies, and a vault that has two of them in its one snapshot."""
    folder = tmp_path_factory.mktemp("compare")
    for key in ("one", "two"):
        make_study(folder / "source" / key, key=key, instances=2)
    world = World(folder / "vault", redundant=False)
    world.snapshot(world.back_up(folder / "source"))
    make_study(folder / "source" / "three", key="three", instances=2)
    home = folder / "state"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[sources.workstation]\naddress = "{folder / "source"}"\n'
        f'[destinations.disk]\naddress = "vault:{folder / "vault"}"\n'
    )
    with dashboard_in(home) as opened:
        yield opened


@pytest.fixture
def operator(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.OPERATOR)


def test_what_lacks_is_told_taken_along_and_delivered(
    dashboard: Dashboard, operator: Browser
) -> None:
    page = ended(operator, operator.post("/compare/start", SIDES)).text
    assert "1 study is not the same in both" in page
    assert make_uid("three") in page
    found = re.search(r'href="/compare/act/([0-9a-f]+)"', page)
    assert found is not None
    taken = operator.get(f"/compare/done/{found[1]}/comparison.csv")
    assert taken.header("content-disposition").startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(taken.text)))
    lacking = {row["study_instance_uid"] for row in rows if row["verdict"] == "only_a"}
    assert lacking == {make_uid("three")}
    # First what would be done; then it is asked for as a run.
    runs = dashboard.workplace.catalogue.runs
    page = operator.get(f"/compare/act/{found[1]}").text
    assert "This would be delivered" in page
    assert "<b>2</b><span>instances at most" in page
    assert not runs.runs(10)
    answer = operator.post(f"/compare/act/{found[1]}")
    assert answer.status == 303
    assert re.fullmatch(r"/runs/[^/]+", answer.header("location"))
    (asked,) = runs.runs(10)
    assert asked.request.selection.studies == (make_uid("three"),)
    assert {"data.exported", "run.asked"} <= {one["event"] for one in dashboard.journal()}


def test_nothing_is_delivered_to_a_snapshot(dashboard: Dashboard, operator: Browser) -> None:
    folder = dashboard.workplace.home.parent / "vault" / "snapshots"
    (name,) = [one.name for one in folder.rglob("*") if one.is_file()]
    page = ended(operator, operator.post("/compare/start", {**SIDES, "b_snapshot": name}))
    found = re.search(r'href="/compare/act/([0-9a-f]+)"', page.text)
    assert found is not None
    told = operator.get(f"/compare/act/{found[1]}")
    assert told.status == 404
    assert "Nothing can be added to a snapshot" in told.text
    assert operator.post(f"/compare/act/{found[1]}").status == 409


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"b": "workstation"}, "Both are the same place"),
        ({"a_snapshot": "1"}, "Only a vault has snapshots"),
        ({"depth": "x"}, "no depth"),
        ({"a": "/etc"}, "Only an administrator"),
        ({"a": ":other", "a_typed": "dicom://X@169.254.169.254:104"}, "Only an administrator"),
        ({"a": ":other"}, "No place is named"),
    ],
)
def test_what_cannot_be_is_told_in_words(
    operator: Browser, fields: dict[str, str], words: str
) -> None:
    answer = operator.post("/compare/start", {**SIDES, **fields})
    page = ended(operator, answer) if answer.status == 303 else answer
    assert words in page.text
