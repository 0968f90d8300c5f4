"""What every HTML page of ours has in common: templates, style, and a policy that forbids the rest.

A page carries its own Content Security Policy: even if a value slipped through the escaping, the
browser would run nothing and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dcmvault.i18n import language
from dcmvault.reports.escaping import visible


def render_page(template: str, **values: object) -> str:
    """Render a template of ours in the language in use; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("dcmvault.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalised,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Only these files of ours are trusted as they are.
    style = Markup(environment.get_template("style.css").render())  # noqa: S704
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(
        language=language().replace("_", "-"),
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        **values,
    )


def _finalised(value: object) -> object:
    """Make controls and direction marks of every shown text visible, before it is escaped."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value
