"""The profile `auto` gives a slow place more effort and a fast one less."""

from __future__ import annotations

import pytest

from dcmvault.vault.effort import EffortGauge
from dcmvault.vault.profile import DEFAULT_PROFILE, PROFILES

MB = 1_000_000


def measured(store_rate: float, encode_rate: float = 100 * MB) -> EffortGauge:
    gauge = EffortGauge(cores=2)
    gauge.stored(64 * MB, 64 * MB / store_rate)
    gauge.encoded(PROFILES["fast"], 64 * MB, 64 * MB / encode_rate)
    return gauge


def test_nothing_is_concluded_from_too_little() -> None:
    gauge = EffortGauge(cores=2)
    assert gauge.profile() is DEFAULT_PROFILE
    gauge.stored(1000, 10.0)
    gauge.encoded(PROFILES["fast"], 64 * MB, 1.0)
    assert gauge.profile() is DEFAULT_PROFILE


@pytest.mark.parametrize(
    ("store_rate", "name"),
    [(1 * MB, "archive"), (5 * MB, "small"), (15 * MB, "balanced"), (500 * MB, "fast")],
)
def test_the_slower_the_place_the_more_effort(store_rate: float, name: str) -> None:
    assert measured(store_rate).profile().name == name


def test_rates_are_comparable_whatever_profile_they_were_measured_under() -> None:
    gauge = EffortGauge(cores=2)
    gauge.stored(64 * MB, 64.0 / 5)
    gauge.encoded(PROFILES["archive"], 64 * MB, 64 / 100 * 112 / 6)
    assert gauge.profile().name == "small"


def test_a_network_that_becomes_fast_is_noticed() -> None:
    gauge = measured(1 * MB)
    for _ in range(40):
        gauge.stored(64 * MB, 64 / 500)
    assert gauge.profile().name in ("fast", "balanced")
