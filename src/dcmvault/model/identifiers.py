"""Names of things: what the catalogue, the queue and the network call them."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import NewType

RunId = NewType("RunId", str)
JobId = NewType("JobId", str)
#: Catalogue keys; meaningless outside one state folder.
SourceId = NewType("SourceId", int)
DestinationId = NewType("DestinationId", int)
VersionId = NewType("VersionId", int)

#: PS3.5 section 9.1: at most 64 characters, components of digits without leading zeros.
_UID = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+\Z")


def is_valid_uid(text: str) -> bool:
    """Say whether `text` is a UID by PS3.5 section 9.1."""
    return len(text) <= 64 and _UID.match(text) is not None


def new_run_id(now: datetime) -> RunId:
    """Make a run's name, sortable by start: `20260131-020000-9f3c61d2`."""
    return RunId(f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}")
