"""The pages of studies: how each stands where, for who may see what, from a real backup."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from tests.unit.web.dashboard_world import Answer, Browser, Dashboard, dashboard_in

from dcmvault.app.run_list import run_rows
from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study, make_uid
from dcmvault.web.pages import study as study_page

STUDIES = 52
_CONFIGURATION = """\
[sources.workstation]
address = "{folder}/studies"
[destinations.copies]
address = "{folder}/copies"
[destinations.second]
address = "{folder}/second"
[plans.nightly]
sources = ["workstation"]
destinations = ["copies"]
"""
#: What a page must not tell to who may not see patients.
_PATIENT = ("Doe", "Jane", "Roe", "SECRET-1", "TEST-0001")


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Some pages of studies with a copy each; one of them with two series, of another patient."""
    folder = tmp_path_factory.mktemp("studies")
    for number in range(STUDIES - 1):
        make_study(folder / "studies" / f"{number:02}", key=f"s{number}", instances=1)
    special = {"patient_name": "Roe^Richard", "patient_id": "SECRET-1", "modality": "MR"}
    make_study(folder / "studies" / "mr", key="mr", series=2, instances=15, **special)  # type: ignore[arg-type]
    home = folder / "state"
    for place in (home, folder / "copies", folder / "second"):
        place.mkdir()
    (home / "config.toml").write_text(_CONFIGURATION.format(folder=folder), encoding="utf-8")
    backup = ["backup", "workstation", "--to", "copies"]
    environment = {**os.environ, "DCMVAULT_HOME": str(home)}
    subprocess.run(
        [sys.executable, "-m", "dcmvault", *backup],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    with dashboard_in(home) as opened:
        later = datetime.now(UTC) + timedelta(hours=1)
        while opened.workplace.catalogue.matrix.recount(later):
            pass
        yield opened


@pytest.fixture
def viewer(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.VIEWER)


@pytest.fixture
def operator(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.OPERATOR)


def _studies(answer: Answer) -> list[str]:
    assert answer.status == 200
    return re.findall(r'class="row-link" href="/studies/([^"]+)"', answer.text)


def _to(answer: Answer, words: str) -> str:
    """Return where a link leads; empty for no such link."""
    found = re.search(rf'href="([^"]+)"[^>]*>(?:<svg.*?</svg>)?{words}</a>', answer.text)
    return unescape(found[1]) if found else ""


def test_every_study_is_on_one_page_and_pages_lead_both_ways(viewer: Browser) -> None:
    answer = viewer.get("/studies")
    pages = [_studies(answer)]
    while where := _to(answer, "Next page"):
        answer = viewer.get(where)
        pages.append(_studies(answer))
    every = [uid for one in pages for uid in one]
    assert len(pages) > 1
    assert len(every) == len(set(every)) == STUDIES
    back = viewer.get(_to(answer, "Previous page"))
    assert _studies(back) == pages[-2]
    assert "52 studies in all" in back.text
    assert "present" in back.text or "complete" in back.text or "proven" in back.text


def test_a_page_is_small(viewer: Browser) -> None:
    assert len(viewer.get("/studies").body) <= 150_000


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("modality=MR", 1),
        ("modality=US", 0),
        ("source=workstation&modality=MR", 1),
        ("destination=copies&modality=MR", 1),
        ("destination=second&modality=MR", 0),
        ("state=protected&modality=MR", 1),
        ("state=damaged", 0),
        ("level=present&modality=MR", 1),
        ("level=-present", 0),
        ("level=-present&destination=copies", 0),
        ("hold=yes", 0),
        ("hold=no&modality=MR", 1),
        ("first=1990-01-01&last=1990-12-31", 0),
        ("first=1990-01-01&modality=MR&order=-size", 1),
    ],
)
def test_filters_stand_in_the_address(viewer: Browser, asked: str, count: int) -> None:
    assert len(_studies(viewer.get(f"/studies?{asked}"))) == count


def test_what_means_nothing_is_told(operator: Browser) -> None:
    for asked in ("state=fine", "first=yesterday", "order=luck", "at=nowhere", "level=best"):
        assert operator.get(f"/studies?{asked}").status == 404, asked


def test_a_viewer_learns_nothing_of_patients(dashboard: Dashboard, viewer: Browser) -> None:
    uid = make_uid("mr")
    for path in ("/studies", f"/studies/{uid}", "/studies?modality=MR"):
        text = viewer.get(path).text
        assert not [word for word in _PATIENT if word in text], path
        assert str(dashboard.workplace.home.parent) not in text, path
    assert viewer.get("/studies?text=roe").status == 403, "a hit would tell"
    assert viewer.get("/studies?order=name").status == 403, "so would the order"
    folder = dashboard.workplace.home.parent / "copies"
    assert viewer.get(f"/studies?destination={folder}").status == 404
    assert viewer.get("/studies.csv").status == 403
    assert viewer.get("/studies/actions/verify").status == 403


def test_names_are_hidden_until_they_are_revealed(operator: Browser) -> None:
    uid = make_uid("mr")
    assert _studies(operator.get("/studies?text=roe")) == [uid], "who types it knows it"
    picture = f"/studies/{uid}/series/{make_uid('mr', uid, 1)}/picture"
    assert not [word for word in _PATIENT if word in operator.get(f"/studies/{uid}").text]
    assert operator.get(picture).header("content-type") == "image/svg+xml"
    assert "SECRET-1" not in operator.get("/studies.csv").text
    assert operator.post("/patients/reveal", {"here": "/studies"}).status == 303
    text = operator.get(f"/studies/{uid}").text
    assert "Roe, Richard" in text
    assert "SECRET-1" in text
    shown = operator.get(picture)
    assert (shown.status, shown.header("content-type")) == (200, "image/jpeg")
    assert shown.body.startswith(b"\xff\xd8")
    assert "no-store" in shown.header("cache-control")
    assert "SECRET-1" in operator.get("/studies.csv").text


def test_all_that_matches_is_taken_along(dashboard: Dashboard, operator: Browser) -> None:
    answer = operator.get("/studies.csv")
    assert answer.header("content-disposition") == 'attachment; filename="dcmvault-studies.csv"'
    assert len(list(csv.reader(answer.text.splitlines()))) == STUDIES + 1
    assert len(operator.get("/studies.csv?modality=MR").text.splitlines()) == 2
    assert dashboard.journal()[-1]["event"] == "data.exported"


def test_a_study_is_looked_at_instance_by_instance(viewer: Browser) -> None:
    where = f"/studies/{make_uid('mr')}"
    answer = viewer.get(where)
    seen: list[str] = []
    while True:
        assert answer.status == 200
        seen += re.findall(r'data-label="Instance">.*?<code>([^<]+)</code>', answer.text)
        if not (further := _to(answer, "Next page")):
            break
        answer = viewer.get(further)
    assert len(seen) == len(set(seen)) == 30
    one = viewer.get(f"{where}?series={make_uid('mr', make_uid('mr'), 1)}")
    assert len(re.findall(r'data-label="Instance"', one.text)) == 15
    assert "No instance has a problem" in viewer.get(f"{where}?problems=true").text
    assert "delivered" in answer.text
    assert viewer.get("/studies/1.2.3").status == 404


def test_series_are_shown_by_pages(viewer: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_page, "_SERIES", 1)
    uid = make_uid("mr")
    every = [make_uid("mr", uid, number) for number in (1, 2)]
    first = viewer.get(f"/studies/{uid}")
    assert "2 series in all" in first.text
    second = viewer.get(_to(first, "More series").partition("#")[0])
    found = [re.findall(r"<p><code>([^<]+)</code></p>", one.text) for one in (first, second)]
    assert found == [[every[0]], [every[1]]]
    assert not _to(second, "More series")


def _result(dashboard: Dashboard, browser: Browser, answer: Answer) -> Answer:
    """Wait for work that was begun, and return the page of its result."""
    assert (answer.status, answer.header("location")[:6]) == (303, "/work/")
    work = dashboard.background.find(answer.header("location").removeprefix("/work/"))
    until = time.monotonic() + 60
    while not work.has_ended and time.monotonic() < until:
        time.sleep(0.01)
    assert work.has_ended, work
    return browser.get(work.result_path)


def _recount(dashboard: Dashboard, hours: int) -> None:
    """Count what changed, so many hours from now: what was counted lately is left for later."""
    later = datetime.now(UTC) + timedelta(hours=hours)
    assert dashboard.workplace.catalogue.matrix.recount(later) == 0


def test_all_that_matches_is_counted_first_and_then_verified(
    dashboard: Dashboard, operator: Browser
) -> None:
    before = len(run_rows(dashboard.workplace, 50)[0])
    asked = operator.get("/studies/actions/verify?modality=MR")
    assert "Verify 1 study?" in asked.text
    assert "Back up 52 studies now?" in operator.get("/studies/actions/backup").text
    assert len(run_rows(dashboard.workplace, 50)[0]) == before, "to ask starts nothing"
    where = "/studies/actions/verify?modality=MR"
    assert operator.post(where, {"level": "sent"}).status == 422
    assert operator.post("/studies/actions/burn").status == 404
    refused = operator.post(where, {"level": "committed"})
    assert "is left out" in refused.text
    assert "Nothing can be started" in refused.text
    done = _result(dashboard, operator, operator.post(where, {"level": ""}))
    assert "1 run was started" in done.text
    assert len(run_rows(dashboard.workplace, 50)[0]) == before + 1
    assert dashboard.journal()[-1]["event"] == "run.asked"


def test_the_ticked_studies_are_meant_and_no_others(operator: Browser) -> None:
    uids = [make_uid("s3"), make_uid("s4")]
    chosen = "&".join(f"study={uid}" for uid in uids)
    asked = operator.get(f"/studies/actions/backup?{chosen}")
    assert "Back up 2 studies now?" in asked.text
    assert "Those that you chose." in asked.text
    assert f"study={uids[0]}+{uids[1]}" in unescape(asked.text), "and so is what is posted"
    assert sorted(_studies(operator.get(f"/studies?study={uids[0]}+{uids[1]}"))) == sorted(uids)


def test_a_restore_takes_the_chosen_studies_along(dashboard: Dashboard, operator: Browser) -> None:
    lead = operator.get("/studies/actions/restore?modality=MR")
    assert (lead.status, lead.header("location")) == (303, "/restore?matching=modality%3DMR")
    form = operator.get(lead.header("location"))
    assert "The 1 study that you chose on the Studies page." in form.text
    asked = {"from": "copies", "to": ":zip", "matching": "modality=MR"}
    counted = _result(dashboard, operator, operator.post("/restore/check", asked))
    assert "1 chosen on the Studies page" in counted.text
    nothing = operator.post("/restore/check", {**asked, "matching": "modality=US"})
    assert "No study matches" in nothing.text


def test_a_study_is_excluded_and_included_again(
    dashboard: Dashboard, operator: Browser, viewer: Browser
) -> None:
    uid = make_uid("s7")
    where = f"/studies/actions/exclude?study={uid}"
    assert "Exclude 1 study from backups?" in operator.get(where).text
    assert operator.post(where, {"reason": " "}).status == 422
    done = _result(dashboard, operator, operator.post(where, {"reason": "a phantom"}))
    assert "1 study is excluded from backups" in done.text
    line = dashboard.journal()[-1]
    assert (line["event"], line["details"]["command"]) == ("work.steered", "queue exclude")
    _recount(dashboard, 2)
    assert _studies(viewer.get("/studies?state=excluded")) == [uid]
    assert uid not in viewer.get("/studies?state=protected&order=date").text
    told = operator.get(f"/studies/{uid}").text
    assert "a phantom" in told
    assert "operator" in told
    assert "a phantom" not in viewer.get(f"/studies/{uid}").text
    again = f"/studies/actions/include?study={uid}"
    assert "Include 1 study in backups again?" in operator.get(again).text
    done = _result(dashboard, operator, operator.post(again))
    assert "1 study is included again" in done.text
    assert "There is nothing to change." in operator.post(again).text
    _recount(dashboard, 3)
    assert not _studies(viewer.get("/studies?state=excluded"))


def test_what_lacks_is_said_before_anything_is_done(operator: Browser) -> None:
    assert "No vault is configured." in operator.get("/studies/actions/hold").text
    assert operator.post("/studies/actions/hold", {"vault": "x", "reason": "y"}).status == 422
    asked = operator.get("/studies/actions/prioritise?modality=MR")
    assert "Move what waits of 1 study?" in asked.text
    assert operator.post("/studies/actions/prioritise", {"priority": "9999"}).status == 422
    assert operator.get("/studies/done").header("location") == "/studies"


def test_all_that_matches_is_taken_along_as_data(operator: Browser, viewer: Browser) -> None:
    found = operator.get("/studies.json").json["studies"]
    assert len(found) == STUDIES
    (special,) = operator.get("/studies.json?modality=MR").json["studies"]
    assert special["study_instance_uid"] == make_uid("mr")
    assert "patient_name" not in special
    assert viewer.get("/studies.json").status == 403


def _heads(answer: Answer) -> list[str]:
    assert answer.status == 200
    return re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', answer.text)


def test_a_view_is_saved_chosen_and_removed(viewer: Browser) -> None:
    asked = "modality=MR&order=-size"
    saved = viewer.post(f"/studies/views?{asked}", {"name": "Large & <MR>"})
    assert saved.status == 303
    where = _to(viewer.get("/studies"), "Large &amp; &lt;MR&gt;")
    assert where == saved.header("location"), "it is offered wherever one is"
    assert _studies(viewer.get(where)) == [make_uid("mr")]
    assert 'aria-current="true">Large &amp; &lt;MR&gt;' in viewer.get(where).text
    removed = viewer.post(f"/studies/views/remove?{asked}", {"name": "Large & <MR>"})
    assert removed.header("location") == "/studies?modality=MR&order=-size"
    assert "Large &amp;" not in viewer.get("/studies").text
    assert viewer.post(f"/studies/views?{asked}", {"name": " "}).status == 409


def test_a_view_is_ones_own_unless_it_is_shared(viewer: Browser, operator: Browser) -> None:
    operator.post("/studies/views?modality=MR", {"name": "mine"})
    operator.post("/studies/views?state=protected", {"name": "of all", "for": "all"})
    operator.post("/studies/views?order=name", {"name": "by names", "for": "all"})
    seen = viewer.get("/studies").text
    assert "of all" in seen
    assert ">mine" not in seen
    assert "by names" not in seen, "it is not for a viewer"
    where = _to(viewer.get("/studies"), "of all <small>shared</small>")
    assert viewer.get(where).status == 200
    assert viewer.post("/studies/views?modality=MR", {"name": "x", "for": "all"}).status == 403
    assert viewer.post("/studies/views/remove", {"name": "of all", "for": "all"}).status == 403
    refused = operator.post("/studies/views?text=roe", {"name": "roe", "for": "all"})
    assert "may name a patient" in refused.text
    for name, whose in (("mine", ""), ("of all", "all"), ("by names", "all")):
        operator.post("/studies/views/remove", {"name": name, "for": whose})
    assert "of all" not in viewer.get("/studies").text


def test_columns_are_kept_for_each_account_and_with_a_view(
    viewer: Browser, operator: Browser
) -> None:
    usual = _heads(viewer.get("/studies"))
    assert usual == ["Study", "State", "copies", "Size"]
    chosen = {"show:state": "yes", "show:source": "yes", "show:series": "yes", "show:level": "yes"}
    assert viewer.post("/studies/columns?modality=MR", chosen).status == 303
    narrow = ["Study", "State", "Least level", "Source", "Series"]
    assert _heads(viewer.get("/studies")) == narrow
    assert _heads(operator.get("/studies")) == usual
    viewer.post("/studies/views?modality=MR", {"name": "narrow"})
    everything = {f"show:{one}": "yes" for one in ("state", "size", "at:copies")}
    viewer.post("/studies/columns", everything)
    assert _heads(viewer.get("/studies")) == usual
    where = _to(viewer.get("/studies"), "narrow")
    assert _heads(viewer.get(where)) == narrow
    viewer.post("/studies/views/remove", {"name": "narrow"})


def test_pages_are_spoken_in_portuguese(viewer: Browser) -> None:
    for path in ("/studies", f"/studies/{make_uid('mr')}", "/studies?modality=US"):
        assert "Estudos" in viewer.get(path, {"Accept-Language": "pt-BR"}).text
