"""Selections: which part of what a source holds is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: What stands where people write a study's UID for that of files that are no instances.
NO_STUDY = "-"


@dataclass(frozen=True, slots=True)
class Selection:
    """Studies and series that are meant; nothing named means everything.

    Several values of one kind are alternatives, and so are a study and a series. What is said of
    patient, accession number and date must hold besides.
    """

    #: Study and Series Instance UIDs. A study of "-" is that of files that are no instances.
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    #: Values of Patient ID and of Accession Number, as they stand.
    patients: tuple[str, ...] = ()
    accessions: tuple[str, ...] = ()
    #: Study Dates from and to, both included, as eight digits; empty where that end is open.
    first_date: str = ""
    last_date: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return not (self.studies or self.series or self.asks_attributes)

    @property
    def asks_attributes(self) -> bool:
        """Whether it is about more than UIDs."""
        return bool(self.patients or self.accessions or self.first_date or self.last_date)

    def may_name(self, study_instance_uid: str) -> bool:
        """Say whether anything of a study can be meant, as far as its UID tells."""
        return bool(self.series) or not self.studies or study_instance_uid in self.studies

    def names(self, study_instance_uid: str, series_instance_uid: str) -> bool:
        """Say whether a series is meant, as far as UIDs tell."""
        if not (self.studies or self.series):
            return True
        return study_instance_uid in self.studies or series_instance_uid in self.series

    def describes(self, study: Mapping[str, str]) -> bool:
        """Say whether a study's attributes (by the names of StudyAttributes) are those asked for.

        A study without a date is in no range of dates.
        """
        date = study.get("study_date", "").replace(".", "")  # as ACR-NEMA wrote them
        return (
            (not self.patients or study.get("patient_id", "") in self.patients)
            and (not self.accessions or study.get("accession_number", "") in self.accessions)
            and (not self.first_date or self.first_date <= date)
            and (not self.last_date or "" < date <= self.last_date)
        )

    def contradicts(self, study: Mapping[str, str]) -> bool:
        """Say whether what is known of a study rules it out; what is empty may not be known."""
        wanted = {
            "patient_id": self.patients[:1],
            "accession_number": self.accessions[:1],
            "study_date": (self.first_date or self.last_date,),
        }
        known = {name: study.get(name, "") or "".join(some) for name, some in wanted.items()}
        return not self.describes(known)


EVERYTHING = Selection()
