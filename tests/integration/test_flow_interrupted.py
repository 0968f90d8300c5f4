"""The process dies at every single write of the catalogue in turn; the next one goes on."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.integration.flow_world import Death, Flow, counts_of

from dcmvault.model.evidence import Level
from dcmvault.model.plan import Strategy
from dcmvault.model.report import RunState
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.faulty import CrashError
from dcmvault.testing.peers import SimulatedPacs


def _first_state(folder: Path, source: Path, *to: str) -> Flow:
    """A run was made before: something is held, something claimed, something changed since."""
    flow = Flow(folder)
    held = make_study(source / "held", key="held", instances=2)
    flow.backup(source, *to)
    make_study(source / "claimed", key="claimed", instances=2)
    flow.backup(source, *to, level=Level.SENT)
    make_study(source / "new", key="new", series=2, instances=2)
    (source / "broken.dcm").write_bytes(b"no DICOM at all")
    changed = held[0].path
    changed.write_bytes(changed.read_bytes() + bytes(2))
    (source / "held" / "renamed.dcm").write_bytes(held[1].path.read_bytes())
    held[1].path.unlink()
    return flow


@pytest.mark.parametrize(
    ("strategy", "after", "first"),
    [
        (Strategy.INCREMENTAL, False, 1),
        (Strategy.INCREMENTAL, True, 5),
        (Strategy.FULL, False, 9),
        (Strategy.FULL, True, 13),
    ],
)
def test_everything_arrives_when_the_process_dies_at_some_write(
    tmp_path: Path, strategy: Strategy, after: bool, first: int
) -> None:
    _die_at(range(first, 1000, 16), tmp_path, strategy, after=after)


@pytest.mark.nightly
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("strategy", [Strategy.INCREMENTAL, Strategy.FULL])
def test_everything_arrives_at_whichever_write_the_process_dies(
    tmp_path: Path, strategy: Strategy, after: bool
) -> None:
    _die_at(range(1, 1000), tmp_path, strategy, after=after)


def _die_at(moments: Iterable[int], tmp_path: Path, strategy: Strategy, *, after: bool) -> None:
    """Try moments until one is later than the run's last write."""
    for at in moments:
        folder = tmp_path / str(at)
        with SimulatedPacs() as pacs:
            to = (str(folder / "copies"), f"dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}")
            flow = _first_state(folder, folder / "source", *to)
            del pacs.received[:]
            death = Death(at, after=after)
            durable = flow.ask(folder / "source", *to, strategy=strategy)
            with suppress(CrashError):
                flow.carry_out(durable, flow.stages(death))
            # The same command again: it asks for the same work, and goes on with it.
            asked = flow.ask(folder / "source", *to, strategy=strategy)
            if asked.run_id == durable.run_id:
                durable.finished = False
                flow.carry_out(durable, flow.stages())
            else:
                assert durable.finished or death.dead
            report = flow.report(durable)
            assert report.state is RunState.FINISHED
            opaque = [failure.code for failure in report.failures]
            assert opaque == ["not_dicom"], (at, report.failures)
            full = strategy is Strategy.FULL
            assert counts_of(report) == {
                "selected": 18 if full else 16,
                **({} if full else {"already_held": 2}),
                "stored": 17 if full else 15,
                "failed": 1,
            }, at
            assert len(pacs.held()) == 8
            # What was in flight when it died may come twice: one association, one instance.
            assert sum(Counter(pacs.received).values()) <= 5 + 1, (at, pacs.received)
            for part in flow.catalogue.status.coverage(
                flow.catalogue.sources.source(str(folder / "source"))
            ):
                opaque_there = part.destination == to[0]
                assert part.instances_held == part.instances - (not opaque_there)
            last = flow.backup(folder / "source", *to)
            assert counts_of(last) == {"selected": 1, "already_held": 17, "failed": 1}
            assert [f.code for f in last.failures] == ["not_dicom"]
        flow.catalogue.close()
        shutil.rmtree(folder)
        if not death.dead:
            assert at > 40, "there are many writes to die at"
            return
