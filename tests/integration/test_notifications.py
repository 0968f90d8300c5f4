"""Who is told what: runs that ended, by mail, webhook and ping; and what nobody is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from tests.conftest import RunDcmvault
from tests.integration.notify_world import (
    PASSWORD,
    USER,
    Mailbox,
    WebService,
    closed_port,
    mail_server,
    web_service,
    write_secret,
)
from tests.integration.story import QUICK_RETRIES, summary_of
from tests.integration.tls_world import Authority

from dcmvault.catalogue import open_catalogue
from dcmvault.ports.notices import DeliveryState
from dcmvault.testing.dicom_files import make_study
from dcmvault.testing.peers import SimulatedPacs

#: What patients are called, and files, folders and descriptions that name them.
CANARIES = ("Quintessential", "Zebedee", "ZQX-4711", "Hidden diagnosis", "19700131", "canary-path")


@dataclass
class World:
    """A state folder with channels of all kinds, and who listens at them."""

    home: Path
    source: Path
    copies: Path
    box: Mailbox
    hook: WebService
    private: WebService
    pings: WebService

    def configure(self, more: str = "") -> None:
        """Write the configuration."""
        (self.home / "config.toml").write_text(self.text + more)

    text: str = ""


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[World]:
    authority = Authority(tmp_path)
    identity = authority.issue("servers")
    source, copies = tmp_path / "canary-path Zebedee" / "source", tmp_path / "copies"
    for key in ("a", "b"):
        for made in make_study(
            source / f"Quintessential {key}",
            key=key,
            instances=2,
            patient_name="Quintessential^Zebedee",
            patient_id="ZQX-4711",
        ):
            data = pydicom.dcmread(made.path)
            data.StudyDescription = "Hidden diagnosis"
            data.save_as(made.path)
    with (
        mail_server(identity) as box,
        web_service(identity) as hook,
        web_service(identity) as private,
        web_service(identity) as pings,
    ):
        text = f"""
{QUICK_RETRIES}
[sources.library]
address = "{source}"
[destinations.disk]
address = "{copies}"
[plans.nightly]
sources = ["library"]
destinations = ["disk"]
[notifications.office]
channel = "mail"
host = "127.0.0.1"
port = {box.port}
user = "{USER}"
password = "{write_secret(tmp_path, "mail", PASSWORD)}"
sender = "dcmvault@example.org"
to = ["office@example.org"]
events = ["run_ok", "run_incomplete", "run_failed"]
language = "pt-BR"
tls_ca_file = "{authority.ca_file}"
[notifications.programs]
channel = "webhook"
url = "{write_secret(tmp_path, "hook", hook.url)}"
secret = "{write_secret(tmp_path, "key", "a key")}"
tls_ca_file = "{authority.ca_file}"
[notifications.radiology]
channel = "webhook"
url = "{private.url}"
privacy = "full"
severity = "warning"
tls_ca_file = "{authority.ca_file}"
[notifications.dead-man]
channel = "healthchecks"
url = "{pings.url}"
plans = ["nightly"]
tls_ca_file = "{authority.ca_file}"
"""
        yield World(home, source, copies, box, hook, private, pings, text)


def _events(service: WebService) -> list[str]:
    return [str(json.loads(one.body)["event"]) for one in service.taken]


def test_a_run_is_told_on_every_channel_and_names_no_patient(
    run_dcmvault: RunDcmvault, world: World
) -> None:
    """Good and bad runs; the bytes of all channels but one are searched for what nobody may see."""
    world.configure()
    summary = summary_of(run_dcmvault("run", "nightly", "--json"))
    with SimulatedPacs() as pacs:
        world.text = (
            world.text.replace('["disk"]', '["disk", "pacs"]')
            + f"""
[destinations.pacs]
address = "dicom://{pacs.ae_title}@127.0.0.1:{pacs.port}"
"""
        )
        world.configure()
        # No PACS takes what is no data set.
        (world.source / "Zebedee cut.dcm").write_bytes(b"\0" * 128 + b"DICMQuintessential")
        assert run_dcmvault("run", "nightly").returncode == 3
    assert _events(world.hook) == ["run_started", "run_ok", "run_started", "run_incomplete"]
    told = json.loads(world.hook.taken[1].body)
    assert told["run"] == summary["run"]
    assert told["plan"] == "nightly"
    assert told["source"] == "library"
    assert told["instances"] == summary["instances"]
    ends = [one.path.partition("?")[0].rpartition("in-the-path")[2] for one in world.pings.taken]
    assert ends == ["/start", "", "/start", "/3"]
    good, bad = world.box.mails()
    assert good["Subject"] == "nightly: Todas as 4 cópias estão verificadas"
    assert "não alcançaram" in bad["Subject"]
    open_to_all = [
        *world.box.taken,
        *(
            part.get_content().encode()
            for mail in (good, bad)
            for part in mail.walk()
            if part.get_content_maintype() == "text"
        ),
        *(
            one.body + str(one.headers).encode() + one.path.encode()
            for service in (world.hook, world.pings)
            for one in service.taken
        ),
    ]
    assert len(open_to_all) >= 16
    for content in open_to_all:
        assert [name for name in CANARIES if name.encode() in content] == []
    # Where it is switched on, everything is told: the search would find it.
    (private,) = world.private.taken
    assert _events(world.private) == ["run_incomplete"]
    for name in ("Quintessential", "Zebedee", "ZQX-4711", "Hidden diagnosis", "canary-path"):
        assert name.encode() in private.body, name


def test_a_dead_channel_holds_neither_the_run_nor_the_others_and_is_told_later(
    run_dcmvault: RunDcmvault, world: World
) -> None:
    """What could not be said stays in the outbox, and is said once when somebody listens again."""
    world.hook.status = 503
    world.configure(f"""
[notifications.nowhere]
channel = "webhook"
url = "http://127.0.0.1:{closed_port()}/"
""")
    summary_of(run_dcmvault("run", "nightly", "--json"))
    assert len(world.box.taken) == 1
    assert len(world.pings.taken) == 2
    listed = json.loads(run_dcmvault("notify", "list", "--json").stdout)
    states = {one["name"]: one for one in listed["channels"]}
    assert (states["nowhere"]["sent"], states["nowhere"]["waiting"]) == (0, 2)
    assert states["nowhere"]["error"]["code"] == "notification_unreachable"
    assert (states["office"]["sent"], states["office"]["waiting"]) == (1, 0)


def test_who_is_refused_beside_others_is_told_and_tried_again_alone(
    run_dcmvault: RunDcmvault, world: World, home: Path
) -> None:
    """A mailbox that is full, one that is unknown, and one that gets the mail."""
    full, unknown = "full@example.org", "unknown@example.org"
    world.box.refused = {full: "452 full", unknown: "550 unknown"}
    others = f'["office@example.org", "{full}", "{unknown}"]'
    world.text = world.text.replace('["office@example.org"]', others)
    world.configure()
    summary_of(run_dcmvault("run", "nightly", "--json"))
    assert world.box.recipients == ["office@example.org"]
    (office,) = [
        one
        for one in json.loads(run_dcmvault("notify", "list", "--json").stdout)["channels"]
        if one["name"] == "office"
    ]
    assert (office["sent"], office["waiting"]) == (0, 1)
    assert office["error"]["code"] == "notification_partly_taken"
    assert full in office["error"]["message"]
    assert unknown in office["error"]["message"]
    assert f"{unknown} (550)" in run_dcmvault("status").stdout
    assert (
        f"✗ office  127.0.0.1 took the mail, but not for {full}"
        in run_dcmvault("notify", "test", "office").stdout
    )
    # Whom another attempt may reach gets it when there is room again; nobody gets it twice.
    world.box.refused = {}
    world.box.recipients.clear()
    catalogue = open_catalogue(str(home / "catalogue.sqlite3"))
    book = catalogue.notices
    later = datetime.now(UTC) + timedelta(hours=1)
    (waiting,) = book.take_due(later, later)
    assert waiting.recipients_left == (full,)
    book.settle(
        waiting.delivery_id, DeliveryState.WAITING, later, next_at=datetime.now(UTC), code="again"
    )
    catalogue.close()
    summary_of(run_dcmvault("verify", "library", "--at", "disk", "--json"))
    assert sorted(world.box.recipients) == [
        full,
        full,
        "office@example.org",
        unknown,
    ]


def test_who_is_refused_for_good_is_shown_and_the_others_are_told_once(
    run_dcmvault: RunDcmvault, world: World
) -> None:
    unknown = "unknown@example.org"
    world.box.refused = {unknown: "550 unknown"}
    world.text = world.text.replace(
        '["office@example.org"]', f'["office@example.org", "{unknown}"]'
    )
    world.configure()
    for _night in range(2):
        summary_of(run_dcmvault("run", "nightly", "--json"))
    assert world.box.recipients == ["office@example.org"] * 2
    status = run_dcmvault("status").stdout
    assert "Channels that do not tell everybody" in status
    assert f"{unknown} (550)" in status


def test_notify_test_says_for_each_channel_what_happened(
    run_dcmvault: RunDcmvault, world: World
) -> None:
    world.configure(f"""
[notifications.nowhere]
channel = "webhook"
url = "http://127.0.0.1:{closed_port()}/"
[notifications.push]
channel = "apprise"
service = "{write_secret(world.home, "push", "nonsense://token")}"
""")
    done = run_dcmvault("notify", "test")
    assert done.returncode == 5
    assert "✓ office" in done.stdout
    assert "✗ nowhere" in done.stdout
    assert "✗ push" in done.stdout
    assert len(world.box.taken) == len(world.hook.taken) == len(world.pings.taken) == 1
    one = run_dcmvault("notify", "test", "office", "--json")
    assert json.loads(one.stdout)["channels"][0]["ok"] is True
    assert run_dcmvault("notify", "test", "ofice").returncode == 2
    world.configure("""
[notifications.nobody-knows]
channel = "apprise"
service = "env:NOT_SET_ANYWHERE"
""")
    doctor = run_dcmvault("doctor")
    assert "✗ channel nobody-knows" in doctor.stdout
    assert "· channel office" in doctor.stdout
    assert PASSWORD not in doctor.stdout


def test_nobody_is_told_where_no_channel_is_configured(
    run_dcmvault: RunDcmvault, world: World, home: Path
) -> None:
    """And what happened then is not told later."""
    (home / "config.toml").write_text("")
    summary_of(run_dcmvault("backup", world.source, "--to", world.copies, "--json"))
    world.configure()
    assert run_dcmvault("verify", world.source, "--at", world.copies).returncode == 0
    assert _events(world.hook) == ["run_started", "run_ok"]
