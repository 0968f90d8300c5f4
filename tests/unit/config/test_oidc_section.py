"""`[web.oidc]`: what is wrong is told with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcmvault.config.effective import effective
from dcmvault.config.load import settings_of
from dcmvault.errors import ConfigurationError

RIGHT = """\
[web]
idle_minutes = 20
[web.oidc]
issuer = "https://login.example.org/realms/hospital"
client_id = "dcmvault"
client_secret = "env:OIDC_SECRET"
redirect_uri = "https://backup.example.org/login/oidc/back"
scopes = ["profile", "groups"]
roles = {pacs-team = "operator", "cn=it,ou=x" = "administrator"}
"""


def test_what_is_right() -> None:
    settings = settings_of(RIGHT, Path("config.toml"))
    assert settings.web.oidc is not None
    assert settings.web.oidc.roles["cn=it,ou=x"] == "administrator"
    web = effective(settings)["web"]
    assert isinstance(web, dict)
    assert web["oidc"]["client_secret"] == "env:OIDC_SECRET"
    without = effective(settings_of("", Path("config.toml")))["web"]
    assert isinstance(without, dict)
    assert "oidc" not in without
    loopback = RIGHT.replace("https://login.example.org", "http://127.0.0.1:8080")
    assert settings_of(loopback, Path("config.toml")).web.oidc is not None


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("https://login", "http://login", "line 4, web.oidc.issuer: Write https"),
        ("https://login", "ftp://login", "line 4, web.oidc.issuer: A URL begins"),
        ("https://login", "https://ana@login", "line 4, web.oidc.issuer: A URL begins"),
        ("realms/hospital", "?realm=x", "line 4, web.oidc.issuer: This URL has neither"),
        ("realms/hospital", "#", "line 4, web.oidc.issuer: This URL has neither"),
        ("client_id", "client", "line 3, web.oidc.client_id: This key is needed"),
        ("client_id", "clientid", "line 5, web.oidc.clientid: There is no such key. Did you"),
        ("env:OIDC_SECRET", "hunter2", "line 6, web.oidc.client_secret: What opens it"),
        ("/login/oidc/back", "/", "line 7, web.oidc.redirect_uri: Write the dashboard's"),
        ("https://backup", "http://backup", "line 7, web.oidc.redirect_uri: Write https"),
        ("/back", "/back?x=y", "line 7, web.oidc.redirect_uri: This URL has neither"),
        ('"profile", ', '"two words", ', "web.oidc.scopes.0: A scope is one word"),
        ('["profile", "groups"]', '"profile"', "web.oidc.scopes: This must be a list of texts"),
        ('"operator"', '"owner"', "line 9, web.oidc.roles.pacs-team: Write one of: viewer"),
        ("roles = {", "roles = {} # {", "line 9, web.oidc.roles: At least one is needed"),
        ("[web.oidc]", "[web.oidcc]", "web.oidcc: There is no such key. Did you mean “oidc”?"),
    ],
)
def test_what_is_not(written: str, instead: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        settings_of(RIGHT.replace(written, instead), Path("config.toml"))
    assert said in refused.value.message
