"""What a vault holds: its snapshots, and the studies, series and instances of a state of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time

from dcmvault.app.restore_plan import study_word
from dcmvault.app.vault_access import open_named_vault
from dcmvault.config.settings import Settings
from dcmvault.errors import DestinationError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.instance import SeriesAttributes
from dcmvault.model.selection import NO_STUDY
from dcmvault.vault.choosing import Choice
from dcmvault.vault.damage import read_in_spite_of_damage
from dcmvault.vault.legible import LegibleState
from dcmvault.vault.records import InstanceRecord
from dcmvault.vault.repository import Vault
from dcmvault.vault.snapshot import Link, SnapshotState
from dcmvault.vault.state import VaultState

_DATE_ALONE = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_DICOM_RANGE = re.compile(r"(\d{8})-(\d{8})")
_UID = re.compile(r"[0-9]+(\.[0-9]+){2,}")


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """A snapshot with what it says; `state` is None where it is damaged."""

    link: Link
    state: SnapshotState | None

    @property
    def created_at(self) -> datetime:
        """When it was taken, UTC."""
        return stored_time(self.link.created_at)


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study of a state. `about` has what it is found by, with the names of StudyAttributes."""

    study_instance_uid: str
    about: Mapping[str, str]
    instances: int
    bytes: int

    @property
    def word(self) -> str:
        """The UID, or what stands for files that are no instances."""
        return study_word(self.study_instance_uid)


@dataclass(frozen=True, slots=True)
class SeriesView:
    """A series with the records of its instances, by Instance Number."""

    series_instance_uid: str
    attributes: SeriesAttributes
    records: tuple[InstanceRecord, ...]


@dataclass(slots=True)
class Contents:
    """An opened vault, looked at as far as it can be read."""

    address: str
    vault: Vault
    choice: Choice
    #: What could not be read: (Study Instance UID or empty, error).
    losses: dict[tuple[str, str], DestinationError] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """3 where something could not be read."""
        return 3 if self.losses else 0

    def state(self, snapshot: str = "", as_of: datetime | None = None) -> VaultState:
        """Return the present state, that of a snapshot, or that of an aware time."""
        if snapshot and as_of is not None:
            raise UsageError(_("Name a snapshot or a time, not both."))
        if snapshot:
            return self.choice.snapshot(snapshot)
        return self.choice.present() if as_of is None else self.choice.at(as_of)

    def legible(self, state: VaultState) -> LegibleState:
        """Read a state as far as that is possible."""
        return LegibleState(state, self.lose)

    def lose(self, study_instance_uid: str, error: DestinationError) -> None:
        """Remember what could not be read."""
        self.losses[study_instance_uid, error.message] = error

    def snapshots(self) -> list[SnapshotView]:
        """List the snapshots that were not forgotten, oldest first."""
        ordered = sorted(self.choice.links, key=lambda link: (link.created_at, link.name))
        return [SnapshotView(link, self.choice.state_of(link)) for link in ordered]

    def studies(self, state: VaultState) -> Iterator[StudyView]:
        """List the studies of a state."""
        legible = self.legible(state)
        for uid, entry in legible.overview():
            if entry is not None:
                yield StudyView(uid, entry.about, entry.instances, entry.size)
            elif (found := self._read(legible, uid)) is not None:
                yield found

    def study(self, state: VaultState, word: str) -> tuple[StudyView, list[SeriesView]]:
        """Return a study with its series; UsageError if the state has none of this UID."""
        uid = "" if word == NO_STUDY else word
        legible = self.legible(state)
        view = self._read(legible, uid)
        if view is None:
            raise UsageError(
                _("The vault holds no study %s.") % word,
                hint=_("`dcmvault find` and `dcmvault ls` show what it holds."),
            )
        attributes: dict[str, SeriesAttributes] = {}
        for part in legible.parts(uid):
            attributes |= part.series
        by_series: dict[str, list[InstanceRecord]] = {}
        for record in legible.records(uid):
            by_series.setdefault(record.series_instance_uid, []).append(record)
        series = [
            SeriesView(
                one,
                attributes.get(one, SeriesAttributes()),
                tuple(sorted(records, key=_instance_order)),
            )
            for one, records in by_series.items()
        ]
        series.sort(
            key=lambda one: (_number(one.attributes.series_number), one.series_instance_uid)
        )
        return view, series

    def _read(self, legible: LegibleState, uid: str) -> StudyView | None:
        """Make a study's view from its records, where no list says all of it."""
        records = legible.records(uid)
        if not records:
            return None
        size = sum(record.size for record in records)
        return StudyView(uid, legible.about(uid), len(records), size)


def open_contents(settings: Settings, name: str) -> Contents:
    """Open the vault that a command names; errors as `wiring.open_vault_at` raises them."""
    section, vault = open_named_vault(settings, name)
    losses: dict[tuple[str, str], DestinationError] = {}

    def pass_over(_key: str, error: DestinationError) -> None:
        losses["", error.message] = error

    read_in_spite_of_damage(vault)
    choice = Choice(vault, pass_over)
    return Contents(section.address, vault, choice, losses)


def stored_time(text: str) -> datetime:
    """Read a time as the vault writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def moment(text: str) -> datetime:
    """Read a date or time that somebody typed; the local time zone counts where none is given.

    A date alone means its end: what was there that day.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            _("“%s” is neither a date nor a time.") % text,
            hint=_("Write it as 2026-01-31, 2026-01-31T18:00 or 2026-01-31T18:00+01:00."),
        ) from None
    if _DATE_ALONE.fullmatch(text):
        read = datetime.combine(read.date(), time.max)
    try:
        return read.astimezone(UTC)
    except (OverflowError, OSError, ValueError):
        raise UsageError(_("“%s” is no time that a vault could be from.") % text) from None


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """What studies are looked for by; what is empty asks for nothing.

    Texts are compared without regard to case and accents, and may be parts of the value.
    """

    text: str = ""
    patient: str = ""
    date: str = ""
    modality: str = ""
    accession: str = ""
    description: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A study that was found, and the instances of it that were meant, where fewer were."""

    study: StudyView
    records: tuple[InstanceRecord, ...] = ()


def find_studies(contents: Contents, state: VaultState, query: StudyQuery) -> Iterator[Found]:
    """List the studies of a state that all of the query is true of.

    A UID may be that of a study, a series or an instance; for the last two all records are read.
    """
    dates = date_range(query.date)
    candidates = [
        study
        for study in contents.studies(state)
        if _matches(study, query) and _in_range(study, dates)
    ]
    by_text = [study for study in candidates if _contains(_everything(study), query.text)]
    uid = query.uid
    if not uid and not by_text and _UID.fullmatch(query.text):
        uid = query.text
    if not uid:
        yield from map(Found, by_text)
        return
    candidates = by_text if query.uid else candidates
    named = [study for study in candidates if study.study_instance_uid == uid]
    if named:
        yield from map(Found, named)
        return
    legible = contents.legible(state)
    for study in candidates:
        meant = tuple(
            record
            for record in legible.records(study.study_instance_uid)
            if uid in (record.series_instance_uid, record.sop_instance_uid)
        )
        if meant:
            yield Found(study, meant)


def _everything(study: StudyView) -> str:
    return " ".join([study.study_instance_uid, *study.about.values()])


def _matches(study: StudyView, query: StudyQuery) -> bool:
    seen = study.about
    patient = f"{seen.get('patient_name', '')} {seen.get('patient_id', '')}"
    modality = query.modality.upper()
    return (
        _contains(patient, query.patient)
        and _contains(seen.get("accession_number", ""), query.accession)
        and _contains(seen.get("study_description", ""), query.description)
        and (not modality or modality in seen.get("modalities", "").upper().split())
    )


def _contains(value: str, wanted: str) -> bool:
    """Say whether every word of `wanted` is in the value."""
    return all(word in _plain(value) for word in _plain(wanted).split())


def _plain(text: str) -> str:
    spread = unicodedata.normalize("NFKD", text.replace("^", " ")).casefold()
    return "".join(char for char in spread if not unicodedata.combining(char))


def date_range(text: str) -> tuple[str, str] | None:
    """Read `2026`, `2026-01`, `2026-01-31`, `FIRST..LAST` or a range as DICOM writes it.

    Returns first and last day, eight digits each; None for nothing.
    """
    if not text:
        return None
    if found := _DICOM_RANGE.fullmatch(text):
        first, last = found[1], found[2]
    else:
        first, dots, last = (part.replace("-", "") for part in text.partition(".."))
        last = last if dots else first
    if not all(part.isascii() and (part.isdecimal() or not part) for part in (first, last)) or (
        not all(len(part) in (0, 4, 6, 8) for part in (first, last)) or not first + last
    ):
        raise UsageError(
            _("“%s” is no date to look for.") % text,
            hint=_("Write 2026, 2026-01, 2026-01-31, or FIRST..LAST."),
        )
    return first.ljust(8, "0"), last.ljust(8, "9")


def _in_range(study: StudyView, dates: tuple[str, str] | None) -> bool:
    date = study.about.get("study_date", "").replace(".", "")
    return dates is None or (bool(date) and dates[0] <= date <= dates[1])


def _instance_order(record: InstanceRecord) -> tuple[int, str, str]:
    return _number(record.instance_number), record.sop_instance_uid, record.locator


def _number(text: str) -> int:
    """Return an IS value for sorting; what is none comes last."""
    stripped = text.strip()
    return int(stripped) if re.fullmatch(r"[+-]?[0-9]{1,12}", stripped) else 1 << 60


def files_without_snapshot(contents: Contents) -> int:
    """Count the files that were stored and that no snapshot names yet."""
    journals = contents.vault.journals()
    return sum(ref.instances for journal in journals for ref in journal.records)
