"""What every catalogue must keep for the dashboard and its people; part of `catalogue_suite`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

from dcmvault.model.account import Account, Role, Session
from dcmvault.model.drill import Drill, DrilledStudy
from dcmvault.model.evidence import Finding
from dcmvault.model.identifiers import RunId
from dcmvault.model.schedule import ScheduledRun
from dcmvault.ports.accounts import AccountBook, AccountChange
from dcmvault.ports.kept_counts import KeptCounts
from dcmvault.ports.schedules import HoldState
from dcmvault.testing.catalogue_world import START, CatalogueCases, header, scanned

_JANE = Account("jane", Role.OPERATOR, "pt-BR", START)
_DAY = timedelta(days=1)


class AccountsSuite(CatalogueCases):
    """Tests of `ports.accounts`."""

    def test_accounts_are_added_once_changed_and_forgotten(self) -> None:
        """A name is taken once; a first account is first; what is not named stays."""
        book = self.open_catalogue().accounts
        assert book.add(_JANE, "digest", only_first=True)
        assert not book.add(replace(_JANE, name="john"), "x", only_first=True)
        assert not book.add(_JANE, "x")
        assert book.add(replace(_JANE, name="ann", role=Role.VIEWER), "")
        assert [one.name for one in book.accounts()] == ["ann", "jane"]
        kept = book.account("jane")
        assert kept is not None
        assert (kept.account, kept.password, kept.totp_secret) == (_JANE, "digest", b"")
        changed = AccountChange(role=Role.ADMINISTRATOR, disabled=True, last_seen_at=START + _DAY)
        assert book.change("jane", changed)
        assert not book.change("nobody", changed)
        kept = book.account("jane")
        assert kept is not None
        assert (kept.account.role, kept.account.disabled) == (Role.ADMINISTRATOR, True)
        assert (kept.account.language, kept.password) == ("pt-BR", "digest")
        assert kept.account.last_seen_at == START + _DAY
        assert book.remove("jane")
        assert not book.remove("jane")
        assert book.account("jane") is None

    def test_people_of_a_provider_are_known_by_issuer_and_subject(self) -> None:
        """Never by their name, and never as somebody with a password."""
        opened = self.open_catalogue()
        book = opened.identities
        opened.accounts.add(_JANE, "digest")
        theirs = replace(_JANE, name="oidc:jane", issuer="https://one.example")
        assert book.find("https://one.example", "7") is None
        assert not book.add(replace(theirs, name="jane"), "7")
        assert book.add(theirs, "7")
        assert not book.add(replace(theirs, name="oidc:other"), "7")
        assert not book.add(theirs, "8")
        other = replace(theirs, name="oidc:jane-2", issuer="https://two.example")
        assert book.add(other, "7")
        assert book.find("https://one.example", "7") == theirs
        assert book.find("https://two.example", "7") == other
        assert book.find("", "") is None
        kept = opened.accounts.account("oidc:jane")
        assert kept is not None
        assert (kept.account, kept.password) == (theirs, "")
        assert opened.accounts.account("jane") != kept
        opened.accounts.remove("oidc:jane")
        assert book.find("https://one.example", "7") is None

    def test_one_administrator_is_left_whatever_others_do_at_once(self) -> None:
        """Each of four takes the next one's role, account or way in away, at the same moment."""
        names = ("ann", "ben", "cem", "dora")
        deeds: tuple[Callable[[AccountBook, str], bool], ...] = (
            lambda book, name: book.remove(name, leaves_administrator=True),
            lambda book, name: book.change(
                name, AccountChange(role=Role.VIEWER), leaves_administrator=True
            ),
            lambda book, name: book.change(
                name, AccountChange(disabled=True), leaves_administrator=True
            ),
        )
        books = [self.open_catalogue().accounts for _ in names]
        for turn in range(6):
            for name in names:
                books[0].remove(name)
                books[0].add(replace(_JANE, name=name, role=Role.ADMINISTRATOR), "digest")
            barrier = Barrier(len(names))

            def attack(number: int, turn: int = turn, barrier: Barrier = barrier) -> bool:
                deed = deeds[(number + turn) % len(deeds)]
                barrier.wait()
                return deed(books[number], names[(number + 1) % len(names)])

            with ThreadPoolExecutor(len(names)) as pool:
                done = list(pool.map(attack, range(len(names))))
            left = [
                one.name
                for one in books[0].accounts()
                if one.role is Role.ADMINISTRATOR and not one.disabled
            ]
            assert (len(left), sum(done)) == (1, len(names) - 1)
        (last,) = left
        assert not books[0].change(
            last, AccountChange(role=Role.OPERATOR), leaves_administrator=True
        )
        assert books[0].change(last, AccountChange(language="en"))

    def test_who_has_yet_to_choose_a_password_stands_in_for_no_administrator(self) -> None:
        """But is not taken away either while there is nobody else."""
        book = self.open_catalogue().accounts
        invited = replace(_JANE, name="ann", role=Role.ADMINISTRATOR)
        book.add(invited, "")
        viewer = AccountChange(role=Role.VIEWER)
        assert not book.change("ann", viewer, leaves_administrator=True)
        assert not book.remove("ann", leaves_administrator=True)
        book.add(replace(invited, name="ben"), "digest")
        assert not book.remove("ben", leaves_administrator=True)
        assert book.remove("ann", leaves_administrator=True)
        book.add(invited, "digest")
        assert book.change("ben", viewer, leaves_administrator=True)
        assert book.remove("ben", leaves_administrator=True)

    def test_codes_are_used_once(self) -> None:
        """A time step, and those before it; a recovery code; new secrets end old codes."""
        book = self.open_catalogue().accounts
        book.add(_JANE, "digest")
        secret = bytes(range(20))
        book.set_totp("jane", secret, [b"one" * 8, b"\x00two" * 8])
        kept = book.account("jane")
        assert kept is not None
        assert (kept.totp_secret, kept.account.has_totp) == (secret, True)
        assert [book.use_totp("jane", step) for step in (7, 7, 6, 8)] == [True, False, False, True]
        assert [book.use_recovery("jane", b"one" * 8) for _ in range(2)] == [True, False]
        assert not book.use_recovery("nobody", b"\x00two" * 8)
        book.set_totp("jane", secret[::-1], [b"three" * 5])
        assert not book.use_recovery("jane", b"\x00two" * 8)
        assert book.use_totp("jane", 1)
        book.set_totp("jane", b"", [])
        kept = book.account("jane")
        assert kept is not None
        assert not kept.account.has_totp

    def test_sessions_end(self) -> None:
        """By themselves, all of an account but one, when forgotten, and with their account."""
        opened = self.open_catalogue()
        opened.accounts.add(_JANE, "digest")
        book = opened.sessions
        old = Session(b"\x00old" * 8, "jane", START, START, "127.0.0.1", is_half=True)
        new = replace(old, digest=b"new" * 8, used_at=START + _DAY, is_half=False)
        for session in (old, new):
            book.begin(session)
        assert book.session(new.digest) == (new, _JANE)
        assert book.session(b"none" * 8) is None
        assert book.sessions("jane") == [new, old]
        book.touch(old.digest, START + 2 * _DAY)
        assert [one.digest for one in book.sessions("jane")] == [old.digest, new.digest]
        seen = opened.accounts.account("jane")
        assert seen is not None
        assert seen.account.last_seen_at == START + 2 * _DAY
        assert book.reveal(new.digest, START + _DAY)
        assert not book.reveal(b"none" * 8, None)
        found = book.session(new.digest)
        assert found is not None
        assert found[0].revealed_until == START + _DAY
        assert book.end_all("jane", but=new.digest) == 1
        assert not book.end(old.digest)
        assert book.forget(START, START) == 0
        assert book.forget(START + 2 * _DAY, START) == 1
        book.begin(new)
        opened.accounts.remove("jane")
        assert book.session(new.digest) is None

    def test_links_lead_in_once_and_for_a_while(self) -> None:
        """One for each account, and one for nobody yet."""
        opened = self.open_catalogue()
        opened.accounts.add(_JANE, "digest")
        book = opened.links
        for number in (1, 2):
            book.put(b"%d" % number * 32, "", START + _DAY)
            book.put(b"j%d" % number * 16, "jane", START + _DAY)
        assert book.link(b"1" * 32, START) is None
        assert book.link(b"2" * 32, START) == ""
        assert book.link(b"j2" * 16, START) == "jane"
        assert book.link(b"j2" * 16, START + _DAY) is None
        assert not book.take(b"2" * 32, START + _DAY)
        assert book.take(b"2" * 32, START)
        assert not book.take(b"2" * 32, START)


class PeopleSuite(AccountsSuite):
    """Tests of what the dashboard's other pages ask: kept counts, drills, schedules, queues."""

    def test_counts_are_kept_with_a_mark_that_every_change_moves(self) -> None:
        """A pass, a plan, a receipt, evidence, what refutes it; asking moves nothing."""
        world = self.world()
        book = world.catalogue.kept_counts
        assert book.kept() is None
        marks = [book.mark()]
        run_id = world.run()
        marks.append(book.mark())
        world.scan(run_id, [scanned("a", "a", header(1, 1, 1))])
        marks.append(book.mark())
        (job,) = world.plan(run_id, world.due(run_id))
        marks.append(book.mark())
        sent = world.send(job, {"a": "a"})
        marks.append(book.mark())
        world.verify(job, sent)
        marks.append(book.mark())
        world.verify(job, sent, {"a": Finding.HELD})
        marks.append(book.mark())
        world.catalogue.holdings.refute_copies(
            world.destination, {"2.25.1": []}, Finding.MISSING, world.tick(), files={}
        )
        marks.append(book.mark())
        assert len(set(marks)) == len(marks), marks
        assert book.mark() == marks[-1]
        # Counting the matrix follows new routes once; then it changes nothing.
        for days in (1, 2):
            counted = book.mark()
            while world.catalogue.matrix.recount(world.now + days * _DAY):
                pass
        assert book.mark() == counted
        for counts in (
            KeptCounts(START, marks[0], START + _DAY, "[1]"),
            KeptCounts(START + _DAY, marks[-1], None, '["é\\u0000"]'),
        ):
            book.keep(counts)
            assert book.kept() == counts

    def test_drills_and_what_they_ask_of_a_place(self) -> None:
        """The newest of each place counts; what a place holds of a study is listed."""
        world = self.world()
        listed = [scanned(n, n, header(i // 2, 1, i)) for i, n in enumerate("abcd", start=2)]
        world.backup(listed, dict.fromkeys("abcd", "x") | {n: n for n in "abcd"})
        book = world.catalogue.restores
        for place in (world.destination_name, world.source_name):
            assert [one.study_instance_uid for one in book.known_studies(place)] == [
                "2.25.1",
                "2.25.2",
            ]
            copies = book.known_copies(place, "2.25.1")
            assert [one.identity.sop_instance_uid for one in copies] == ["2.25.1.1.2", "2.25.1.1.3"]
            assert book.known_copies(place, "2.25.9") == []
        assert book.known_copies("/elsewhere", "2.25.1") == []
        ((name, original),) = book.originals(copies[0], world.destination_name)
        assert (name, original.locator) == (world.source_name, "a")
        drilled = DrilledStudy("2.25.1", 2, 2000, 0.5)
        first = Drill("vault:/a", START, (drilled, replace(drilled, problem="no")), 2, 4000, 1.5)
        other = Drill("vault:/b", START + _DAY, (drilled,))
        for drill in (first, other):
            book.record_drill(replace(drill, studies=drill.studies[:1]))
        assert [one.place for one in book.latest_drills()] == ["vault:/a", "vault:/b"]
        assert book.recent_drills(1) == [other]

    def test_schedules_and_queues_are_remembered(self) -> None:
        """When each is due, who claimed it, what came of it, and which queues are held."""
        world = self.world()
        book = world.catalogue.schedules
        book.define("nightly", "0 2 * * *", START)
        before = book.schedules()["nightly"]
        run = ScheduledRun("nightly", "all", START, 0, world.source_name, RunId("r-1"))
        assert book.claim(before, START + _DAY, [run])
        assert not book.claim(before, START + _DAY, [run])
        assert list(book.open_runs()) == [run]
        book.update_run(replace(run, settled=True, problem="off"))
        assert list(book.open_runs()) == []
        (last,) = book.last_runs("nightly", 5)
        assert (last.settled, last.problem) == (True, "off")
        book.wait("nightly", START + _DAY, None)
        book.set_enabled("nightly", enabled=False, next_at=None)
        assert book.schedules()["nightly"].enabled is False
        holds = world.catalogue.queue_holds
        holds.set_hold(world.destination, HoldState.HELD)
        assert holds.holds() == {world.destination: HoldState.HELD}
        holds.set_hold(world.destination, None)
        assert holds.holds() == {}
        run_id = world.run()
        assert list(world.catalogue.unfinished.unfinished()) == [run_id]

    def test_what_runs_did_is_told_again(self) -> None:
        """Arrivals, transfers, ends that nobody was told of, and what has no copy."""
        world = self.world()
        run_id = world.backup([scanned("a", "a", header(1, 1, 1))], {"a": "a"})
        world.scan(world.run(), [scanned("b", "b", header(2, 1, 1))], believe_absence=False)
        history = world.catalogue.history
        assert [one.bytes > 0 for one in history.arrivals(START)] == [True, True]
        assert [one.instances for one in history.transfers(START)] == [1]
        news = world.catalogue.notices
        assert news.untold_runs(START) == [run_id]
        latest = news.latest_end(world.source_name, [world.destination_name])
        assert latest is not None
        assert latest[0] == run_id
        found = news.protection()
        assert (found.studies, found.unprotected) == (2, 1)
        assert found.oldest_unprotected is not None
