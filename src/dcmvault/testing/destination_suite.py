"""The contract of `ports.destination` as tests: every implementation subclasses the suite.

    class TestMine(DestinationSuite):
        @pytest.fixture(autouse=True)
        def _peer(self, tmp_path): self.scratch = tmp_path; ...
        def destination(self): ...
        def unreachable_destination(self): ...
        def lose(self, destination, file, receipt): ...

The suite asserts plainly and does not need pytest. Sample instances are written and described
by pydicom, so that the product's own scanner has no part in judging it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pydicom

from dcmvault.errors import (
    DcmvaultError,
    DestinationUnreachableError,
    EntryUnreadableError,
    InstanceRefusedError,
    Retry,
)
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy, Finding, Level, Verification
from dcmvault.model.identifiers import RunId, VersionId
from dcmvault.model.instance import (
    Fingerprint,
    InstanceEntry,
    InstanceFile,
    InstanceHeader,
    InstanceIdentity,
    InstanceKind,
    SeriesAttributes,
    StudyAttributes,
    UnreadableEntry,
)
from dcmvault.model.receipt import Receipt
from dcmvault.model.snapshot import Origin
from dcmvault.ports.destination import Delivery, Destination, Probes, Verifier
from dcmvault.testing.dicom_files import make_study

#: Where the suite's files come from.
ORIGIN = Origin(RunId("20260131-020000-00000001"), "/data/images")

_NOBODY = InstanceIdentity("", "", "")


def describe_instance(path: Path) -> InstanceFile:
    """Read a sound Part 10 file's header by pydicom and make an InstanceFile of it."""
    data = pydicom.dcmread(path, stop_before_pixels=True)
    #: 128 bytes preamble, DICM, then (0002,0000) with a value of 4 bytes: 12 bytes (PS3.10 7.1).
    start = 144 + int(data.file_meta.FileMetaInformationGroupLength)
    header = InstanceHeader(
        sop_class_uid=str(data.SOPClassUID),
        sop_instance_uid=str(data.SOPInstanceUID),
        study_instance_uid=str(data.StudyInstanceUID),
        series_instance_uid=str(data.SeriesInstanceUID),
        transfer_syntax_uid=str(data.file_meta.TransferSyntaxUID),
        study=StudyAttributes(study_date=str(data.get("StudyDate", ""))),
        series=SeriesAttributes(modality=str(data.get("Modality", ""))),
        instance_number=str(data.get("InstanceNumber", "")),
        data_set_start=start,
        data_set_end=path.stat().st_size,
    )
    return InstanceFile(_entry(path), path, header)


def _entry(path: Path) -> InstanceEntry:
    stat = path.stat()
    return InstanceEntry(path.name, Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino))


def _as_fetched(file: InstanceFile) -> InstanceFile:
    """Make of a file what a source over a network hands out."""
    entry = InstanceEntry(file.entry.locator, Fingerprint(0, 0, 7))
    return replace(file, entry=entry, fetched=file.entry.fingerprint)


class DestinationSuite:
    """Tests that every destination passes. Subclasses give the destination and set `scratch`."""

    #: An empty folder for the suite's own files; the subclass sets it before each test.
    scratch: Path
    #: Levels that the destination can ask for, and that the peer of these tests does not offer.
    not_offered: frozenset[Level] = frozenset()

    # What a subclass gives.

    def destination(self) -> Destination:
        """Return a destination that holds none of the sample instances yet."""
        raise NotImplementedError

    def unreachable_destination(self) -> Destination:
        """Return a destination of the same kind that is not there (closed port, no disk)."""
        raise NotImplementedError

    def lose(self, destination: Destination, file: InstanceFile, receipt: Receipt) -> None:
        """Remove one held instance behind the destination's back."""
        raise NotImplementedError

    def verifier(self, destination: Destination) -> Verifier:
        """Return what gives evidence about the destination: by default itself."""
        assert isinstance(destination, Verifier)
        return destination

    def sample_files(self) -> list[InstanceFile]:
        """Return at least six files with headers, of two studies; the first three of one series.

        The paths lie in `scratch` and are the test's to change.
        """
        made = [
            *make_study(self.scratch / "sample" / "1", key=f"{self.scratch}/1", instances=4),
            *make_study(self.scratch / "sample" / "2", key=f"{self.scratch}/2", instances=4),
        ]
        return [describe_instance(instance.path) for instance in made]

    # put

    def test_receipt_tells_what_was_read(self) -> None:
        """Locator, fingerprint and SHA-256 in the receipt are those of the file."""
        destination, files = self.destination(), self.sample_files()
        for file, receipt in self._deliver(destination, files).items():
            _assert_receipt(file, receipt)

    def test_file_that_was_fetched(self) -> None:
        """Its entry tells no size; the file in hand does, and is what a receipt is about."""
        destination = self.destination()
        files = [_as_fetched(file) for file in self.sample_files()]
        receipts = self._deliver(destination, files)
        for file, receipt in receipts.items():
            _assert_receipt(file, receipt)
        self._assert_held(destination, receipts)

    def test_source_file_is_not_altered(self) -> None:
        """The file that was put is byte for byte what it was."""
        destination, files = self.destination(), self.sample_files()
        before = {file.path: file.path.read_bytes() for file in files}
        self._deliver(destination, files)
        assert {path: path.read_bytes() for path in before} == before

    def test_put_twice_is_no_error(self) -> None:
        """The same file again gives a receipt again, in the same delivery and in another."""
        destination, files = self.destination(), self.sample_files()[:2]
        with destination.open(_kinds(files), ORIGIN) as delivery:
            for file in [files[0], files[0], files[1]]:
                _assert_receipt(file, delivery.put(file))
            delivery.flush()
        again = self._deliver(destination, files)
        for file, receipt in again.items():
            _assert_receipt(file, receipt)
        self._assert_held(destination, again)

    def test_flush_without_put(self) -> None:
        """Flushing nothing, and flushing twice, is harmless."""
        destination, files = self.destination(), self.sample_files()[:1]
        with destination.open(_kinds(files), ORIGIN) as delivery:
            assert delivery.flush() == 0
            receipt = delivery.put(files[0])
            assert delivery.flush() >= 0
            assert delivery.flush() == 0
        self._assert_held(destination, {files[0]: receipt})

    def test_threads_each_with_a_delivery(self) -> None:
        """Several deliveries work side by side."""
        destination, files = self.destination(), self.sample_files()
        receipts: dict[InstanceFile, Receipt] = {}
        with ThreadPoolExecutor(3) as pool:
            shares = [files[start::3] for start in range(3)]
            for delivered in pool.map(lambda share: self._deliver(destination, share), shares):
                receipts.update(delivered)
        for file, receipt in receipts.items():
            _assert_receipt(file, receipt)
        self._assert_held(destination, receipts)

    # Files that cannot be read.

    def test_vanished_file_spares_the_others(self) -> None:
        """A file that is gone is that file's failure; the delivery goes on."""
        files = self.sample_files()[:3]
        files[1].path.unlink()
        self._assert_second_unreadable(files)

    def test_changed_file_spares_the_others(self) -> None:
        """A file that is no longer what was planned is not delivered as if it were."""
        files = self.sample_files()[:3]
        with files[1].path.open("ab") as stream:
            stream.write(b"\0\0")
        self._assert_second_unreadable(files)

    def test_file_touched_since_planning_is_changed(self) -> None:
        """Equal size with another modification time counts as changed, too."""
        files = self.sample_files()[:3]
        later_ns = files[1].entry.fingerprint.mtime_ns + 2_000_000_000
        os.utime(files[1].path, ns=(later_ns, later_ns))
        self._assert_second_unreadable(files)

    def _assert_second_unreadable(self, files: Sequence[InstanceFile]) -> None:
        destination = self.destination()
        with destination.open(_kinds(files), ORIGIN) as delivery:
            first = delivery.put(files[0])
            error = _put_error(delivery, files[1])
            assert isinstance(error, EntryUnreadableError), f"{error!r}"
            last = delivery.put(files[2])
            delivery.flush()
        _assert_receipt(files[0], first)
        _assert_receipt(files[2], last)
        self._assert_held(destination, {files[0]: first, files[2]: last})

    # Opaque files.

    def test_opaque_file(self) -> None:
        """What does not parse is held, or refused for good: as the destination says."""
        destination, good = self.destination(), self.sample_files()[0]
        path = self.scratch / "opaque.dcm"
        path.write_bytes(b"\0" * 128 + b"DICM" + b"no elements here")
        opaque = InstanceFile(_entry(path), path)
        receipts = {}
        with destination.open(_kinds([good]), ORIGIN) as delivery:
            if destination.takes_opaque_files:
                receipts[opaque] = delivery.put(opaque)
            else:
                error = _put_error(delivery, opaque)
                assert isinstance(error, InstanceRefusedError), f"{error!r}"
                assert error.retry is Retry.NEVER
            receipts[good] = delivery.put(good)
            delivery.flush()
        for file, receipt in receipts.items():
            _assert_receipt(file, receipt)
        self._assert_held(destination, receipts)

    def test_two_opaque_files_of_one_content(self) -> None:
        """Each of them is held: nothing but their content tells what they are."""
        destination = self.destination()
        if not destination.takes_opaque_files:
            return
        paths = [self.scratch / name for name in ("one.txt", "other.txt")]
        for path in paths:
            path.write_bytes(b"The same in many folders.")
        files = [InstanceFile(_entry(path), path) for path in paths]
        self._assert_held(destination, self._deliver(destination, files))

    def test_two_contents_under_one_uid(self) -> None:
        """A destination that keeps versions holds both contents of one SOP Instance UID."""
        destination, first = self.destination(), self.sample_files()[0]
        if not destination.keeps_versions:
            return
        path = self.scratch / "edited.dcm"
        shutil.copyfile(first.path, path)
        content = bytearray(path.read_bytes())
        content[-1] ^= 0xFF
        path.write_bytes(content)
        second = describe_instance(path)
        self._assert_held(destination, self._deliver(destination, [first, second]))

    # Evidence.

    def test_levels_are_honest(self) -> None:
        """The default is among the levels, and every level above SENT can be given."""
        destination, files = self.destination(), self.sample_files()
        verifier = self.verifier(destination)
        assert destination.default_level in verifier.levels
        assert Level.NONE not in verifier.levels
        assert self._checked_levels(verifier), "a verifier that can give nothing above SENT"
        self._assert_held(destination, self._deliver(destination, files))

    def test_nothing_put_is_nothing_held(self) -> None:
        """Of a study that was never put no instance is HELD, at any level."""
        destination, files = self.destination(), self.sample_files()
        verifier = self.verifier(destination)
        for level in self._checked_levels(verifier):
            for study in _expected(files):
                found = verifier.verify(study, level)
                _assert_covers(study, found, level)
                assert Finding.HELD not in found.findings.values()
                if level >= Level.COMPLETE:
                    assert set(found.findings.values()) == {Finding.MISSING}

    def test_missing_instances_are_named(self) -> None:
        """Evidence from COMPLETE on says exactly which instances of a study are missing."""
        destination, files = self.destination(), self.sample_files()[:3]
        receipts = self._deliver(destination, files[:2])
        self._assert_third_missing(destination, files, receipts)

    def test_lost_instance_is_found_missing(self) -> None:
        """A receipt is no evidence: an instance that was lost afterwards is MISSING."""
        destination, files = self.destination(), self.sample_files()[:3]
        receipts = self._deliver(destination, files)
        self._assert_held(destination, receipts)
        self.lose(destination, files[2], receipts[files[2]])
        self._assert_third_missing(destination, files, receipts)
        self._assert_held(destination, receipts | self._deliver(destination, files[2:]))

    def _assert_third_missing(
        self,
        destination: Destination,
        files: Sequence[InstanceFile],
        receipts: Mapping[InstanceFile, Receipt],
    ) -> None:
        verifier = self.verifier(destination)
        (study,) = _expected(files, receipts)
        for level in self._checked_levels(verifier):
            found = verifier.verify(study, level)
            _assert_covers(study, found, level)
            assert found.findings[VersionId(3)] is not Finding.HELD
            assert found.reasons[VersionId(3)], "what is not held needs a reason"
            if level >= Level.COMPLETE:
                assert list(found.findings.values()) == [
                    Finding.HELD,
                    Finding.HELD,
                    Finding.MISSING,
                ]

    # Not there.

    def test_unreachable_destination(self) -> None:
        """What is not there says so, for delivery and for evidence; nothing is MISSING."""
        destination, files = self.unreachable_destination(), self.sample_files()[:1]
        error: DestinationUnreachableError | None = None
        try:
            with destination.open(_kinds(files), ORIGIN):
                pass
        except DestinationUnreachableError as caught:
            error = caught
        assert error is not None, "open() succeeded"
        assert error.message
        verifier = self.verifier(destination)
        for level in self._checked_levels(verifier):
            try:
                verifier.verify(_expected(files)[0], level)
            except DestinationUnreachableError:
                continue
            raise AssertionError("verify() gave an answer")

    def test_probe(self) -> None:
        """Where there is a probe, it succeeds here, and names its failed last step there."""
        destination, away = self.destination(), self.unreachable_destination()
        if isinstance(destination, Probes) and isinstance(away, Probes):
            steps = destination.probe()
            assert steps, "a probe without steps"
            assert all(step.ok for step in steps), f"{steps}"
            failed = away.probe()
            assert [step.ok for step in failed] == [True] * (len(failed) - 1) + [False]
            assert failed[-1].hint, "a failed step says what to do"

    # The suite's own steps.

    def _checked_levels(self, verifier: Verifier) -> list[Level]:
        levels = verifier.levels - self.not_offered
        return sorted(level for level in levels if level > Level.SENT)

    def _deliver(
        self, destination: Destination, files: Sequence[InstanceFile]
    ) -> dict[InstanceFile, Receipt]:
        with destination.open(_kinds(files), ORIGIN) as delivery:
            receipts = {file: delivery.put(file) for file in files}
            delivery.flush()
        return receipts

    def _assert_held(
        self, destination: Destination, receipts: Mapping[InstanceFile, Receipt]
    ) -> None:
        """Every level finds every file of these receipts held."""
        verifier = self.verifier(destination)
        for level in self._checked_levels(verifier):
            for study in _expected(list(receipts), receipts):
                found = verifier.verify(study, level)
                _assert_covers(study, found, level)
                assert set(found.findings.values()) == {Finding.HELD}, f"{level}: {found.reasons}"


def _kinds(files: Sequence[InstanceFile]) -> list[InstanceKind]:
    return sorted({file.header.kind for file in files if file.header is not None})


def _put_error(delivery: Delivery, file: InstanceFile) -> DcmvaultError | None:
    try:
        delivery.put(file)
    except DcmvaultError as error:
        return error
    return None


def _assert_receipt(file: InstanceFile, receipt: Receipt) -> None:
    assert receipt.locator == file.entry.locator
    assert receipt.fingerprint == file.fingerprint
    assert receipt.file_sha256 == hashlib.sha256(file.path.read_bytes()).digest()
    assert re.fullmatch("[0-9A-F]{4}", receipt.status), receipt.status
    assert receipt.transferred_bytes >= 0
    assert receipt.received_at.utcoffset() == timedelta(0)


def _expected(
    files: Sequence[InstanceFile], receipts: Mapping[InstanceFile, Receipt] | None = None
) -> list[ExpectedStudy]:
    """Group the files by study; version ids count from 1 in the order given."""
    studies: dict[str, list[ExpectedInstance]] = {}
    for number, file in enumerate(files, start=1):
        identity = file.header.identity if file.header else _NOBODY
        sop_class_uid = file.header.sop_class_uid if file.header else ""
        instance = ExpectedInstance(
            VersionId(number), identity, file.fingerprint.size, sop_class_uid=sop_class_uid
        )
        receipt = receipts.get(file) if receipts else None
        if receipt is not None:
            instance = replace(
                instance, file_sha256=receipt.file_sha256, object_key=receipt.object_key
            )
        studies.setdefault(identity.study_instance_uid, []).append(instance)
    originals = _Originals(dict(zip(map(VersionId, count(1)), files, strict=False)))
    return [ExpectedStudy(uid, tuple(instances), originals) for uid, instances in studies.items()]


@dataclass(frozen=True, slots=True)
class _Originals:
    """The sample files themselves."""

    by_version: Mapping[VersionId, InstanceFile]

    def files(
        self, instances: Sequence[ExpectedInstance]
    ) -> Iterator[tuple[ExpectedInstance, InstanceFile | UnreadableEntry]]:
        return ((one, self.by_version[one.version_id]) for one in instances)


def _assert_covers(study: ExpectedStudy, found: Verification, level: Level) -> None:
    assert set(found.findings) == {instance.version_id for instance in study.instances}
    assert found.study_instance_uid == study.study_instance_uid
    assert found.level is level
    assert found.observed_at.utcoffset() == timedelta(0)
    assert found.proof, "evidence without its raw proof"
