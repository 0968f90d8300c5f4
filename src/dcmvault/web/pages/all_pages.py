"""All pages in their order."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from dcmvault.web import asset_files, patients
from dcmvault.web.pages import (
    account,
    appearance,
    compare,
    login,
    overview,
    restore,
    runs,
    vault,
    work,
)

#: A page is in the navigation as soon as its router is here.
ROUTERS: Sequence[APIRouter] = (
    overview.router,
    compare.router,
    restore.router,
    runs.router,
    vault.router,
    work.router,
    login.router,
    account.router,
    patients.router,
    appearance.router,
    asset_files.router,
)
