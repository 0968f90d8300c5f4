"""The catalogue's tables: one metadata for SQLite and PostgreSQL.

Keys are BIGINT. Times are microseconds since 1970 (UTC), so that they sort and compare alike in
both databases. Rows that describe instances are never deleted. Only add to this schema: a new
column is free, a changed type copies the table on SQLite.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dcmvault.model.evidence import Finding
from dcmvault.model.job import ItemState, JobState
from dcmvault.model.report import RunState


class EntryState(StrEnum):
    """Where an entry stood when its source was last passed over."""

    PRESENT = "present"
    #: Listed, but it could not be read; what it holds is unknown.
    UNREADABLE = "unreadable"
    GONE = "gone"


class HoldingState(StrEnum):
    """What supports a holding, or refutes it."""

    #: A receipt only: a claim.
    SENT = "sent"
    HELD = "held"
    MISSING = "missing"
    DAMAGED = "damaged"


#: What a finding that refutes a holding makes of it.
REFUTED = {Finding.MISSING: HoldingState.MISSING, Finding.DAMAGED: HoldingState.DAMAGED}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware UTC time, stored as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn an aware time into microseconds; TypeError for a naive one."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn microseconds into an aware time."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class Unsigned(sa.types.TypeDecorator[int]):
    """An unsigned 64-bit number in a signed column: some file systems number inodes so high."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn 2**63 and above into negative numbers."""
        return value - (1 << 64) if value is not None and value >= 1 << 63 else value

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn negative numbers back."""
        return value + (1 << 64) if value is not None and value < 0 else value


class Word(sa.types.TypeDecorator[StrEnum]):
    """A member of a `StrEnum`, stored as its word."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: StrEnum | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn a member into its word."""
        return None if value is None else str(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> StrEnum | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn a word into the member."""
        return None if value is None else self.kind(value)


class FreeText(sa.types.TypeDecorator[str]):
    """Text from outside: what no database can store (NUL, lone surrogates) is replaced."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Make the text storable."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """Return `text` without NUL and with lone surrogates replaced by `?`."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite gives keys by itself only to a column of type INTEGER (which holds 64 bits there).
Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _key() -> sa.Column[int]:
    return sa.Column("id", Key, primary_key=True)


def _reference(name: str, target: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Key, sa.ForeignKey(f"{target}.id"), nullable=nullable)


def _count(name: str, kind: type[sa.Integer] = sa.BigInteger) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, server_default="0")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, FreeText, nullable=False, server_default="")


sources = sa.Table(
    "sources",
    metadata,
    _key(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    # What is listed now, counted at the end of a pass; `counted` is false while one changes it.
    sa.Column("counted", sa.Boolean, nullable=False, server_default=sa.true()),
    _count("entries"),
    _count("instances"),
    _count("studies"),
    _count("bytes"),
    # What the last pass saw whose absences were believed.
    _count("believed_instances"),
    sa.Column("last_seen_at", Moment),
    # Where the source's own log of changes stood then; empty for a source without one.
    _text("bookmark"),
)

destinations = sa.Table(
    "destinations",
    metadata,
    _key(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    # Until a plan says otherwise: nothing then stands for what only looks equal to it.
    sa.Column("keeps_versions", sa.Boolean, nullable=False, server_default=sa.true()),
)

studies = sa.Table(
    "studies",
    metadata,
    _key(),
    sa.Column("study_instance_uid", sa.Text, nullable=False, unique=True),
    # Patient data is here and, folded for searches, in `study_lines`; nowhere else.
    _text("patient_name"),
    _text("patient_id"),
    _text("patient_birth_date"),
    _text("patient_sex"),
    _text("study_date"),
    _text("study_time"),
    _text("study_description"),
    _text("accession_number"),
    _text("institution_name"),
)

series = sa.Table(
    "series",
    metadata,
    _key(),
    _reference("study_id", "studies"),
    sa.Column("series_instance_uid", sa.Text, nullable=False),
    _text("modality"),
    _text("series_number"),
    _text("series_description"),
    _text("body_part_examined"),
    _text("source_ae_title"),
    _text("station_name"),
    sa.UniqueConstraint("study_id", "series_instance_uid"),
)

instances = sa.Table(
    "instances",
    metadata,
    _key(),
    _reference("series_id", "series"),
    sa.Column("sop_instance_uid", sa.Text, nullable=False),
    # In this order it also serves look-ups by SOP Instance UID alone.
    sa.UniqueConstraint("sop_instance_uid", "series_id"),
    sa.Index(None, "series_id"),
)

kinds = sa.Table(
    "kinds",
    metadata,
    _key(),
    sa.Column("sop_class_uid", sa.Text, nullable=False),
    sa.Column("transfer_syntax_uid", sa.Text, nullable=False),
    sa.UniqueConstraint("sop_class_uid", "transfer_syntax_uid"),
)

runs = sa.Table(
    "runs",
    metadata,
    _key(),
    sa.Column("run_id", sa.Text, nullable=False, unique=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("strategy", sa.Text, nullable=False),
    _reference("source_id", "sources", nullable=True),
    sa.Column("state", Word(RunState), nullable=False, index=True),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("started_at", Moment),
    sa.Column("planned_at", Moment),
    sa.Column("finished_at", Moment),
    sa.Column("continued_at", Moment),
    _count("scanned"),
    _count("new"),
    _count("changed"),
    _count("gone"),
    _count("not_dicom"),
    sa.Column("stages", sa.Text, nullable=False, server_default="{}"),
    sa.Column("warnings", FreeText, nullable=False, server_default="[]"),
    sa.Column("error_code", sa.Text),
    _text("error_message"),
    _text("error_hint"),
)

versions = sa.Table(
    "versions",
    metadata,
    _key(),
    # NULL for an opaque file.
    _reference("instance_id", "instances", nullable=True),
    _reference("kind_id", "kinds", nullable=True),
    sa.Column("file_sha256", sa.LargeBinary),
    sa.Column("data_set_digest", sa.LargeBinary),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("instance_number", sa.BigInteger),
    _text("opaque_reason"),
    _reference("first_run_id", "runs", nullable=True),
    sa.Index(None, "instance_id"),
)

entries = sa.Table(
    "entries",
    metadata,
    _key(),
    _reference("source_id", "sources"),
    sa.Column("locator", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", Unsigned, nullable=False),
    sa.Column("claim", sa.Text, nullable=False),
    sa.Column("state", Word(EntryState), nullable=False),
    # NULL for what is not DICOM.
    _reference("version_id", "versions", nullable=True),
    # NULL for opaque files and what is not DICOM.
    _reference("study_id", "studies", nullable=True),
    _text("problem_code"),
    _text("problem"),
    sa.UniqueConstraint("source_id", "locator"),
    sa.Index(None, "source_id", "study_id"),
    sa.Index(None, "version_id"),
    sa.Index(
        "ix_entries_unreadable",
        "source_id",
        sqlite_where=sa.text("state = 'unreadable'"),
        postgresql_where=sa.text("state = 'unreadable'"),
    ),
)

#: Counter column of each item state, on jobs and on run_destinations.
STATE_COUNTERS = {state: f"n_{state.value}" for state in ItemState}

run_destinations = sa.Table(
    "run_destinations",
    metadata,
    _key(),
    _reference("run_id", "runs"),
    _reference("destination_id", "destinations"),
    _count("level", sa.SmallInteger),
    _count("already_held"),
    # The newest version when the run was planned: what a differential run compares with.
    _count("newest_version_id"),
    _count("items"),
    _count("bytes"),
    _count("settled_bytes"),
    _count("transferred_bytes"),
    *(_count(name) for name in STATE_COUNTERS.values()),
    # Why the run could take no snapshot there; empty where it could, or none was to be taken.
    _text("snapshot_failure_code"),
    _text("snapshot_failure"),
    _text("snapshot_failure_hint"),
    # Seconds by stage, as JSON.
    sa.Column("stages", sa.Text, nullable=False, server_default="{}"),
    sa.UniqueConstraint("run_id", "destination_id"),
    sa.Index(None, "destination_id"),
)

run_unreadable = sa.Table(
    "run_unreadable",
    metadata,
    sa.Column("run_id", Key, sa.ForeignKey("runs.id"), primary_key=True, autoincrement=False),
    sa.Column("entry_id", Key, sa.ForeignKey("entries.id"), primary_key=True, autoincrement=False),
    _text("code"),
    _text("message"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    _key(),
    # NULL only between insertion and naming, which are one transaction.
    sa.Column("job_id", sa.Text, unique=True),
    _reference("run_destination_id", "run_destinations"),
    sa.Column("study_instance_uid", sa.Text, nullable=False),
    sa.Column("series_instance_uid", sa.Text, nullable=False),
    sa.Column("state", Word(JobState), nullable=False, index=True),
    _count("priority", sa.SmallInteger),
    _count("instances", sa.Integer),
    _count("bytes"),
    _count("attempt", sa.Integer),
    *(_count(name, sa.Integer) for name in STATE_COUNTERS.values()),
    sa.Index(None, "run_destination_id", "study_instance_uid"),
    # A dropped job's name must not come back: the durable engine remembers names.
    sqlite_autoincrement=True,
)

items = sa.Table(
    "items",
    metadata,
    _key(),
    _reference("job_id", "jobs"),
    _count("position", sa.Integer),
    _reference("version_id", "versions"),
    _reference("entry_id", "entries"),
    # As planned: the entry's row may be moved on by a later pass.
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", Unsigned, nullable=False),
    sa.Column("state", Word(ItemState), nullable=False),
    _count("attempts", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("conflict", sa.Boolean, nullable=False),
    sa.Column("earlier_version_there", sa.Boolean, nullable=False),
    _text("code"),
    _text("status"),
    _text("message"),
    _text("hint"),
    sa.Index(None, "job_id", "position"),
    sa.Index(None, "version_id"),
)

evidence = sa.Table(
    "evidence",
    metadata,
    _key(),
    _reference("destination_id", "destinations"),
    # NULL for opaque files.
    _reference("study_id", "studies", nullable=True),
    _reference("run_id", "runs"),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("observed_at", Moment, nullable=False),
    _count("held"),
    _count("not_held"),
    sa.Column("proof", FreeText, nullable=False),
    sa.Index(None, "study_id", "destination_id"),
)

holdings = sa.Table(
    "holdings",
    metadata,
    sa.Column(
        "destination_id",
        Key,
        sa.ForeignKey("destinations.id"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column(
        "version_id", Key, sa.ForeignKey("versions.id"), primary_key=True, autoincrement=False
    ),
    sa.Column("state", Word(HoldingState), nullable=False),
    # 0 where evidence refutes the holding, 1 for a receipt alone.
    sa.Column("level", sa.SmallInteger, nullable=False),
    _text("object_key"),
    _text("status"),
    _text("warning"),
    sa.Column("received_at", Moment),
    _reference("receipt_run_id", "runs", nullable=True),
    sa.Column("verified_at", Moment),
    _reference("evidence_id", "evidence", nullable=True),
    # Proven, but for attributes that the destination writes itself: the evidence lists them.
    sa.Column("coerced", sa.Boolean, nullable=False, server_default=sa.false()),
    # When evidence of each level was last given; `level` and `verified_at` are of the strongest.
    *(sa.Column(f"{word}_at", Moment) for word in ("present", "complete", "committed", "proven")),
    sa.Index(None, "version_id"),
    sqlite_with_rowid=False,
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column(
        "destination_id",
        Key,
        sa.ForeignKey("destinations.id"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("snapshot_id", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    # NULL for one that no run of this catalogue took.
    _reference("run_id", "runs", nullable=True),
    sa.Index(None, "run_id"),
    sqlite_with_rowid=False,
)

manifest_links = sa.Table(
    "manifest_links",
    metadata,
    # By the fingerprint of the key that signs it: each state folder has a chain of its own.
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

drills = sa.Table(
    "drills",
    metadata,
    _key(),
    # Where studies were restored from, by its address without a snapshot.
    sa.Column("place", sa.Text, nullable=False, index=True),
    sa.Column("drilled_at", Moment, nullable=False),
    # What the place held then; 0 where that was not known.
    _count("whole_studies"),
    _count("whole_bytes"),
    sa.Column("opening_s", sa.Double, nullable=False, server_default="0"),
)

drilled_studies = sa.Table(
    "drilled_studies",
    metadata,
    sa.Column("drill_id", Key, sa.ForeignKey("drills.id"), primary_key=True, autoincrement=False),
    # Not a key of `studies`: a vault may hold studies that this catalogue never saw.
    sa.Column("study_instance_uid", sa.Text, primary_key=True, index=True),
    _count("files"),
    _count("bytes"),
    sa.Column("seconds", sa.Double, nullable=False, server_default="0"),
    # Empty where it was proven.
    _text("problem"),
)

bandwidth_shares = sa.Table(
    "bandwidth_shares",
    metadata,
    # A destination's address, or empty: of all destinations together.
    sa.Column("limit_name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    # By the database server's clock, which all holders go by.
    sa.Column("leased_until", Moment, nullable=False),
    sqlite_with_rowid=False,
)
