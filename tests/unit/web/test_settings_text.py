"""Rules and hooks in the settings: checked as the file is, tried on studies, shown, and saved."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape

import pytest
from tests.unit.web.dashboard_world import Browser, Dashboard, dashboard_in

from dcmvault.config.places import config_path
from dcmvault.model.account import Role
from dcmvault.testing.dicom_files import make_study, make_uid

_CONFIGURATION = """\
# Mine.
[sources.workstation]
address = "{folder}/studies"
"""
_RULE = '[[rules]]\nname = "magnets"\nmodality = ["MR"]\npriority = "emergency"\n'
_WHERE = "/settings/text/rules"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("rules")
    for modality in ("CT", "MR"):
        make_study(folder / "studies" / modality, key=modality, instances=1, modality=modality)
    home = folder / "state"
    for place in (home, folder / "copies"):
        place.mkdir()
    (home / "config.toml").write_text(_CONFIGURATION.format(folder=folder), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "dcmvault", "backup", "workstation", "--to", str(folder / "copies")],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "DCMVAULT_HOME": str(home)},
    )
    with dashboard_in(home) as opened:
        yield opened


@pytest.fixture
def administrator(dashboard: Dashboard) -> Browser:
    return dashboard.logged_in(Role.ADMINISTRATOR)


def test_rules_are_tried_on_the_studies_that_there_are(administrator: Browser) -> None:
    tried = administrator.post(_WHERE, {"text": _RULE, "try": "yes"})
    assert "1 study would get another priority" in tried.text
    assert re.findall(r'href="/studies/([^"]+)"', tried.text) == [make_uid("MR")]
    assert unescape(tried.text).count("[[rules]]") == 2, "what was typed, and the example"


def test_what_is_wrong_is_said_as_config_check_does(
    dashboard: Dashboard, administrator: Browser
) -> None:
    before = config_path(dashboard.workplace.home).read_text()
    for wrong in (
        "[[rules]",
        '[[rules]]\nname = "x"\n',
        "[web]\nport = 1\n",
        '[[rules]]\nnme = ""',
    ):
        for more in ({}, {"try": "yes"}):
            answer = administrator.post(_WHERE, {"text": wrong, **more})
            assert answer.status == 422, wrong
    assert config_path(dashboard.workplace.home).read_text() == before
    assert administrator.get("/settings/text/web").status == 404


def test_a_change_is_shown_and_then_saved(dashboard: Dashboard, administrator: Browser) -> None:
    shown = administrator.post(_WHERE, {"text": _RULE.replace("\n", "\r\n")})
    assert "+[[rules]]" in shown.text
    digest = re.search(r'name="digest" value="([0-9a-f]+)"', shown.text)
    edits = re.search(r"<textarea name=\"edits\" hidden>(.*?)</textarea>", shown.text, re.DOTALL)
    assert digest
    assert edits
    saved = {"digest": digest[1], "edits": unescape(edits[1])}
    assert administrator.post("/settings/save", saved).status == 303
    text = config_path(dashboard.workplace.home).read_text()
    assert text.startswith("# Mine.\n")
    assert text.endswith(_RULE)
    assert "magnets" in administrator.get(_WHERE).text
    assert [one.name for one in dashboard.workplace.settings.rules] == ["magnets"]


def test_hooks_are_shown_before_they_are_saved(administrator: Browser) -> None:
    hook = '[hooks.post_run]\ncommand = ["/bin/true"]\n'
    assert "+[hooks.post_run]" in administrator.post("/settings/text/hooks", {"text": hook}).text
    wrong = administrator.post("/settings/text/hooks", {"text": "[hooks.post_run]\ncommand = []\n"})
    assert wrong.status == 422


def test_others_neither_see_nor_change_them(dashboard: Dashboard) -> None:
    operator = dashboard.logged_in(Role.OPERATOR)
    assert operator.get(_WHERE).status == 403
    assert operator.post(_WHERE, {"text": _RULE}).status == 403
