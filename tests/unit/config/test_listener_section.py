"""What [listener] may say, and what is said of the rest."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from dcmvault.config.effective import effective
from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.load import load_settings
from dcmvault.config.settings import Settings
from dcmvault.errors import ConfigurationError

GOOD = """\
[listener]
ae_title = "VAULT"
host = "0.0.0.0"
port = 104
settle_s = 30

[[listener.peers]]
ae_title = "MR1"
network = "10.1.2.3/24"
report_host = "10.1.2.3"

[[listener.peers]]
network = "fd00::/8"
"""


def _load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    return load_settings(path)


def test_a_listener_for_other_machines(tmp_path: Path) -> None:
    listener = _load(tmp_path, GOOD).listener
    assert (listener.ae_title, listener.port, listener.settle_s) == ("VAULT", 104, 30)
    mr1, others = listener.peers
    assert mr1.addresses == ip_network("10.1.2.0/24")
    assert (others.ae_title, others.addresses) == ("", ip_network("fd00::/8"))


def test_the_defaults_are_for_this_machine(home: Path) -> None:
    listener = Settings().listener
    assert listener.host == "127.0.0.1"
    assert listener.spool == home / "spool"
    assert ListenerSection(folder="/data/spool").spool == Path("/data/spool")


def test_what_is_in_force_is_shown(tmp_path: Path) -> None:
    shown = effective(_load(tmp_path, GOOD))["listener"]
    assert isinstance(shown, dict)
    assert shown["port"] == 104


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("host = '0.0.0.0'", "line 1, listener: Other machines can connect"),
        ("host = 'pacs'", "“host” is an IP address of this machine"),
        ("prt = 1", "line 2, listener.prt: There is no such key. Did you mean “port”?"),
        ("port = 0", "line 2, listener.port: This must be at least 1."),
        ("ae_title = 'A\\B'", "line 2, listener.ae_title: An AE title has 1 to 16"),
        ("tls = true", "TLS needs our certificate"),
        ("tls_ca_file = 'x'", "“tls_ca_file” needs “tls = true”."),
        ("tls_key_passphrase = 'secret'", "What opens it never stands here"),
        ("peers = 1", "line 2, listener.peers: This must be a list of tables."),
        (
            "[[listener.peers]]\nnetwork = 'x'",
            "line 3, listener.peers.0.network: Write an address, or a network",
        ),
        (
            "[[listener.peers]]\nnetwork = '::1'\nreport_hst = 'x'",
            "line 4, listener.peers.0.report_hst: There is no such key. Did you mean “report_host",
        ),
        (
            "[[listener.peers]]\nnetwork = '::1'\nreport_host = 'x'",
            "line 2, listener.peers.0: “report_host” needs the peer's “ae_title”.",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, f"[listener]\n{text}\n")
    assert says in caught.value.message
