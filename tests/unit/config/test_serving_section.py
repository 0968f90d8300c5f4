"""What [serve] may say, and what is said of the rest."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from dcmvault.config.effective import effective
from dcmvault.config.load import load_settings
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError

GOOD = """\
[serve]
ae_title = "BACKUP"
host = "0.0.0.0"
dicom_port = 104

[[serve.peers]]
ae_title = "HOROS"
network = "10.1.2.3"
move_host = "10.1.2.3"
move_port = 11112
"""


def _load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load_settings(path)


def test_a_vault_for_other_machines(tmp_path: Path) -> None:
    serve = _load(tmp_path, GOOD).serve
    assert (serve.ae_title, serve.dicom_port) == ("BACKUP", 104)
    (horos,) = serve.peers
    assert horos.addresses == ip_network("10.1.2.3/32")
    assert (horos.move_host, horos.move_port) == ("10.1.2.3", 11112)
    shown = effective(_load(tmp_path, GOOD))["serve"]
    assert isinstance(shown, dict)
    assert shown["dicom_port"] == 104


def test_the_default_is_for_this_machine() -> None:
    assert (Settings().serve.host, Settings().serve.peers) == ("127.0.0.1", ())


def test_a_vault_for_browsers(tmp_path: Path) -> None:
    text = (
        "[serve]\nhost = '0.0.0.0'\nweb_port = 8080\nweb_tokens = {ohif = 'env:TOKEN'}\n"
        "web_origins = ['https://Viewer.example.org/']\npeers = [{network = '10.0.0.0/8'}]\n"
    )
    serve = _load(tmp_path, text).serve
    assert (serve.web_port, serve.web_tokens) == (8080, {"ohif": "env:TOKEN"})
    assert serve.web_origins == ("https://viewer.example.org",)
    assert serve.is_web_guarded


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "host = '0.0.0.0'\nweb_port = 80\n[[serve.peers]]\nnetwork = '0.0.0.0/0'",
            "line 1, serve: Other machines can connect: over HTTP “web_tokens”",
        ),
        ("web_tokens = {ohif = 'plain'}", "line 2, serve.web_tokens"),
        ("web_tokens = {'a b' = 'env:X'}", "“web_tokens” has a name and a reference"),
        ("web_origins = ['*']", "Write an origin as https://host"),
        ("web_origins = ['https://x/y']", "Write an origin as https://host"),
        ("host = '0.0.0.0'", "line 1, serve: Other machines can connect"),
        ("host = 'pacs'", "“host” is an IP address of this machine"),
        ("dicom_prt = 1", "line 2, serve.dicom_prt: There is no such key. Did you mean “dicom_p"),
        ("tls = true", "TLS needs our certificate"),
        ("tls_ca_file = 'x'", "“tls_ca_file” needs “tls = true”."),
        (
            "[[serve.peers]]\nnetwork = 'x'",
            "line 3, serve.peers.0.network: Write an address, or a network",
        ),
        (
            "[[serve.peers]]\nnetwork = '::1'\nmove_hst = 'x'",
            "line 4, serve.peers.0.move_hst: There is no such key. Did you mean “move_host",
        ),
        (
            "[[serve.peers]]\nnetwork = '::1'\nmove_host = 'x'",
            "line 2, serve.peers.0: “move_host” needs the peer's “ae_title”.",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, f"[serve]\n{text}\n")
    assert says in caught.value.message
