"""Lessons: what people did to single studies, one row for each study and kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dcmvault.catalogue.bulk import among
from dcmvault.catalogue.database import Database
from dcmvault.catalogue.strategy_tables import lessons
from dcmvault.catalogue.tables import studies as known_studies
from dcmvault.model.learning import LessonKind


@dataclass(frozen=True, slots=True)
class LessonsInDatabase:
    """Implements `ports.strategy.LessonBook`."""

    database: Database

    def record_lesson(self, kind: LessonKind, studies: Collection[str], at: datetime) -> int:
        """Write down what was done to studies (UIDs); return how many of them are known."""
        if not studies:
            return 0
        with self.database.write() as connection:
            keys = connection.scalars(
                sa.select(known_studies.c.id).where(
                    among(connection, known_studies.c.study_instance_uid, studies)
                )
            ).all()
            if keys:
                connection.execute(
                    sa.delete(lessons).where(
                        among(connection, lessons.c.study_id, keys), lessons.c.kind == kind
                    )
                )
                connection.execute(
                    sa.insert(lessons),
                    [{"study_id": key, "kind": kind, "given_at": at} for key in keys],
                )
        return len(keys)

    def lessons(self) -> Mapping[int, Mapping[LessonKind, datetime]]:
        """Return what was done to studies, by their keys."""
        found: dict[int, dict[LessonKind, datetime]] = defaultdict(dict)
        with self.database.read() as connection:
            for row in connection.execute(sa.select(lessons).order_by(lessons.c.id)):
                found[row.study_id][row.kind] = row.given_at
        return found

    def forget_lessons(self) -> int:
        """Forget everything; return how many studies it was about."""
        with self.database.write() as connection:
            count = connection.scalar(sa.select(sa.func.count(lessons.c.study_id.distinct())))
            connection.execute(sa.delete(lessons))
        return int(count or 0)
