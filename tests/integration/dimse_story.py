"""Steps that the DIMSE tests share: files with headers, a destination at a port, expectations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dcmvault.config.peer_sections import DimseDestinationSection
from dcmvault.destinations.dimse import DimseDestination
from dcmvault.dicom.part10 import scan
from dcmvault.errors import DcmvaultError
from dcmvault.model.evidence import ExpectedInstance, ExpectedStudy
from dcmvault.model.identifiers import VersionId
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile, InstanceKind
from dcmvault.model.receipt import Receipt
from dcmvault.ports.destination import Delivery
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN
from dcmvault.testing.dicom_files import make_study


def file_of(path: Path) -> InstanceFile:
    """Describe a file as source and pipeline do."""
    stat = path.stat()
    fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return InstanceFile(InstanceEntry(path.name, fingerprint), path, scan(path))


def study_files(folder: Path, count: int = 6, **options: int | str) -> list[InstanceFile]:
    """Make one study with `count` instances in one series."""
    made = make_study(folder, key=str(folder), instances=count, **options)  # type: ignore[arg-type]
    return [file_of(instance.path) for instance in made]


def destination_at(
    port: int,
    called: str = "SIMULATED",
    *,
    host: str = "127.0.0.1",
    transcode: Literal["lossless", "never"] = "lossless",
    **options: float,
) -> DimseDestination:
    """Make a destination with short waits."""
    section = DimseDestinationSection(
        host=host,
        port=port,
        called_ae_title=called,
        transcode=transcode,
        connect_timeout_s=5,
        association_timeout_s=options.pop("association_timeout_s", 5),
        dimse_timeout_s=options.pop("dimse_timeout_s", 10),
        max_associations=int(options.pop("max_associations", 4)),
        async_window=int(options.pop("async_window", 1)),
    )
    assert not options
    return DimseDestination(section, FakeClock())


def kinds_of(files: Sequence[InstanceFile]) -> set[InstanceKind]:
    return {file.header.kind for file in files if file.header is not None}


def sop_uids(files: Sequence[InstanceFile]) -> list[str]:
    return [file.header.sop_instance_uid for file in files if file.header is not None]


def expected(files: Sequence[InstanceFile]) -> ExpectedStudy:
    """Expect all these files of one study; version ids count from 1."""
    instances = tuple(
        ExpectedInstance(
            VersionId(number),
            file.header.identity,
            file.entry.fingerprint.size,
            sop_class_uid=file.header.kind.sop_class_uid,
        )
        for number, file in enumerate(files, start=1)
        if file.header is not None
    )
    return ExpectedStudy(instances[0].identity.study_instance_uid, instances)


@contextmanager
def delivery_for(
    destination: DimseDestination, files: Sequence[InstanceFile]
) -> Iterator[Delivery]:
    with destination.open(kinds_of(files), ORIGIN) as delivery:
        yield delivery


def put_each(
    destination: DimseDestination, files: Sequence[InstanceFile]
) -> list[Receipt | DcmvaultError]:
    """Put every file in one delivery, and return what came of each."""
    outcomes: list[Receipt | DcmvaultError] = []
    with destination.open(kinds_of(files), ORIGIN) as delivery:
        for file in files:
            try:
                outcomes.append(delivery.put(file))
            except DcmvaultError as error:
                outcomes.append(error)
        delivery.flush()
    return outcomes


def with_header(file: InstanceFile, **changes: object) -> InstanceFile:
    """Change what the scanner said of a file."""
    assert file.header is not None
    return replace(file, header=file.header._replace(**changes))  # type: ignore[arg-type]
