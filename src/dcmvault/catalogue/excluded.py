"""Whether a study is left out of backups, as a condition of other questions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dcmvault.catalogue.matrix_tables import study_exclusions
from dcmvault.catalogue.tables import studies


def is_excluded(study_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Say of rows with a study's key that it is left out. There are few: they are listed once."""
    return study_id.in_(
        sa.select(studies.c.id).where(
            studies.c.study_instance_uid.in_(sa.select(study_exclusions.c.study_instance_uid))
        )
    )


def is_wanted(study_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Say of rows with a study's key that it is not left out; files of no study never are."""
    return sa.or_(study_id.is_(None), ~is_excluded(study_id))
