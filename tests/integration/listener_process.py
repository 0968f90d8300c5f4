"""A listener as a process of its own, to be watched and killed: `... FOLDER`.

Writes one line `{"port": ...}` to stdout and serves until it is ended.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from tests.integration.listener_world import receiving


def main() -> None:
    with receiving(
        Path(sys.argv[1]), max_associations=32, max_associations_per_peer=32
    ) as listener:
        sys.stdout.write(json.dumps({"port": listener.port}) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
