"""What comes back because we asked for it: limits that hold by whatever way it comes."""

from __future__ import annotations

import pytest

from dcmvault.dicom.returning import Returning, WantedInstance
from dcmvault.errors import AssociationLostError


def test_bytes_that_drop_in_one_by_one_come_to_an_end() -> None:
    """Over HTTP every wait has an end, and there may be as many waits as there are bytes."""
    wanted = [WantedInstance("1.2.3", 1000)]
    returning = Returning(wanted, lambda _uid, file: file.close())
    returning.needs(1)
    returning.longest_s = 0.0
    with pytest.raises(AssociationLostError, match="did not come within"):
        returning.needs(1)
