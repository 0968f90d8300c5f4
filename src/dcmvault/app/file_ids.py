"""File IDs of a DICOM File-set: numbers, so that no name tells anything of a patient."""

from __future__ import annotations

from dataclasses import dataclass, field

from dcmvault.model.restored import Parts

#: Where files lie that are no instances; the directory does not name them.
_OTHER = "OTHER"
#: Which paths have instances.
FILE_ID_PATTERN = "PT??????/ST??????/SE??????/IM??????"


@dataclass(slots=True)
class FileIds:
    """Numbers patients, studies, series and files as they come (PS3.10 section 8.2).

    Each part has 8 upper-case characters. The same order gives the same names. Memory grows with
    patients only, as long as studies come one after the other.
    """

    #: By patient: its number, and how many studies it has.
    _patients: dict[str, list[int]] = field(default_factory=dict)
    _study: str | None = None
    _above: Parts = ()
    #: By series of this study: its number, and how many files it has.
    _series: dict[str, list[int]] = field(default_factory=dict)
    _others: int = 0

    def name(self, patient: str, study: str, series: str) -> Parts:
        """Return the next file ID within a series; one without a study is no instance."""
        if not study:
            self._others += 1
            return _OTHER, f"FI{self._others:06}"
        if study != self._study:
            self._begin_study(patient, study)
        of_series = self._series.setdefault(series, [len(self._series) + 1, 0])
        of_series[1] += 1
        return (*self._above, f"SE{of_series[0]:06}", f"IM{of_series[1]:06}")

    def _begin_study(self, patient: str, study: str) -> None:
        of_patient = self._patients.setdefault(patient, [len(self._patients) + 1, 0])
        of_patient[1] += 1
        self._above = f"PT{of_patient[0]:06}", f"ST{of_patient[1]:06}"
        self._study, self._series = study, {}
