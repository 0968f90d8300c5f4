"""All pages in their order."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from dcmvault.web import asset_files, patients
from dcmvault.web.pages import (
    account,
    appearance,
    compare,
    live,
    login,
    overview,
    restore,
    runs,
    settings,
    trials,
    vault,
    wizard,
    wizard_check,
    work,
)

#: A page is in the navigation as soon as its router is here.
ROUTERS: Sequence[APIRouter] = (
    overview.router,
    live.router,
    compare.router,
    restore.router,
    runs.router,
    vault.router,
    settings.router,
    wizard.router,
    wizard_check.router,
    trials.router,
    work.router,
    login.router,
    account.router,
    patients.router,
    appearance.router,
    asset_files.router,
)
