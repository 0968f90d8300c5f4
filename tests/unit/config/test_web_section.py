"""`[web]`: other machines are let in by TLS, or by a word that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.config.load import load_settings
from dcmvault.errors import ConfigurationError


def _load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "config.toml"
    path.write_text("[web]\n" + text)
    return load_settings(path).web


@pytest.mark.parametrize(
    "text",
    [
        "",
        'host = "::1"',
        'host = "127.0.0.2"\nport = 1',
        'host = "0.0.0.0"\nallow_plain_http = true',
        'host = "0.0.0.0"\ntls_certificate_file = "/etc/web.pem"\ntls_key_file = "/etc/web.key"',
        'names = ["backup.example.org", "BACKUP."]',
    ],
)
def test_what_is_safe(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('host = "0.0.0.0"', "unencrypted"),
        ('host = "192.168.1.7"', "allow_plain_http"),
        ('host = "localhost"', "IP address"),
        ("port = 0", "port"),
        ('tls_key_file = "/etc/web.key"', "tls_certificate_file"),
        ('tls_certificate_file = "a"\ntls_key_passphrase = "secret"', "env:NAME"),
        ('names = ["https://backup.example.org"]', "host name"),
        ('names = ["backup.example.org:443"]', "host name"),
        ("prot = 1", "port"),
    ],
)
def test_what_is_not(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _load(tmp_path, text)
    assert said in refused.value.message + refused.value.hint
