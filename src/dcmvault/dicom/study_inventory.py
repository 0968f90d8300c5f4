"""All studies of a peer that may give only so many answers to one question.

Peers cap answers and do not say so. An answer is believed to be whole when the two halves of the
question give no more than it; else the question is split: by ranges of study dates, then of study
times, then by modality. Studies without a date match no range (PS3.4 section C.2.2.2.5), hence
those are looked for once more, by the beginnings of patient IDs. What cannot be split any further
is said in `doubts`.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from dcmvault.dicom.attribute_query import (
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_ID,
    STUDY_DATE,
    STUDY_INSTANCE_UID,
    STUDY_TIME,
    Answers,
    Row,
    Tag,
)
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.told_studies import ToldStudies, TooMuchToldError, patient_id_in
from dcmvault.errors import DestinationError, DestinationUnreachableError

_log = logging.getLogger(__name__)

#: Nobody caps below this.
LOWEST_CAP = 10
#: More questions are a peer without end.
_MAX_QUESTIONS = 1_000_000
_MAX_STUDIES = 20_000_000
#: UIDs in one question by which studies are confirmed.
_UIDS_PER_QUESTION = 50
#: Questions refused one after the other; a smaller part of a day there is not.
_MAX_REFUSED = 50
LONGEST_ID = 64
_FIRST_DAY, _LAST_DAY = date(1895, 1, 1), date(2999, 12, 31)
_LAST_SECOND = 24 * 3600 - 1
#: Defined terms of Modality (PS3.3 section C.7.3.1.1.1), retired ones that archives hold included.
_MODALITIES = (
    *("CT", "MR", "CR", "DX", "US", "XA", "MG", "PT", "NM", "RF", "OT", "SC", "SR", "PR", "KO"),
    *("DOC", "ECG", "IO", "PX", "ES", "XC", "OP", "OPT", "GM", "SM", "IVUS", "IVOCT", "BI", "BDUS"),
    *("RTIMAGE", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "SEG", "HD", "HC", "EPS"),
    *("BMD", "DG", "LS", "TG", "VL", "DS", "CF", "DF", "VF", "AS", "CD", "DD", "ST", "EC", "CS"),
    *("LEN", "OAM", "OPM", "OPV", "AR", "KER", "VA", "SRF", "LP", "MA", "MS", "FA", "CP", "DM"),
    *("FS", "AU", "RESP", "EEG", "EMG", "EOG", "FID", "PLAN", "M3D", "MODEL", "OSS", "POS"),
    "TEXTUREMAP",
)
#: Of what patient IDs are made; what begins otherwise is told by comparison, and is a doubt.
ID_CHARACTERS = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_./ #:+&()=@,;'^~|$%!"
)

Keys = Mapping[Tag, str]
Ask = Callable[[Keys], Answers]


@dataclass(slots=True)
class StudyInventory:
    """The studies of one peer. `ask` asks a question at STUDY level.

    `max_answers` is what the peer gives at most, where that is known; 0: it is found out.
    """

    ask: Ask
    max_answers: int = 0
    #: Asks at SERIES level for studies that have a series of a modality, where that is possible:
    #: not every peer matches the modalities in a study.
    ask_series: Ask | None = None
    #: Studies without a date are looked for, which no range of dates matches.
    seeks_undated: bool = True
    #: What was told of each study (`unpacked`), by Study Instance UID: there may be millions.
    found: ToldStudies = field(default_factory=ToldStudies)
    #: Why there may be more, each in words.
    doubts: list[str] = field(default_factory=list)
    #: Answers whose Study Instance UID no question can name.
    nameless: int = 0
    #: As many answers as this, or more, may be cut; 0: no cap is known.
    cap: int = 0
    _asked: int = 0
    #: Questions that were refused one after the other.
    _refused: int = 0
    _ids: set[str] = field(default_factory=set)

    def collect(self) -> None:
        """Ask until everything is found, as far as that can be known.

        Raises DestinationError when the peer refuses whatever is asked.
        """
        self.cap = self.max_answers
        try:
            whole = self._take({})
        except (DestinationUnreachableError, TooMuchToldError):
            raise
        except DestinationError as error:
            # Some refuse a question without any key.
            _log.info("the peer refuses to list all studies at once (%s)", error.code)
            whole = Answers((), is_cut=True)
        if not self._needs_splitting(whole):
            return
        _log.info("the peer's studies are listed in parts")
        if not self._by_date(whole):
            self._by_patient_id({})
            if self.doubts:
                doubt(self.doubts, "the peer does not split its answers by study date")
        elif self.seeks_undated and (self.cap or not whole.rows):
            self._by_patient_id({})
            self._doubt_what_is_missed()

    def confirm(self, uids: Iterable[str]) -> Iterator[str]:
        """Yield those of these studies that are there though they were not found, by UID alone.

        They are found then. A list of UIDs is asked for first, then each that it did not bring.
        """
        batch: list[str] = []
        for uid in uids:
            if uid not in self.found and is_usable_uid(uid):
                batch.append(uid)
            if len(batch) == _UIDS_PER_QUESTION:
                yield from self._confirmed(batch)
                batch = []
        yield from self._confirmed(batch)

    def _confirmed(self, uids: Collection[str]) -> Iterator[str]:
        if len(uids) > 1:
            self._take({STUDY_INSTANCE_UID: "\\".join(uids)})
        for uid in uids:
            if uid not in self.found:
                self._take({STUDY_INSTANCE_UID: uid})
            if uid in self.found:
                yield uid

    def _take(self, keys: Keys) -> Answers:
        """Ask a question and keep what is found."""
        self._asked += 1
        if self._asked > _MAX_QUESTIONS or len(self.found) > _MAX_STUDIES:
            raise TooMuchToldError(
                "the peer's list of studies has no end", hint="Look for a defect of the peer."
            )
        answers = self.ask(keys)
        for row in answers.rows:
            uid = row.get(STUDY_INSTANCE_UID, "")
            if is_usable_uid(uid):
                self.found.keep(row)
            else:
                self.nameless += 1
        return answers

    def _needs_splitting(self, whole: Answers) -> bool:
        """Say whether the answer to the widest question is not all there is."""
        count = len(whole.rows)
        if whole.is_cut or (self.cap and count >= self.cap):
            self.cap = self.cap or count
            return True
        if count < LOWEST_CAP:
            return False
        # A number that somebody configured may be greater than the cap there is.
        before = len(self.found)
        tells = True
        halves = list(_halves(whole))
        for half in halves:
            answers = self._take(half.keys)
            tells = tells and all(map(half.includes, answers.rows))
        # A cap that nobody tells; or nothing tells a cap from a true count.
        if len(self.found) > before or not (self.cap or (halves and tells)):
            self.cap = count
            return True
        if not (is_round(count) and self.seeks_undated):
            return False
        # All that have a date may be as many as the cap, and others beside them.
        configured, self.cap = self.cap, count
        self._by_patient_id({})
        if len(self.found) > before:
            return True
        self.cap = configured
        return False

    def _is_cut(self, answers: Answers) -> bool:
        return answers.is_cut or (bool(self.cap) and len(answers.rows) >= self.cap)

    def _ask_part(self, keys: Keys) -> Answers:
        """Ask part of a question; one that is refused is cut, and empty."""
        try:
            answers = self._take(keys)
        except (DestinationUnreachableError, TooMuchToldError):
            raise
        except DestinationError:
            self._refused += 1
            if self._refused > _MAX_REFUSED:
                raise
            return Answers((), is_cut=True)
        self._refused = 0
        return answers

    def _by_date(self, whole: Answers) -> bool:
        """Split by ranges of dates; False where the peer does not tell dates apart."""
        parts: list[tuple[date, date, Answers]] = [(_FIRST_DAY, _LAST_DAY, whole)]
        while parts:
            first, last, answers = parts.pop()
            if first == last:
                if self._is_cut(answers):
                    self._by_time(first)
                continue
            inside = [day for day in _days_of(answers) if first <= day <= last]
            if answers.rows and not inside and (first, last) != (_FIRST_DAY, _LAST_DAY):
                return False
            middle = statistics.median_low(inside) if inside else first + (last - first) // 2
            before = len(self.found)
            halves = [
                (low, high, self._ask_part({STUDY_DATE: _date_range(low, high)}))
                for low, high in _split(first, last, middle)
            ]
            if not self.cap and len(self.found) > before:
                self.cap = len(answers.rows)
            if self.cap or answers.is_cut or len(self.found) > before:
                parts += [half for half in halves if self._may_be_cut(half[2])]
        return True

    def _may_be_cut(self, answers: Answers) -> bool:
        """Say whether an answer is to be split, if only to find out what the cap is."""
        return self._is_cut(answers) or (not self.cap and len(answers.rows) >= LOWEST_CAP)

    def _by_time(self, day: date) -> None:
        """Split a day on which more studies were made than are told at once."""
        on_day = {STUDY_DATE: _date_range(day, day)}
        parts = [(0, _LAST_SECOND)]
        while parts:
            first, last = parts.pop()
            keys = {**on_day, STUDY_TIME: _time_range(first, last)}
            answers = self._ask_part(keys)
            if not self._is_cut(answers):
                continue
            if first == last:
                self._by_modality(keys)
                continue
            inside = sorted(
                second for second in map(_second_of, answers.rows) if first <= second <= last
            )
            if answers.rows and not inside:
                self._by_modality(on_day)  # the peer ignores times
                return
            middle = statistics.median_low(inside) if inside else (first + last) // 2
            if middle == last:
                parts += [(first, last - 1), (last, last)]
            else:
                parts += [(first, middle), (middle + 1, last)]

    def _by_modality(self, keys: Keys) -> None:
        seen: set[frozenset[str]] = set()
        is_repeated = False
        for modality in _MODALITIES:
            narrower = {**keys, MODALITIES_IN_STUDY: modality}
            answers = self._ask_part(narrower)
            if not self._is_cut(answers) or self._by_series({**keys, MODALITY: modality}):
                continue
            named = frozenset(row.get(STUDY_INSTANCE_UID, "") for row in answers.rows)
            if named in seen:  # most likely the peer ignores modalities
                is_repeated = True
                continue
            seen.add(named)
            self._by_patient_id(narrower)
        if is_repeated:
            self._by_patient_id(keys)

    def _by_series(self, keys: Keys) -> bool:
        """Ask for studies by their series; False where that may not bring all of them."""
        if self.ask_series is None:
            return False
        try:
            answers = self.ask_series(keys)
        except DestinationUnreachableError:
            raise
        except DestinationError:
            self.ask_series = None
            return False
        # Only what is told of a study itself is believed.
        for _uid in self.confirm({row.get(STUDY_INSTANCE_UID, "") for row in answers.rows}):
            pass
        return not self._is_cut(answers)

    def _by_patient_id(self, keys: Keys) -> None:
        """Ask for all beginnings of patient IDs.

        Only beginnings that answers show are followed, since some peers do not tell capitals.
        """
        self._ids.clear()
        is_told = is_cut = False
        beginnings = [""]
        while beginnings:
            beginning = beginnings.pop()
            if beginning:
                exactly = self._ids_in({**keys, PATIENT_ID: beginning})
                if self._is_cut(exactly):
                    doubt(self.doubts, "one patient has more studies at once than the peer tells")
            for character in ID_CHARACTERS:
                longer = beginning + character
                answers = self._ids_in({**keys, PATIENT_ID: f"{longer}*"})
                shown = [row.get(PATIENT_ID, "").startswith(longer) for row in answers.rows]
                is_told = is_told or any(shown)
                is_cut = is_cut or (self._is_cut(answers) and bool(shown))
                if len(beginning) > 1 and not all(_begins(row, longer) for row in answers.rows):
                    doubt(self.doubts, "the peer does not split its answers by patient ID")
                    return
                if self._is_cut(answers) and any(shown):
                    if len(longer) < LONGEST_ID - 1:
                        beginnings.append(longer)
                    else:
                        doubt(self.doubts, "patient IDs cannot be told apart")
        if is_cut and not is_told:  # all beginnings bring the same
            doubt(self.doubts, "the peer does not split its answers by patient ID")

    def _doubt_what_is_missed(self) -> None:
        """Doubt the search by patient IDs if it did not find again what was found by date."""
        missed = sum(
            bool(patient_id_in(told)) and uid not in self._ids for uid, told in self.found.items()
        )
        if missed:
            doubt(
                self.doubts,
                f"asked by patient ID the peer names {missed:,} studies fewer, so that studies"
                " without a date may be left out",
            )

        if not all(map(patient_id_in, self.found.values())):
            doubt(
                self.doubts,
                "some have no patient ID, and any without a date besides may be left out",
            )

    def _ids_in(self, keys: Keys) -> Answers:
        answers = self._ask_part(keys)
        named = (row.get(STUDY_INSTANCE_UID, "") for row in answers.rows)
        self._ids.update(uid for uid in named if uid in self.found)
        return answers


def doubt(doubts: list[str], reason: str) -> None:
    """Add a reason to doubt, once."""
    if reason not in doubts:
        doubts.append(reason)


def is_round(count: int) -> bool:
    """Say whether somebody would choose this number as a limit."""
    return count % 50 == 0 or count & (count - 1) == 0


def _begins(row: Row, beginning: str) -> bool:
    return row.get(PATIENT_ID, "").casefold().startswith(beginning.casefold())


@dataclass(frozen=True, slots=True)
class _Half:
    """Half of the widest question, and whether an answer belongs to it."""

    keys: Keys
    includes: Callable[[Row], bool]


def _halves(whole: Answers) -> Iterator[_Half]:
    """Split the widest question in two at the middle of what it brought, by dates or times."""
    days = _days_of(whole)
    if days and days[0] < days[-1]:
        middle = statistics.median_high(days)
        middle = middle if middle > days[0] else days[-1]
        before = middle - timedelta(1)
        yield _Half(
            {STUDY_DATE: _date_range(_FIRST_DAY, before)},
            lambda row: (_day_of(row) or before) <= before,
        )
        yield _Half(
            {STUDY_DATE: _date_range(middle, _LAST_DAY)},
            lambda row: (_day_of(row) or middle) >= middle,
        )
        return
    seconds = sorted(second for second in map(_second_of, whole.rows) if second >= 0)
    if seconds and seconds[0] < seconds[-1]:
        second = statistics.median_high(seconds)
        second = second if second > seconds[0] else seconds[-1]
        yield _Half({STUDY_TIME: _time_range(0, second - 1)}, lambda row: _second_of(row) < second)
        yield _Half(
            {STUDY_TIME: _time_range(second, _LAST_SECOND)},
            lambda row: _second_of(row) == -1 or _second_of(row) >= second,
        )


def _split(first: date, last: date, middle: date) -> Iterator[tuple[date, date]]:
    """Split a range of days so that each part is smaller than the whole."""
    if middle == last:
        yield first, last - timedelta(1)
        yield last, last
    else:
        yield first, middle
        yield middle + timedelta(1), last


def _days_of(answers: Answers) -> list[date]:
    return sorted(day for day in map(_day_of, answers.rows) if day is not None)


def _day_of(row: Row) -> date | None:
    """Read a DA, also as ACR-NEMA wrote it (PS3.5 section 6.2); None for anything else."""
    digits = row.get(STUDY_DATE, "").replace(".", "")
    if len(digits) != 8 or not digits.isdecimal():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def _second_of(row: Row) -> int:
    """Read a TM as a second of the day, -1 for what is none."""
    digits = row.get(STUDY_TIME, "").replace(":", "").partition(".")[0]
    if not (digits.isdecimal() and digits.isascii() and len(digits) in (2, 4, 6)):
        return -1
    padded = digits.ljust(6, "0")
    second = int(padded[:2]) * 3600 + int(padded[2:4]) * 60 + int(padded[4:])
    return second if second <= _LAST_SECOND else -1


def _date_range(first: date, last: date) -> str:
    """Write a range of dates (PS3.4 section C.2.2.2.5.1), open where nothing lies beyond."""
    if first == last:
        return f"{first:%Y%m%d}"
    low = "" if first == _FIRST_DAY else f"{first:%Y%m%d}"
    high = "" if last == _LAST_DAY else f"{last:%Y%m%d}"
    return f"{low}-{high}" if low or high else f"{first:%Y%m%d}-{last:%Y%m%d}"


def _time_range(first: int, last: int) -> str:
    """Write a range of times, its ends included.

    Peers that compare text find "1259" only if the lower end is as short as it can be.
    """
    low = _clock(first)
    while low.endswith("00") and len(low) > 2:
        low = low[:-2]
    return f"{low}-{_clock(last)}.999999"


def _clock(second: int) -> str:
    return f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}"
