"""All pages in their order."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from dcmvault.web import asset_files, patients
from dcmvault.web.pages import (
    account,
    accounts,
    appearance,
    audit,
    compare,
    live,
    login,
    login_oidc,
    overview,
    reports,
    restore,
    runs,
    schedules,
    settings,
    settings_text,
    studies,
    study,
    study_bulk,
    study_views,
    trials,
    vault,
    wizard,
    wizard_check,
    work,
)

#: A page is in the navigation as soon as its router is here.
ROUTERS: Sequence[APIRouter] = (
    overview.router,
    studies.router,
    study_bulk.router,
    study_views.router,
    study.router,
    live.router,
    compare.router,
    restore.router,
    # Before the runs: its path would be the name of a run.
    reports.router,
    runs.router,
    vault.router,
    schedules.router,
    audit.router,
    # Before the settings: its path would be the name of a table.
    settings_text.router,
    settings.router,
    wizard.router,
    wizard_check.router,
    trials.router,
    work.router,
    login.router,
    login_oidc.router,
    account.router,
    accounts.router,
    patients.router,
    appearance.router,
    asset_files.router,
)
