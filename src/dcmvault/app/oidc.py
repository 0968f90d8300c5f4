"""Login at an OpenID Connect provider, put together as it is configured."""

from __future__ import annotations

from dcmvault.app.identities import IdentityDesk
from dcmvault.app.login import LoginDesk
from dcmvault.app.oidc_login import OidcDesk, VerifiesToken
from dcmvault.app.oidc_provider import OidcProvider
from dcmvault.config import secrets
from dcmvault.config.oidc_section import OidcSection
from dcmvault.errors import ConfigurationError
from dcmvault.i18n import gettext as _
from dcmvault.ports.clock import Clock


def build_oidc(
    section: OidcSection, identities: IdentityDesk, login: LoginDesk, clock: Clock
) -> OidcDesk:
    """Make the login at a provider; nothing is connected. ConfigurationError without the extra."""
    verifies = _verifier()
    return OidcDesk(section, OidcProvider(section, clock), verifies, identities, login, clock)


def tried_provider(section: OidcSection, clock: Clock) -> int:
    """Ask a provider what a login needs, and look the secret up; return how many keys it has.

    ConfigurationError without the extra or the secret, LoginServiceError for a provider that does
    not answer rightly.
    """
    _verifier()
    if section.client_secret:
        secrets.resolve(section.client_secret)
    return len(OidcProvider(section, clock).keys())


def _verifier() -> VerifiesToken:
    try:
        from dcmvault.app.oidc_tokens import verified_claims  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            _("A part of dcmvault that [web.oidc] needs is not installed."),
            hint="pip install 'dcmvault[oidc]'",
        ) from error
    return verified_claims
