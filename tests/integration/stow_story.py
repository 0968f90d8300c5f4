"""Steps that the DICOMweb tests share: a destination at a URL, and what came of each file."""

from __future__ import annotations

from collections.abc import Sequence

from dcmvault.config.peer_sections import StowDestinationSection
from dcmvault.destinations.stow import StowDestination
from dcmvault.errors import DcmvaultError
from dcmvault.model.instance import InstanceFile
from dcmvault.model.receipt import Receipt
from dcmvault.ports.pacing import Pacing
from dcmvault.testing.clock import FakeClock
from dcmvault.testing.destination_suite import ORIGIN


def web_destination(
    url: str,
    *,
    clock: FakeClock | None = None,
    pacing: Pacing | None = None,
    **options: float | str | bool,
) -> StowDestination:
    """Make a destination with short waits."""
    waits: dict[str, object] = {"connect_timeout_s": 5, "response_timeout_s": 10}
    section = StowDestinationSection.model_validate({"url": url} | waits | options)
    return StowDestination(section, clock or FakeClock(), pacing)


def put_each(
    destination: StowDestination, files: Sequence[InstanceFile]
) -> list[Receipt | DcmvaultError]:
    """Put every file in one delivery, and return what came of each."""
    outcomes: list[Receipt | DcmvaultError] = []
    with destination.open((), ORIGIN) as delivery:
        for file in files:
            try:
                outcomes.append(delivery.put(file))
            except DcmvaultError as error:
                outcomes.append(error)
        delivery.flush()
    return outcomes


def uid_of(file: InstanceFile) -> str:
    assert file.header is not None
    return file.header.sop_instance_uid
