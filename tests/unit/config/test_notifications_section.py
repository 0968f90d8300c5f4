"""Channels: what could never be sent is refused where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.config.load import load_settings
from dcmvault.errors import ConfigurationError

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
        with pytest.raises(ConfigurationError, match="mail address|endereço"):
            load_settings(config)
