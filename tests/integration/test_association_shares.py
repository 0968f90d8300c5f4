"""Workers on one PostgreSQL share the associations of a destination."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dcmvault.catalogue import open_catalogue
from dcmvault.catalogue.association_shares import AssociationsInDatabase
from dcmvault.catalogue.worker_tables import association_shares

pytestmark = pytest.mark.peers


@pytest.fixture
def shares(postgresql_url: str) -> Iterator[AssociationsInDatabase]:
    catalogue = open_catalogue(postgresql_url)
    assert isinstance(catalogue.associations, AssociationsInDatabase)
    yield catalogue.associations
    catalogue.close()


def _age(shares: AssociationsInDatabase, seconds: float) -> None:
    """Let so much time have passed since all shares were claimed."""
    with shares.database.write() as connection:
        for row in connection.execute(sa.select(association_shares)).all():
            connection.execute(
                sa.update(association_shares)
                .where(association_shares.c.holder == row.holder)
                .values(
                    leased_until=row.leased_until - timedelta(seconds=seconds),
                    usable_from=row.usable_from - timedelta(seconds=seconds),
                )
            )


def test_one_worker_has_them_all_and_two_have_half_each(shares: AssociationsInDatabase) -> None:
    assert shares.claim("pacs", "a", 0, 4) == 4
    # A newcomer gets what the other gives up, when that has given it up.
    assert shares.claim("pacs", "b", 0, 4) == 0
    assert shares.claim("pacs", "a", 4, 4) == 2
    assert shares.claim("pacs", "b", 0, 4) == 0
    assert shares.claim("pacs", "a", 3, 4) == 2
    assert shares.claim("pacs", "b", 0, 4) == 1
    assert shares.claim("pacs", "a", 2, 4) == 2
    assert shares.claim("pacs", "b", 1, 4) == 2
    assert shares.claim("other", "b", 0, 4) == 4


def test_there_may_be_more_workers_than_associations(shares: AssociationsInDatabase) -> None:
    granted = {name: shares.claim("pacs", name, 0, 2) for name in "abc"}
    for _ in range(3):
        granted = {name: shares.claim("pacs", name, granted[name], 2) for name in "abc"}
    assert sum(granted.values()) == 2


def test_what_is_given_back_is_free_at_once(shares: AssociationsInDatabase) -> None:
    shares.claim("pacs", "a", 0, 3)
    shares.give_back("a", "pacs")
    assert shares.claim("pacs", "b", 0, 3) == 3


def test_a_share_that_ran_out_lately_is_waited_for(shares: AssociationsInDatabase) -> None:
    """The server was away: whoever comes first must not have what others still use."""
    shares.claim("pacs", "a", 0, 4)
    shares.claim("pacs", "b", 0, 4)
    shares.claim("pacs", "a", 2, 4)
    shares.claim("pacs", "b", 2, 4)
    _age(shares, 30)
    assert shares.claim("pacs", "a", 0, 4) == 0
    assert shares.claim("pacs", "b", 2, 4) == 2
    _age(shares, 9.9)
    assert shares.claim("pacs", "b", 2, 4) == 2
    assert shares.claim("pacs", "a", 0, 4) == 0
    _age(shares, 5)
    assert shares.claim("pacs", "a", 0, 4) == 2


def test_a_share_of_long_ago_is_nobodys(shares: AssociationsInDatabase) -> None:
    shares.claim("pacs", "a", 0, 4)
    _age(shares, 3600)
    assert shares.claim("pacs", "b", 0, 4) == 4
