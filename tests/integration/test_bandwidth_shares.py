"""Workers on one PostgreSQL share a limit: who uses it is written down there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from dcmvault.app.wiring.workplace import Workplace, open_workplace
from dcmvault.catalogue import open_catalogue
from dcmvault.catalogue.bandwidth import BandwidthInDatabase
from dcmvault.catalogue.tables import bandwidth_shares
from dcmvault.config.bandwidth import BandwidthSection
from dcmvault.config.settings import Settings
from dcmvault.model.bandwidth import RateTable
from dcmvault.model.job import Priority
from dcmvault.ports.pacing import Claim

pytestmark = pytest.mark.peers

LONG_S = 3600.0


@pytest.fixture
def shares(postgresql_url: str) -> Iterator[BandwidthInDatabase]:
    catalogue = open_catalogue(postgresql_url)
    assert isinstance(catalogue.bandwidth, BandwidthInDatabase)
    yield catalogue.bandwidth
    catalogue.close()


def test_holders_are_counted_by_limit(shares: BandwidthInDatabase) -> None:
    assert shares.claim("pacs", "a", LONG_S) == Claim(1, is_new=True)
    assert shares.claim("", "a", LONG_S) == Claim(1, is_new=True)
    assert shares.claim("pacs", "b", LONG_S) == Claim(2, is_new=True)
    assert shares.claim("pacs", "a", LONG_S) == Claim(2, is_new=False)
    assert shares.claim("disk", "b", LONG_S) == Claim(1, is_new=True)


def test_a_lease_that_ran_out_counts_no_more(shares: BandwidthInDatabase) -> None:
    shares.claim("pacs", "a", -0.001)
    assert shares.claim("pacs", "b", LONG_S) == Claim(1, is_new=True)
    assert shares.claim("pacs", "a", LONG_S) == Claim(2, is_new=True)


def test_what_is_given_back_counts_no_more(shares: BandwidthInDatabase) -> None:
    for limit in ("pacs", ""):
        shares.claim(limit, "a", LONG_S)
        shares.claim(limit, "b", LONG_S)
    shares.give_back("a")
    for limit in ("pacs", ""):
        assert shares.claim(limit, "b", LONG_S) == Claim(1, is_new=False)


def test_newcomers_at_one_moment_see_each_other(shares: BandwidthInDatabase) -> None:
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: shares.claim("pacs", f"h{n}", LONG_S), range(8)))
    assert sorted(claim.holders for claim in claims) == list(range(1, 9))
    assert all(claim.is_new for claim in claims)


def _rows(workplace: Workplace) -> list[tuple[str, str]]:
    with workplace.catalogue.database.read() as connection:
        query = sa.select(bandwidth_shares.c.limit_name, bandwidth_shares.c.holder)
        return [(row[0], row[1]) for row in connection.execute(query)]


def test_worker_processes_share_the_limits_of_a_configuration(
    postgresql_url: str, tmp_path: Path
) -> None:
    url = postgresql_url.replace("+psycopg", "")
    settings = Settings(database=url, bandwidth=BandwidthSection(rate="100 MB/s"))
    with (
        open_workplace(tmp_path / "one", settings) as one,
        open_workplace(tmp_path / "two", settings) as two,
    ):
        seen = []
        for workplace in (one, two):
            pacing = workplace.bandwidth.pacing("pacs", RateTable(50e6))
            assert pacing is not None
            pacing.pacer(Priority.NORMAL).take(1)
            seen.append(_rows(workplace))
            assert sorted(limit for limit, _holder in seen[-1]) == ["", "pacs"]
            workplace.bandwidth.give_back()
            assert _rows(workplace) == []
    holders = [{holder for _limit, holder in rows} for rows in seen]
    assert [len(some) for some in holders] == [1, 1]
    assert holders[0] != holders[1]


def test_an_embedded_catalogue_has_one_worker_and_nothing_to_share(tmp_path: Path) -> None:
    with open_workplace(tmp_path, Settings()) as workplace:
        assert workplace.catalogue.bandwidth is None
