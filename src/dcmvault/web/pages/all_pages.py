"""All pages in their order."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from dcmvault.web import asset_files, patients
from dcmvault.web.pages import (
    account,
    appearance,
    live,
    login,
    overview,
    runs,
    settings,
    studies,
    study,
    study_bulk,
    trials,
    wizard,
    wizard_check,
)

#: A page is in the navigation as soon as its router is here.
ROUTERS: Sequence[APIRouter] = (
    overview.router,
    studies.router,
    study_bulk.router,
    study.router,
    live.router,
    runs.router,
    settings.router,
    wizard.router,
    wizard_check.router,
    trials.router,
    login.router,
    account.router,
    patients.router,
    appearance.router,
    asset_files.router,
)
