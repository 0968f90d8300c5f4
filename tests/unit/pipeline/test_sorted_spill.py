"""Rows sorted on disk: whatever the keys and the parts, in order and whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dcmvault.pipeline.sorted_spill import SortedSpill

KEYS = st.text(alphabet="0123456789.", max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEYS, st.text(max_size=5))), st.integers(1, 4))
def test_rows_come_back_in_order_of_their_keys(rows: list[tuple[str, str]], at_once: int) -> None:
    with SortedSpill(at_once) as spill:
        for key, value in rows:
            spill.add(key, [value])
        assert spill.count == len(rows)
        for _again in range(2):
            found = [(key, str(row[0])) for key, row in spill.rows()]
            assert sorted(found) == sorted(rows)
            assert [key for key, _value in found] == sorted(key for key, _value in rows)


def test_keys_that_no_uid_has_stay_one_key_each() -> None:
    with SortedSpill(1) as spill:
        for key in ("1.2", "1.2 3", "1.2\n4", "1.2é", "1.2\ud800"):
            spill.add(key, [key])
        keys = [key for key, _row in spill.rows()]
    assert len(set(keys)) == len(keys) == 5
