"""Schedules and windows in the configuration: what they mean, and what is said of errors."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dcmvault.config.effective import effective
from dcmvault.config.load import load_settings
from dcmvault.config.time_zones import local_zone
from dcmvault.config.window_rates import rate_table
from dcmvault.errors import ConfigurationError
from dcmvault.pipeline.scheduling import next_due

_PLANS = """
[destinations.disk]
address = "/backup"
[destinations.disk.bandwidth]
rate = "9 MB/s"
windows = [{days = "sun", from = "00:00", to = "24:00", rate = "unlimited"}]
[plans.nightly]
sources = ["/studies"]
destinations = ["disk"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def _refused(config: Path, text: str) -> str:
    config.write_text(_PLANS + text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config)
    return caught.value.message


def test_a_schedule_and_its_window(config: Path) -> None:
    """Times, zone and hours are read."""
    config.write_text(
        _PLANS
        + """
[schedules.nightly]
plan = "nightly"
cron = "30 2 * * mon-fri"
time_zone = "America/Sao_Paulo"
window = "office"
[windows.office]
time_zone = "America/Sao_Paulo"
closed = [{days = "mon-fri", from = "08:00", to = "18:00"}]
open = [{days = "mon-sun", from = "20:00", to = "12:00"}]
rates = [{days = "sat,sun", from = "08:00", to = "18:00", rate = "1 MB/s"}]
""",
        "utf-8",
    )
    settings = load_settings(config)
    trigger = settings.schedules["nightly"].trigger
    friday = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert next_due(trigger, friday) == datetime(2026, 11, 30, 5, 30, tzinfo=UTC)
    table = settings.windows["office"].table
    zone = ZoneInfo("America/Sao_Paulo")
    for hour, is_open in ((7, True), (8, False), (17, False), (18, False), (20, True), (23, True)):
        assert table.is_open(datetime(2026, 11, 27, hour, tzinfo=zone)) is is_open, hour
    assert table.is_open(datetime(2026, 11, 28, 9, tzinfo=zone))
    assert not table.is_open(datetime(2026, 11, 28, 13, tzinfo=zone))
    rates = rate_table(settings, settings.destination("disk").section)
    assert rates.rate_at(datetime(2026, 11, 27, 9)) == 9e6  # noqa: DTZ001 - local
    assert rates.rate_at(datetime(2026, 11, 28, 9)) == 1e6  # noqa: DTZ001 - local
    assert rates.rate_at(datetime(2026, 11, 29, 9)) is None  # noqa: DTZ001 - the destination's own
    shown = effective(settings)
    assert isinstance(shown["windows"], dict)
    assert shown["windows"]["office"]["closed"][0]["from"] == "08:00"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[schedules.n]\nplan = "nightyl"\ncron = "@daily"', 11, "schedules.n.plan.*“nightly”"),
        ('[schedules.n]\nplan = "nightly"', 10, "schedules.n: .*“cron” or “every”"),
        ('[schedules.n]\nplan = "nightly"\ncron = "0 25 * * *"', 12, "cron.*“hour”, “25”"),
        ('[schedules.n]\nplan = "nightly"\nevery = "fortnight"', 12, "every.*“6h”"),
        (
            '[schedules.n]\nplan = "nightly"\ncron = "@daily"\ntime_zone = "Europe/Berlim"',
            13,
            "time_zone.*Europe/Berlin",
        ),
        (
            '[schedules.n]\nplan = "nightly"\ncron = "@daily"\nwindow = "ofice"\n[windows.office]',
            13,
            "window.*“office”",
        ),
        ('[schedules.n]\nplan = "nightly"\ncrom = "@daily"', 12, "n.crom: There is no.*“cron”"),
        ('[schedules.n]\nplan = "nightly"\ncron = "@daily"\nmax_studies = -1', 13, "at least 0"),
        (
            '[schedules.n]\nplan = "nightly"\ncron = "@daily"\nstrategy = "ful"',
            13,
            "strategy: Write one of: full",
        ),
        ('[windows.w]\nclosed = [{from = "8:00", to = "18:00"}]', 11, "closed.0.from.*“07:30”"),
        ('[windows.w]\nclosed = [{form = "08:00", to = "18:00"}]', 11, "form.*“from”"),
        ('[windows.w]\nrates = [{from = "08:00", to = "18:00"}]', 11, "rates.0.rate.*needed"),
        ("[windows.suggested]", 10, "windows.suggested.*another name"),
        ('windows = "office"', 10, "windows"),
    ],
)
def test_errors_point_to_line_and_key(config: Path, text: str, line: int, says: str) -> None:
    """And say what is meant."""
    import re

    message = _refused(config, text)
    assert re.search(says, message), message
    if "windows = " not in text:
        assert f"line {line}," in message


def test_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """TZ first; one that is none is passed over."""
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    assert local_zone() == ZoneInfo("America/Sao_Paulo")
    monkeypatch.setenv("TZ", "Nowhere/Land")
    assert datetime.now(local_zone()).utcoffset() is not None
