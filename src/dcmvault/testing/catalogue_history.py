"""Random histories of sources and destinations, with a model in memory to compare with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dcmvault.model.evidence import Finding, Level
from dcmvault.model.instance import InstanceIdentity, ScannedEntry
from dcmvault.model.job import JobState
from dcmvault.model.plan import PlanItem, Strategy
from dcmvault.model.report import RunState
from dcmvault.testing.catalogue_world import (
    CatalogueCases,
    OpenedCatalogue,
    World,
    digest,
    header,
    scanned,
)

#: Not `present`: evidence by counting raises what was not asked about too.
_LEVELS = (Level.COMPLETE, Level.COMMITTED, Level.PROVEN)
#: What makes a version: identity and digest.
_Version = tuple[InstanceIdentity, bytes]


@dataclass(frozen=True, slots=True)
class _File:
    """What lies behind a locator: an instance, named by three numbers, and its content."""

    name: tuple[int, int, int]
    content: str

    @property
    def version(self) -> _Version:
        """What makes a version: identity and content."""
        return header(*self.name).identity, digest(self.content)


@dataclass(slots=True)
class _Model:
    """Two sources and two destinations, as simply as can be."""

    files: list[dict[str, _File]] = field(default_factory=lambda: [{}, {}])
    #: Files as the last pass over each source saw them.
    seen: list[dict[str, _File]] = field(default_factory=lambda: [{}, {}])
    #: Versions in the order of their first sight.
    order: list[_Version] = field(default_factory=list)
    #: Level at each destination; 0 where a verification refuted it.
    levels: list[dict[_Version, int]] = field(default_factory=lambda: [{}, {}])

    def see(self, source: int) -> None:
        """Make a believed pass."""
        self.seen[source] = dict(self.files[source])
        for _, file in sorted(self.seen[source].items()):
            if file.version not in self.order:
                self.order.append(file.version)

    def present(self, source: int) -> set[_Version]:
        """Return the versions that one source has."""
        return {file.version for file in self.seen[source].values()}

    def is_conflict(self, version: _Version, source: int, destination: int) -> bool:
        """Say whether the place of the identity goes to an older version here, or is taken."""
        here, present = self.present(source), self.present(0) | self.present(1)
        older = self.order[: self.order.index(version)]
        levels = self.levels[destination]
        return any(
            other[0] == version[0]
            and ((other in here and other in older) or levels.get(other, 0) > 0)
            for other in present - {version}
        )

    def has_earlier(self, version: _Version, destination: int) -> bool:
        """Say whether another version, present nowhere, is held or sent."""
        present = self.present(0) | self.present(1)
        return any(
            other != version and other[0] == version[0] and other not in present and level > 0
            for other, level in self.levels[destination].items()
        )

    def due(self, source: int, destination: int, level: Level) -> dict[tuple[str, bytes], object]:
        """Say what an incremental run selects: (SOP Instance UID, digest) to its flags."""
        found: dict[tuple[str, bytes], object] = {}
        for version in self.present(source):
            held = self.levels[destination].get(version, 0)
            if held < level:
                refuted = version in self.levels[destination] and level > Level.SENT
                found[version[0].sop_instance_uid, version[1]] = (
                    held > 0 or refuted,
                    self.is_conflict(version, source, destination),
                    self.has_earlier(version, destination),
                )
        return found


class History:
    """One random history, reproducible by its seed; sources and destinations are its own."""

    def __init__(self, catalogue: OpenedCatalogue, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible, no secret
        self._seed = seed
        self._model = _Model()
        self._numbers = iter(range(1_000_000))
        self._worlds = [
            [
                World(catalogue, f"/source{s}-{seed}", f"/copy{d}-{seed}", label=f"{seed}-{s}{d}")
                for d in range(2)
            ]
            for s in range(2)
        ]

    def play(self, steps: int) -> None:
        """Take random steps; AssertionError where catalogue and model differ."""
        for _ in range(steps):
            source = self._random.randrange(2)
            for _ in range(self._random.randrange(5)):
                self._disturb(source)
            self._back_up(source, self._random.randrange(2))
            self._compare()

    def _disturb(self, source: int) -> None:
        """Add, change, copy or remove a file."""
        files = self._model.files[source]
        number = next(self._numbers)
        what = self._random.choice(("add", "add", "twin", "change", "copy", "move", "remove"))
        if what == "add" or not files:
            name = (self._study(), self._random.randrange(2), self._random.randrange(6))
            files[f"f{number}"] = _File(name, f"c{number}")
            return
        locator = self._random.choice(sorted(files))
        file = files[locator]
        if what == "twin":
            files[f"f{number}"] = _File(file.name, f"c{number}")
        elif what == "change":
            files[locator] = _File(file.name, f"c{number}")
        elif what == "copy":
            self._model.files[1 - source][f"f{number}"] = file
        elif what == "move":
            files[f"f{number}"] = files.pop(locator)
        else:
            del files[locator]

    def _study(self) -> int:
        """Each history has studies of its own: they share the catalogue."""
        return 100 * self._seed + self._random.randrange(1, 4)

    def _back_up(self, source: int, destination: int) -> None:
        """Make a run in which some deliveries and verifications fail."""
        world = self._worlds[source][destination]
        level = self._random.choice(_LEVELS)
        strategy = self._random.choice((Strategy.INCREMENTAL, Strategy.FULL))
        run_id = world.run(strategy)
        world.scan(run_id, self._listed(source))
        self._model.see(source)
        contents = {at: file.content for at, file in self._model.seen[source].items()}
        for job in world.plan(run_id, world.due(run_id, strategy, level), level):
            world.catalogue.jobs.set_job_state(job.job_id, JobState.IN_PROGRESS, attempt=1)
            if self._random.random() < 0.2:
                world.catalogue.runs.cancel_items(run_id, job.job_id)
            sent = world.send(world.catalogue.jobs.job(job.job_id), contents)
            levels = self._model.levels[destination]
            for item in sent:
                version = (item.plan.identity, item.plan.file_sha256)
                if not item.plan.held:
                    levels[version] = max(levels.get(version, 0), Level.SENT)
            if self._random.random() < 0.8:
                findings = {item.plan.entry.locator: self._finding() for item in sent}
                world.verify(job, sent, findings, level)
                for item in sent:
                    self._note(destination, item.plan, findings[item.plan.entry.locator], level)
        world.catalogue.runs.set_run_state(run_id, RunState.FINISHED, world.tick())

    def _finding(self) -> Finding:
        finding: Finding = self._random.choice((Finding.HELD, Finding.HELD, *Finding))
        return finding

    def _note(self, destination: int, plan: PlanItem, finding: Finding, level: Level) -> None:
        levels = self._model.levels[destination]
        version = (plan.identity, plan.file_sha256)
        if finding is Finding.HELD:
            levels[version] = max(levels.get(version, 0), level)
        elif finding is not Finding.UNKNOWN:
            levels[version] = 0

    def _listed(self, source: int) -> Iterator[ScannedEntry]:
        for locator, file in sorted(self._model.files[source].items()):
            yield scanned(locator, file.content, header(*file.name), compared=True)

    def _compare(self) -> None:
        for source, worlds in enumerate(self._worlds):
            for destination, world in enumerate(worlds):
                level = self._random.choice(_LEVELS)
                due = {
                    (item.identity.sop_instance_uid, item.file_sha256): (
                        item.held,
                        item.conflict,
                        item.earlier_version_there,
                    )
                    for item in world.due(world.run(), level=level)
                }
                assert due == self._model.due(source, destination, level)
                self._compare_expected(world, source, destination)

    def _compare_expected(self, world: World, source: int, destination: int) -> None:
        levels = self._model.levels[destination]
        present = self._model.present(source)
        expected = {
            (item.identity, item.file_sha256): item.held
            for item in world.catalogue.plans.expected(world.source, world.destination)
        }
        assert expected == {version: version in levels for version in present}
        assert world.present_versions() == len(present)


class HistorySuite(CatalogueCases):
    """Random histories, compared with a model in memory after every step."""

    #: Seeds of the histories; each is a few dozen steps.
    seeds: Sequence[int] = range(3)

    def test_random_histories_agree_with_the_model(self) -> None:
        """What is due, held and in conflict is what a simple model says."""
        catalogue = self.open_catalogue()
        for seed in self.seeds:
            History(catalogue, seed).play(steps=20)
