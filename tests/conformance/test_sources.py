from __future__ import annotations

import os
from pathlib import Path

from dcmvault.config.listener_section import ListenerSection
from dcmvault.config.sections import FolderSourceSection, HorosSourceSection
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.spool import Spool
from dcmvault.sources.folder import FolderSource
from dcmvault.sources.horos import HorosSource
from dcmvault.sources.listener import ListenerSource
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.horos_library import build_library
from dcmvault.testing.source_suite import KnownSource, SourceSuite, local_known_source


class TestFolderSource(SourceSuite):
    def known_source(self, folder: Path) -> KnownSource:
        root = folder / "archive"
        make_study(root / "a", key="a", series=2, instances=2)
        made = make_study(root / "b", key="b", instances=1)
        (root / "loose file").write_bytes(made[0].path.read_bytes())
        (root / "DICOMDIR").write_bytes(b"not looked at")
        (root / "back\\slash").write_bytes(b"x")
        undecodable = Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9.dcm"))
        undecodable.write_bytes(b"y")
        (root / "a" / "to b").symlink_to(root / "b")
        os.mkfifo(root / "fifo")
        files = {
            path.relative_to(root).as_posix(): path
            for path in root.rglob("*")
            if path.is_file() and path != undecodable and "\\" not in path.name
        }
        files["back\\\\slash"] = root / "back\\slash"
        files["latin-\\xe9.dcm"] = undecodable
        section = FolderSourceSection(path=root)
        return local_known_source(lambda: FolderSource(section), files, root)


class TestHorosSource(SourceSuite):
    journal_mode = "delete"

    def known_source(self, folder: Path) -> KnownSource:
        base = folder / "Horos Data"
        facts = build_library(base, journal_mode=self.journal_mode, data=self.data(folder))
        section = HorosSourceSection(path=base)
        return local_known_source(
            lambda: HorosSource(section),
            {locator: file.path for locator, file in facts.files.items()},
            facts.data,
            unreadable=dict.fromkeys(facts.missing, "vanished"),
            trees=[folder],
            index_files=frozenset(
                {
                    base / "DBFOLDER_LOCATION",
                    *base.parent.glob("*/Database.sql"),
                    base / "Database.sql-journal",
                    base / "Database.sql-wal",
                }
            ),
        )

    def data(self, folder: Path) -> Path | None:
        return None


class TestHorosSourceWithLog(TestHorosSource):
    journal_mode = "wal"


class TestHorosSourceElsewhere(TestHorosSource):
    def data(self, folder: Path) -> Path | None:
        return folder / "another volume"


class TestListenerSource(SourceSuite):
    def known_source(self, folder: Path) -> KnownSource:
        """Fill a spool as the listener does."""
        made = make_study(folder / "a", key="a", series=2, instances=2)
        made += make_study(folder / "b", key="b", instances=2)
        section = ListenerSection(folder=str(folder / "spool"), settle_s=0)
        with Spool(section.spool) as spool:
            for one in made:
                header = scan(one.path)
                arriving = spool.begin(
                    header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid
                )
                arriving.write(one.path.read_bytes()[header.data_set_start :])
                assert arriving.finish() == 0
            studies = spool.studies
        # What is no instance of ours is none of our business.
        (studies / "notes").mkdir()
        (studies / "notes" / "x.dcm").write_bytes(b"x")
        files = {
            path.relative_to(studies).as_posix(): path
            for path in studies.glob("*/*")
            if path.parent.name != "notes"
        }
        assert len(files) == 6
        return local_known_source(lambda: ListenerSource(section), files, studies)
