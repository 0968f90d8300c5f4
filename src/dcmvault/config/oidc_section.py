"""The section `[web.oidc]`: people log in to the dashboard at an OpenID Connect provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from dcmvault.config.options import SecretReference, Section
from dcmvault.config.peer_sections import is_private_way
from dcmvault.i18n import gettext as _
from dcmvault.model.account import Role

#: Where the provider sends browsers back to.
REDIRECT_PATH = "/login/oidc/back"
#: RFC 6749 section 3.3.
_SCOPE = re.compile(r"[!#-\[\]-~]{1,100}")
_ROLES = tuple(role.value for role in Role)


def _private_url(text: str) -> str:
    if not is_private_way(text):
        raise ValueError(_("Write https: without TLS only what is on this machine is spoken to."))
    parts = urlsplit(text)
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError(_("This URL has neither “?” nor “#”."))
    return text


def _redirect_uri(text: str) -> str:
    if urlsplit(_private_url(text)).path != REDIRECT_PATH:
        raise ValueError(
            _("Write the dashboard's address, as browsers name it, followed by %s.") % REDIRECT_PATH
        )
    return text


def _role(text: str) -> str:
    if text not in _ROLES:
        raise ValueError(_("Write one of: %s.") % ", ".join(_ROLES))
    return text


def _scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError(_("A scope is one word of ASCII."))
    return text


_Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class OidcSection(Section):
    """A provider at which people log in, and which role each of them gets."""

    #: The provider, as its discovery document names itself (OpenID Connect Discovery 1.0).
    issuer: Annotated[_Text, AfterValidator(_private_url)]
    #: The client's id, as the provider knows us.
    client_id: _Text
    #: The client's secret; empty: a public client, which PKCE alone protects.
    client_secret: SecretReference = ""
    #: Where browsers come back to, as registered at the provider.
    redirect_uri: Annotated[_Text, AfterValidator(_redirect_uri)]
    #: The claim of the ID token that says what somebody is: a text, or a list of them. A “.” leads
    #: into an object, unless a claim is named so.
    role_claim: _Text = "groups"
    #: The role for each value of that claim; of several the highest. Who has none is refused.
    roles: Mapping[_Text, Annotated[str, AfterValidator(_role)]] = Field(min_length=1)
    #: The claim that accounts are named after.
    name_claim: _Text = "preferred_username"
    #: What is asked for, beside “openid”.
    scopes: tuple[Annotated[str, AfterValidator(_scope)], ...] = ("profile",)
    #: The words of the button on the login page; empty: ours, in the reader's language.
    button: str = Field(default="", max_length=80)
    #: TLS: path of the certificates (PEM) that are trusted; empty: those that the system trusts.
    tls_ca_file: str = ""
