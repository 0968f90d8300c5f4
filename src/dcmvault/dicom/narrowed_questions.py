"""Asking for the studies of a selection only: its attributes go into each question.

A matching key is a hint that saves answers. What a peer matches otherwise than we do, or not at
all, is told by what it says of each study; what no question can say is not asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import product

from dcmvault.dicom.attribute_query import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    STUDY_DATE,
    Answers,
    Tag,
)
from dcmvault.dicom.study_inventory import Ask, StudyInventory
from dcmvault.dicom.told_studies import TooMuchToldError
from dcmvault.errors import DestinationError, DestinationUnreachableError
from dcmvault.model.selection import Selection

_log = logging.getLogger(__name__)

Keys = Mapping[Tag, str]
#: Wild cards, and what separates several values (PS3.4 section C.2.2.2); in addresses the comma.
_NOT_LITERAL = frozenset("*?\\,")


def keys_of(selection: Selection) -> Iterator[Keys]:
    """Yield the keys of questions that together find every study of a selection; {} finds all."""
    dates = _range(selection.first_date, selection.last_date)
    for patient, accession in product(_literal(selection.patients), _literal(selection.accessions)):
        keys = {PATIENT_ID: patient, ACCESSION_NUMBER: accession, STUDY_DATE: dates}
        yield {tag: value for tag, value in keys.items() if value}


def narrowed(ask: Ask, fixed: Keys) -> Ask:
    """Return what asks for studies that match these keys besides; no question that none can."""

    def asked(keys: Keys) -> Answers:
        merged = dict(fixed)
        for tag, value in keys.items():
            both = value if tag not in fixed else _both(tag, fixed[tag], value)
            if not both:
                return Answers(())
            merged[tag] = both
        return ask(merged)

    return asked


def narrowed_inventory(ask: Ask, max_answers: int, selection: Selection) -> StudyInventory | None:
    """Take the inventory of a selection's studies; None where all have to be asked for.

    So it is where no question can say what is selected, or the peer refuses to be asked so.
    """
    every = list(keys_of(selection))
    if not all(every):
        return None
    inventory = StudyInventory(ask, max_answers)
    for keys in every:
        inventory.ask = narrowed(ask, keys)
        inventory.seeks_undated = STUDY_DATE not in keys
        try:
            inventory.collect()
        except (DestinationUnreachableError, TooMuchToldError):
            raise
        except DestinationError as error:
            _log.info("the peer refuses to be asked by what is selected (%s)", error.code)
            return None
    return inventory


def _literal(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return values that a question can ask for as they are; one empty one where it cannot."""
    usable = values and all(value and not _NOT_LITERAL & {*value} for value in values)
    return values if usable else ("",)


def _range(first: str, last: str) -> str:
    """Write a range of dates (PS3.4 section C.2.2.2.5.1); empty for all of time."""
    if first == last:
        return first
    return f"{first}-{last}"


def _both(tag: Tag, fixed: str, asked: str) -> str:
    """Return what matches both; empty where nothing does."""
    if tag == STUDY_DATE:
        (low, high), (from_day, to_day) = _ends(fixed), _ends(asked)
        first, last = max(low, from_day), min(filter(None, (high, to_day)), default="")
        return "" if last and first > last else _range(first, last)
    if asked.endswith("*"):
        # Some peers do not tell capitals apart.
        return fixed if fixed.casefold().startswith(asked[:-1].casefold()) else ""
    return fixed if fixed == asked else ""


def _ends(text: str) -> tuple[str, str]:
    low, dash, high = text.partition("-")
    return (low, high) if dash else (text, text)
