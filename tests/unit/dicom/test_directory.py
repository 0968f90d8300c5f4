"""DICOMDIRs, as pydicom and DCMTK read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.fileset import FileSet

from dcmvault.dicom.directory import (
    DIRECTORY_NAME,
    DirectoryEntry,
    DirectoryWriter,
    directory_entry,
)
from dcmvault.model.instance import InstanceIdentity, InstanceKind
from dcmvault.testing.corpus import real_files
from dcmvault.testing.dicom_files import make_study


def entry_of(path: Path, *file_id: str) -> DirectoryEntry:
    said = dcmread(path, stop_before_pixels=True)
    return directory_entry(
        file_id,
        InstanceIdentity(said.StudyInstanceUID, said.SeriesInstanceUID, said.SOPInstanceUID),
        InstanceKind(said.SOPClassUID, said.file_meta.TransferSyntaxUID),
        path.read_bytes(),
    )


def test_pydicom_and_dcmtk_find_every_instance(tmp_path: Path) -> None:
    """Patients come back after others, and each study is found under its own."""
    root = tmp_path / "set"
    wanted = set()
    with (tmp_path / DIRECTORY_NAME).open("w+b") as file:
        writer = DirectoryWriter(file)
        for number, (patient, key) in enumerate((("a", "1"), ("b", "2"), ("a", "3"))):
            made = [one.path for one in make_study(tmp_path / key, key=key, series=2, instances=3)]
            entries = []
            for one, path in enumerate(sorted(made)):
                file_id = (f"PT{patient.upper()}", f"ST{number}", "SE", f"IM{one}")
                target = root.joinpath(*file_id)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
                entries.append(entry_of(target, *file_id))
            entries.sort(key=lambda entry: entry.series_instance_uid)
            wanted |= {entry.sop_instance_uid for entry in entries}
            writer.add_study(patient, [*entries, entries[0]])
        writer.close()
    (tmp_path / DIRECTORY_NAME).rename(root / DIRECTORY_NAME)
    found = FileSet(root / DIRECTORY_NAME)
    found._stage["t"].cleanup()
    assert {instance.SOPInstanceUID for instance in found} == wanted
    assert len(found) == 18
    for instance in found:
        assert instance.load().SOPInstanceUID == instance.SOPInstanceUID
    dumped = subprocess.run(
        ["dcmdump", str(root / DIRECTORY_NAME)], capture_output=True, text=True, check=True
    )
    assert dumped.stdout.count("[PATIENT]") == 2
    assert "E:" not in dumped.stderr


@pytest.mark.filterwarnings("ignore")  # what the files have stands as it is
def test_any_real_instance_can_stand_in_it(tmp_path: Path) -> None:
    count = 0
    for path in real_files():
        try:
            entry = entry_of(path, "PT000001", "ST000001", "SE000001", "IM000001")
        except (InvalidDicomError, AttributeError, ValueError, KeyError, OSError):
            continue  # it names no instance
        with (tmp_path / DIRECTORY_NAME).open("w+b") as file:
            writer = DirectoryWriter(file)
            writer.add_study("one", [entry])
            writer.close()
        read = dcmread(tmp_path / DIRECTORY_NAME)
        *above, leaf = read.DirectoryRecordSequence
        assert [record.DirectoryRecordType for record in above] == ["PATIENT", "STUDY", "SERIES"]
        assert leaf.ReferencedSOPInstanceUIDInFile == entry.sop_instance_uid
        count += 1
    assert count > 50
