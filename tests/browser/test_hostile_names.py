"""Names that are programs, in a real browser: none of them runs, and no policy is needed for it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pydicom
import pytest
from playwright.sync_api import Browser, Page, expect
from scripts.dashboard_demo import Dashboard, dashboard, look

from dcmvault.testing.dicom_files import make_study

pytestmark = pytest.mark.peers

#: Runs where it becomes an element, or ends the attribute that it stands in.
_PROGRAM = "'\"><img src onerror=hacked()><script>hacked()</script>"
#: As much of it as can be the name of a folder in our configuration.
_FOLDER = "'><img src onerror=hacked()>"
_COUNT = "window.ran = 0; window.hacked = () => { window.ran += 1; };"
_KEYWORDS = ("StudyDescription", "SeriesDescription", "PatientID", "InstitutionName", "StationName")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Hostile studies in a hostile folder, backed up by a daemon; one file cannot be read."""
    folder = tmp_path_factory.mktemp("hostile")
    made = make_study(folder / "made", key="hostile", instances=1, patient_name=_PROGRAM)
    for one in made:
        dataset = pydicom.dcmread(one.path)
        for keyword in _KEYWORDS:
            dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), "")
            # Longer than the Standard allows, as hostile files are.
            dataset[keyword]._value = _PROGRAM
        dataset.save_as(one.path)
    broken = folder / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    with dashboard(folder / _FOLDER, [*(one.path for one in made), broken]) as running:
        yield running


def _pages(page: Page) -> list[str]:
    links = page.locator(".side a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    found = list(map(str, links))
    for path in ("/runs", "/studies"):
        page.goto(path)
        rows = page.locator(f"main a[href^='{path}/2']")
        found += [str(one.get_attribute("href")) for one in rows.all()[:3]]
    quoted = quote(_PROGRAM, safe="")
    return [
        *dict.fromkeys(found),
        "/account",
        "/runs/latest/report",
        "/plans/nightly/start",
        f"/studies?text={quoted}&source={quoted}",
        f"/runs/reports?since={quoted}",
        f"/audit?who={quoted}&text={quoted}",
        f"/{quoted}",
    ]


def test_no_name_becomes_a_program(chromium: Browser, hostile: Dashboard) -> None:
    """Names of patients, studies and folders on the main pages, seen by who sees everything."""
    with look(chromium, hostile) as context:
        refused: list[str] = []
        context.add_init_script(_COUNT)
        page = context.new_page()
        page.on("pageerror", lambda error: refused.append(str(error)))
        page.on(
            "console", lambda said: refused.append(said.text) if "Policy" in said.text else None
        )
        page.goto("/")
        paths = _pages(page)
        assert any(one.startswith("/studies/2") for one in paths)
        for path in paths:
            page.goto(path)
            assert page.evaluate("window.ran") == 0, path
            assert page.locator("img[onerror]").count() == 0, path
            assert refused == [], path
        page.goto("/studies")
        expect(page.locator("main")).to_contain_text("onerror=hacked()")
        # Were something to slip through all the same, the policy would let it do nothing.
        page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", _FOLDER)
        expect(page.locator("img[onerror]")).to_have_count(1)
        for _ in range(300):  # what the browser says comes a moment later
            if refused:
                break
            page.wait_for_timeout(100)
        assert refused, "and the browser says so"
        assert page.evaluate("window.ran") == 0
