"""Channels: what could never be sent is refused where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.app.wiring.notifiers import build_notifier
from dcmvault.config.load import load_settings
from dcmvault.errors import ConfigurationError
from dcmvault.testing.clock import FakeClock

MAIL = '[notifications.office]\nchannel = "mail"\nhost = "m.example.org"\n'


@pytest.mark.parametrize(
    "address",
    ["a..b@x.org", ".a@x.org", "josé@x.org", "a@x..org", "a@josé.br", "a@x.org.", "a\\\\b@x.org"],
)
def test_an_address_that_no_header_can_bear_is_refused(tmp_path: Path, address: str) -> None:
    config = tmp_path / "config.toml"
    good = "a.b+c@mail-1.example.org"
    config.write_text(MAIL + f'sender = "{good}"\nto = ["{good}", "root@localhost"]\n')
    assert load_settings(config).notifications
    for sender, recipient in ((address, good), (good, address)):
        config.write_text(MAIL + f'sender = "{sender}"\nto = ["{recipient}"]\n', "utf-8")
        with pytest.raises(ConfigurationError, match="mail address"):
            load_settings(config)


@pytest.mark.parametrize(
    "url",
    [
        "https://h:99999/s3cret",
        "https://h:abc/s3cret",
        "http://[::1/s3cret",
        "https://h/s3cret é",
        "ftp://h/s3cret",
        "https:///s3cret",
        "s3cret",
    ],
)
def test_a_url_that_leads_nowhere_is_refused_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Where it is written, and where it is referred to: then when it is needed."""
    section = '[notifications.hook]\nchannel = "webhook"\nurl = "{}"\n'
    config = tmp_path / "config.toml"
    config.write_text(section.format(url), "utf-8")
    with pytest.raises(ConfigurationError, match="https://"):
        load_settings(config)
    monkeypatch.setenv("HOOK", url)
    config.write_text(section.format("env:HOOK"))
    with pytest.raises(ConfigurationError, match="https://") as caught:
        build_notifier(load_settings(config).notifications["hook"], FakeClock())
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
