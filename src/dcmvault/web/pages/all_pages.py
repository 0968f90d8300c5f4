"""All pages in their order."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from dcmvault.web import asset_files, patients
from dcmvault.web.pages import (
    account,
    appearance,
    audit,
    live,
    login,
    overview,
    reports,
    runs,
    schedules,
)

#: A page is in the navigation as soon as its router is here.
ROUTERS: Sequence[APIRouter] = (
    overview.router,
    live.router,
    # Before the runs: its path would be the name of a run.
    reports.router,
    runs.router,
    schedules.router,
    audit.router,
    login.router,
    account.router,
    patients.router,
    appearance.router,
    asset_files.router,
)
