"""What came of a restore into a viewer's library, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.library_readme import README_FILE
from dcmvault.app.library_srs import StudySrs
from dcmvault.errors import DestinationError, LibraryIncompleteError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _

#: The list of albums that the viewer imports.
ALBUMS_FILE = "Albums.albums"


@dataclass(slots=True)
class ImportOutcome:
    """Counts: of files, of studies, of albums."""

    #: Files that the viewer has not taken yet.
    waiting: int = 0
    #: Files that are no instances, and lie beside the library.
    beside: int = 0
    #: Studies whose comments, states and key images come back.
    annotated: int = 0
    #: Studies whose report comes back.
    reported: int = 0
    #: Studies of which the library says something already.
    kept_own: int = 0
    #: Studies for which no SR could be made.
    not_annotated: int = 0
    #: Albums to be imported by hand.
    albums: int = 0

    @property
    def srs(self) -> int:
        """How many SRs were made."""
        return self.annotated + self.reported

    def count(self, srs: StudySrs) -> None:
        """Count what was made for one study."""
        self.annotated += srs.annotated
        self.reported += srs.reported
        self.kept_own += srs.kept_own
        self.not_annotated += srs.failed

    def remarks(self, place: Path) -> list[str]:
        """Say what the viewer and a person have to do; `place` is the folder beside the library."""
        told = [
            text % format_number(count)
            for count, text in (
                (self.waiting, self._waiting()),
                (self.annotated, self._annotated()),
                (self.reported, self._reported()),
                (self.kept_own, self._kept()),
            )
            if count
        ]
        if self.albums:
            text = ngettext(
                "%(albums)s album: choose “Add Albums” in the viewer's Albums menu, and the file "
                "%(file)s.",
                "%(albums)s albums: choose “Add Albums” in the viewer's Albums menu, and the file "
                "%(file)s.",
                self.albums,
            )
            told.append(text % {"albums": format_number(self.albums), "file": place / ALBUMS_FILE})
        if place.is_dir():
            told.append(
                _("What the viewer cannot import lies in %(folder)s; %(file)s explains it.")
                % {"folder": place, "file": README_FILE}
            )
        return told

    def failures(self) -> list[DestinationError]:
        """Say what could not be brought back."""
        if not self.not_annotated:
            return []
        return [
            LibraryIncompleteError(
                "comments, key images or reports of some studies could not be put into an SR",
                hint="They lie beside the library.",
            )
        ]

    def _waiting(self) -> str:
        return ngettext(
            "%s file waits in INCOMING.noindex. The viewer imports it when it runs; the same "
            "command then says whether the library has it.",
            "%s files wait in INCOMING.noindex. The viewer imports them when it runs; the same "
            "command then says whether the library has them.",
            self.waiting,
        )

    def _annotated(self) -> str:
        return ngettext(
            "Comments, state and key images of %s study come back as an annotations SR.",
            "Comments, states and key images of %s studies come back as annotations SRs.",
            self.annotated,
        )

    def _reported(self) -> str:
        return ngettext(
            "The report of %s study comes back as a report SR.",
            "The reports of %s studies come back as report SRs.",
            self.reported,
        )

    def _kept(self) -> str:
        return ngettext(
            "%s study keeps the comments, state, key images or albums that the library has of it.",
            "%s studies keep the comments, states, key images or albums that the library has of "
            "them.",
            self.kept_own,
        )
