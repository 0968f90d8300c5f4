"""The restore page over a real vault: counted first, then files that are proven, a certificate."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.rescue_world import PASSPHRASE, World
from tests.unit.web.dashboard_world import Answer, Browser, Dashboard, dashboard_in

from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study, make_uid

GENEROUS_S = 120.0
FORM = {"from": "disk", "to": ":zip"}
_WORK = re.compile(r'name="work" value="([0-9a-f]+)"')


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard whose vault has three studies in one snapshot, and an empty PACS that is away."""
    folder = tmp_path_factory.mktemp("restore")
    for key in ("one", "two", "three"):
        make_study(folder / "source" / key, key=key, instances=2)
    world = World(folder / "vault", redundant=False)
    world.snapshot(world.back_up(folder / "source"))
    home = folder / "state"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[destinations.disk]\naddress = "vault:{folder / "vault"}"\n'
        '[destinations.pacs]\naddress = "dicom://PACS@127.0.0.1:9"\n'
    )
    with dashboard_in(home) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def operator(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.OPERATOR)


def ended(browser: Browser, answer: Answer) -> Answer:
    """Follow work to its end; return the page of its result, or that of its failure."""
    assert answer.status == 303, answer.text
    where = answer.header("location")
    deadline = time.monotonic() + GENEROUS_S
    while True:
        shown = browser.get(where)
        if shown.status == 303:
            return browser.get(shown.header("location"))
        if "hx-trigger" not in shown.text:
            return shown
        assert time.monotonic() < deadline
        time.sleep(0.02)


def counted(browser: Browser, **fields: str) -> Answer:
    """Have a restore counted."""
    return ended(browser, browser.post("/restore/check", {**FORM, **fields}))


def started(browser: Browser, page: Answer) -> Answer:
    """Start what was counted."""
    found = _WORK.search(page.text)
    assert found is not None
    return ended(browser, browser.post("/restore/start", {"work": found[1]}))


def test_one_study_is_counted_restored_proven_and_taken_along(
    dashboard: Dashboard, operator: Browser
) -> None:
    page = counted(operator, study=make_uid("one"))
    assert "This would come back" in page.text
    assert "<b>2</b><span>files" in page.text
    page = started(operator, page)
    assert "Everything came back, and was read back" in page.text
    where = re.search(r'href="(/restore/done/[0-9a-f]+)/files.zip"', page.text)
    assert where is not None
    taken = operator.get(f"{where[1]}/files.zip")
    assert taken.header("content-disposition").startswith("attachment")
    with zipfile.ZipFile(io.BytesIO(taken.body)) as held:
        assert "DICOMDIR" in held.namelist()
    assert "attachment" in operator.get(f"{where[1]}/certificate.html").header(
        "content-disposition"
    )
    certificate = operator.get(f"{where[1]}/certificate.json").json
    assert certificate["is_complete"]
    assert [one["study_instance_uid"] for one in certificate["studies"]] == [make_uid("one")]
    assert operator.get(f"{where[1]}/certificate").status == 200
    kinds = [line["event"] for line in dashboard.journal()]
    assert {"restore", "data.exported"} <= set(kinds)
    # What it kept is gone as soon as somebody says so.
    work = where[1].rsplit("/", 1)[-1]
    assert operator.post(f"/work/{work}/forget").header("location") == "/restore/done"
    assert operator.get(f"{where[1]}/files.zip").status == 404


def test_all_of_it_comes_back_into_a_folder(dashboard: Dashboard, tmp_path: Path) -> None:
    """An administrator names any folder; each file is read back."""
    administrator = dashboard.logged_in(Role.ADMINISTRATOR)
    target = tmp_path / "out"
    page = counted(administrator, to=":other", to_typed=str(target))
    assert "<b>6</b><span>files" in page.text
    assert not target.exists()
    page = started(administrator, page)
    assert "Everything came back" in page.text
    assert len([path for path in target.rglob("*") if path.is_file()]) == 6


def test_who_only_steers_names_no_place_of_their_own(operator: Browser, tmp_path: Path) -> None:
    for fields in (
        {"to": ":other", "to_typed": str(tmp_path)},
        {"to": str(tmp_path)},
        {"from": ":other", "from_typed": "dicom://X@169.254.169.254:104"},
        {"from": "/etc"},
    ):
        answer = operator.post("/restore/check", {**FORM, **fields})
        assert answer.status == 422, fields
        assert "Only an administrator" in answer.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"study": "1.2.3"}, "holds no study"),
        ({"snapshot": "zzz"}, "zzz"),
        ({"patient": "NOBODY"}, "nothing that was asked for"),
        ({"from": ":other"}, "No place is named"),
        ({"first": "2026-02-01", "last": "2026-01-01"}, "The first date is after the last"),
        ({"first": "x"}, "is no date"),
        ({"as_of": "x"}, "neither a date nor a time"),
        ({"snapshot": "1", "as_of": "2026-01-31T08:00"}, "not both"),
    ],
)
def test_what_cannot_be_is_told_in_words(
    operator: Browser, fields: dict[str, str], words: str
) -> None:
    answer = operator.post("/restore/check", {**FORM, **fields})
    page = ended(operator, answer) if answer.status == 303 else answer
    assert words in page.text
    assert "/restore/start" not in page.text


def test_a_restore_to_a_pacs_is_a_run(operator: Browser) -> None:
    page = started(operator, counted(operator, to="pacs", study=make_uid("two")))
    assert re.search(r'href="/runs/[^"]+"', page.text)
    where = re.search(r"hx-get=\"(/restore/done/[0-9a-f]+)\"", page.text)
    assert where is not None
    assert operator.get(f"{where[1]}/certificate").status == 404


def test_a_drill_is_carried_out_and_remembered(dashboard: Dashboard, operator: Browser) -> None:
    page = ended(operator, operator.post("/restore/drill", {"vault": "disk", "count": "2"}))
    assert "Every study came back as it was stored" in page.text
    assert "2 studies proven" in operator.get("/restore").text
    for fields in ({"vault": "disk", "count": "0"}, {"vault": "/etc", "count": "1"}):
        assert operator.post("/restore/drill", fields).status == 422


def test_what_is_typed_comes_back_as_text(operator: Browser) -> None:
    evil = '"><script>alert(1)</script>'
    page = operator.post("/restore/check", {**FORM, "from": ":other", "patient": evil}).text
    assert "<script>alert" not in page


def test_what_names_a_patient_comes_back_to_who_typed_it_only(
    dashboard: Dashboard, operator: Browser
) -> None:
    page = counted(operator, patient="TEST-0001")
    assert "This would come back" in page.text
    assert "TEST-0001" not in page.text
    again = re.search(r"/restore\?again=[0-9a-f]+", page.text)
    assert again is not None
    assert 'value="TEST-0001"' in operator.get(again[0]).text
    assert "TEST-0001" not in dashboard.logged_in(Role.ADMINISTRATOR).get(again[0]).text
