"""What every catalogue must know of samples, alerts, and spoilt sources; see `catalogue_suite`."""

from __future__ import annotations

from datetime import datetime, timedelta

from dcmvault.model.alert import AlertChange, AlertCode, AlertSeverity, Subject, SubjectKind
from dcmvault.model.instance import ScannedEntry
from dcmvault.model.job import JobState
from dcmvault.model.report import RunState
from dcmvault.model.sample import Figure, Sample
from dcmvault.ports.signs import SourceSigns
from dcmvault.testing.catalogue_world import START, CatalogueCases, entry, header, scanned

_MACHINE = Subject(SubjectKind.MACHINE)
_DISK = Subject(SubjectKind.DISK, "state")
_PACS = Subject(SubjectKind.DESTINATION, "pacs")


def _sample(at: datetime, share: float, subject: Subject = _MACHINE) -> Sample:
    return Sample(at, subject, {Figure.CPU_SHARE: share})


class MonitoringSuite(CatalogueCases):
    """Tests of the contracts in `ports.samples`, `ports.alerts` and `ports.signs`."""

    def test_samples_come_back_as_they_were(self) -> None:
        """By time and subject; what was not measured is not there; the last of a moment stays."""
        samples = self.world().catalogue.samples
        later = START + timedelta(seconds=1)
        disk = Sample(START, _DISK, {Figure.DISK_FREE_BYTES: 2.0**53, Figure.ETA_S: 0.25})
        samples.keep_samples([_sample(later, 0.5), _sample(START, 0.1), disk])
        samples.keep_samples([_sample(START, 0.2)])
        assert samples.samples(1, START, later) == [disk, _sample(START, 0.2)]
        assert samples.samples(1, later, later + timedelta(days=1)) == [_sample(later, 0.5)]
        assert samples.samples(1, START, later, _DISK) == [disk]
        assert samples.samples(60, START, later) == []
        samples.keep_samples([])

    def test_samples_are_thinned_as_they_grow_old(self) -> None:
        """Seconds for an hour, minutes for a week, hours for a year, whatever the pace of calls."""
        samples = self.world().catalogue.samples
        now = START
        for number in range(220):
            now += timedelta(minutes=61 if number % 7 else 7)
            begin = now.replace(second=0, microsecond=0)
            samples.keep_samples(
                [_sample(begin + timedelta(seconds=s), s / 10) for s in range(0, 60, 10)]
            )
            now = begin + timedelta(minutes=1)
            samples.thin_samples(now)
            samples.thin_samples(now)
        whole = (START - timedelta(days=1), now + timedelta(days=1))
        seconds, minutes, hours = (samples.samples(span, *whole) for span in (1, 60, 3600))
        assert seconds
        assert min(one.at for one in seconds) >= now - timedelta(hours=1)
        assert min(one.at for one in minutes) >= now - timedelta(weeks=1)
        assert all(one.figures == {Figure.CPU_SHARE: 2.5} for one in minutes + hours)
        assert 150 < len(minutes) < 220
        assert len({one.at for one in hours}) == len(hours)

    def test_an_alert_is_raised_once_and_cleared_once(self) -> None:
        """Both are events with numbers that grow; whoever remembers a number misses none."""
        alerts = self.world().catalogue.alerts
        for second in (0, 1):
            alerts.raise_alert(
                AlertCode.DESTINATION_DOWN,
                _PACS,
                AlertSeverity.WARNING,
                START + timedelta(seconds=second),
                {"error": "unreachable"},
            )
        alerts.raise_alert(AlertCode.DISK_LOW, _DISK, AlertSeverity.CRITICAL, START, {})
        assert [one.code for one in alerts.open_alerts()] == [
            AlertCode.DISK_LOW,
            AlertCode.DESTINATION_DOWN,
        ]
        assert [one.raised_at for one in alerts.open_alerts()] == [START, START]
        (first, second_event) = alerts.alert_events(0)
        assert first.change is AlertChange.RAISED
        assert first.alert.figures == first.figures == {"error": "unreachable"}
        assert alerts.last_alert_event() == second_event.number
        over = START + timedelta(hours=1)
        for _again in (0, 1):
            alerts.clear_alert(AlertCode.DESTINATION_DOWN, _PACS, over, {"tries": 3})
        (cleared,) = alerts.alert_events(second_event.number)
        assert (cleared.change, cleared.at, cleared.figures) == (
            AlertChange.CLEARED,
            over,
            {"tries": 3},
        )
        assert [one.code for one in alerts.open_alerts()] == [AlertCode.DISK_LOW]
        assert [one.cleared_at for one in alerts.alert_history()] == [None, over]
        assert len(alerts.alert_events(0, limit=1)) == 1

    def test_alerts_that_are_over_are_forgotten_one_day(self) -> None:
        """Those that are raised are not, and no number comes back."""
        catalogue = self.world().catalogue
        alerts = catalogue.alerts
        for subject in (_PACS, _DISK):
            alerts.raise_alert(AlertCode.DISK_LOW, subject, AlertSeverity.CRITICAL, START, {})
        alerts.clear_alert(AlertCode.DISK_LOW, _PACS, START, {})
        before = alerts.last_alert_event()
        alerts.forget_alerts(START + timedelta(days=1))
        assert [one.subject for one in alerts.alert_history()] == [_DISK]
        assert [one.alert.subject for one in alerts.alert_events(0)] == [_DISK]
        alerts.clear_alert(AlertCode.DISK_LOW, _DISK, START, {})
        assert alerts.last_alert_event() > before

    def test_an_alert_never_ends_before_it_began(self) -> None:
        """Clocks are set back."""
        alerts = self.world().catalogue.alerts
        alerts.raise_alert(AlertCode.DISK_LOW, _DISK, AlertSeverity.CRITICAL, START, {})
        alerts.clear_alert(AlertCode.DISK_LOW, _DISK, START - timedelta(days=1), {})
        assert [one.cleared_at for one in alerts.alert_history()] == [START]

    def test_signs_add_up_over_passes(self) -> None:
        """Whether or not a run made them; what is new counts for nothing."""
        world = self.world()
        signs = world.catalogue.signs
        listed = [scanned(f"f{number}", "a", header(1, 1, number)) for number in range(6)]
        world.scan(world.run(), listed[:5])
        assert signs.signs(world.source) == SourceSigns()
        signs.accept(world.source)
        changed = [scanned("f0", "b", header(1, 1, 0)), *listed[1:]]
        world.scan(world.run(), changed)
        assert signs.signs(world.source) == SourceSigns(known=5, changed=1)
        world.scan(world.run(), changed)
        spoilt = [ScannedEntry(entry("f1", "x"), opaque_reason="no DICOM"), *changed[2:]]
        world.scan(world.run(), spoilt)
        # f0 is not listed any more, and f1 holds something that is no DICOM.
        assert signs.signs(world.source) == SourceSigns(known=5, changed=2, spoilt=1, gone=1)
        signs.accept(world.source)
        assert signs.signs(world.source) == SourceSigns()

    def test_what_comes_back_is_not_gone(self) -> None:
        """Nor what has another name."""
        world = self.world()
        signs = world.catalogue.signs
        listed = [
            scanned(f"f{number}", str(number), header(1, 1, number), compared=True)
            for number in range(4)
        ]
        world.scan(world.run(), listed)
        signs.accept(world.source)
        world.scan(world.run(), listed[:1])
        assert signs.signs(world.source).gone == 3
        world.scan(world.run(), listed[:3])
        assert signs.signs(world.source).gone == 1
        renamed = scanned("elsewhere", "1", header(1, 1, 1), compared=True)
        world.scan(world.run(), [listed[0], renamed, *listed[2:]])
        assert signs.signs(world.source).gone == 0

    def test_what_is_believed_bit_by_bit_adds_up_for_a_while(self) -> None:
        """Until it is too old, or accepted; what is gone is not remembered, what is put back is."""
        world = self.world()
        signs = world.catalogue.signs
        listed = [
            scanned(f"f{number}", str(number), header(1, 1, number), compared=True)
            for number in range(6)
        ]
        world.scan(world.run(), listed)
        day, since = timedelta(days=1), START - timedelta(days=100)
        for number in range(3):
            listed[number] = scanned(f"f{number}", "new", header(1, 1, number), compared=True)
            world.scan(world.run(), listed)
            signs.believe(world.source, START + number * day, since)
            assert signs.signs(world.source) == SourceSigns()
        assert signs.lately(world.source, since) == SourceSigns(known=6, changed=3)
        assert signs.lately(world.source, START + day) == SourceSigns(known=6, changed=2)
        listed[0] = scanned("f0", "0", header(1, 1, 0), compared=True)
        world.scan(world.run(), listed[:5])
        now = SourceSigns(known=6, changed=2, gone=1)
        assert signs.lately(world.source, since) == now
        signs.doubt(world.source, START + day)
        signs.hold(world.source, START + 3 * day)
        # What was believed before that is forgotten; who holds a source tells why.
        assert signs.signs(world.source) == SourceSigns(known=6, changed=1, gone=1)
        assert signs.held()[0].signs == signs.signs(world.source)
        signs.believe(world.source, START + 4 * day, since)
        assert signs.held() == []
        assert signs.lately(world.source, since) == SourceSigns(known=6, changed=1)
        listed[4] = scanned("f4", "new", header(1, 1, 4), compared=True)
        world.scan(world.run(), listed[:5])
        signs.believe(world.source, START + 5 * day, START + 5 * day)
        assert signs.lately(world.source, since).changed == 1, "what is older is forgotten"
        signs.accept(world.source)
        assert signs.lately(world.source, since) == SourceSigns()

    def test_a_source_is_held_until_it_is_believed(self) -> None:
        """Since the first time."""
        world = self.world()
        signs = world.catalogue.signs
        assert signs.held() == []
        signs.hold(world.source, START)
        signs.hold(world.source, START + timedelta(days=1))
        (held,) = signs.held()
        assert (held.source_id, held.name, held.held_at) == (
            world.source,
            world.source_name,
            START,
        )
        signs.accept(world.source)
        assert signs.held() == []

    def test_what_is_left_is_counted(self) -> None:
        """Runs that have not ended, and their open jobs by state."""
        world = self.world()
        work = world.catalogue.work
        run_id = world.run()
        listed = [scanned(f"f{number}", "a", header(1, number, 1)) for number in range(3)]
        world.scan(run_id, listed)
        jobs = world.plan(run_id, world.due(run_id))
        world.send(jobs[0], {one.entry.locator: "a" for one in listed})
        (run,) = work.unfinished_runs()
        assert (run.run_id, run.destination_id) == (run_id, world.destination)
        assert (run.state, run.items, run.sent, run.settled) == (RunState.RUNNING, 3, 1, 0)
        assert work.open_jobs() == {
            world.destination: {JobState.IN_PROGRESS: 1, JobState.PENDING: 2}
        }
        world.catalogue.runs.cancel_items(run_id)
        world.catalogue.runs.set_run_state(run_id, RunState.CANCELLED, world.tick())
        assert (work.unfinished_runs(), work.open_jobs()) == ([], {})
