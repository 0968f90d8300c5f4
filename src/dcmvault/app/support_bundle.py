"""What somebody who helps needs to know of an installation: a ZIP file without patient data."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from dcmvault.app.doctor import examine
from dcmvault.app.support_masks import (
    MASK,
    TextMasks,
    masked_address,
    masked_configuration,
    secret_values,
    words_of,
)
from dcmvault.app.vault_secrets import PASSPHRASE_VARIABLE
from dcmvault.app.wiring.workplace import known_catalogue
from dcmvault.config.effective import effective, shown
from dcmvault.config.load import load_settings
from dcmvault.config.private_files import put_private
from dcmvault.config.settings import Settings
from dcmvault.errors import DcmvaultError, UsageError
from dcmvault.i18n import gettext as _

#: Of each log, the newest bytes; and how many logs, the newest first.
_LOG_BYTES, _LOGS = 1 << 20, 3
_RUNS = 20
#: Runs of each schedule.
_SCHEDULED_RUNS = 5

_QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"|'[^']*'")

_README = """\
This is what `dcmvault support-bundle` found. It was written without patient data: texts of the
configuration are masked unless they are known to be harmless, addresses have no user, password or
path, and lines in which a patient of the catalogue is named are left out. UIDs, host names, AE
titles and the names that you gave to places are in it. Look through it before you pass it on:
these are text files.

about.json           program, platform, libraries
configuration.json   what is in force, masked
catalogue.json       how much there is, sizes of the databases, and the newest runs
schedules.json       what is due when, and how it went
doctor.json          what `dcmvault doctor` found
logs/                the newest lines of the logs
"""


@dataclass(frozen=True, slots=True)
class BundledFile:
    """One file of a bundle."""

    name: str
    text: str

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.text.encode())


def collect(home: Path, settings_path: Path) -> list[BundledFile]:
    """Look at everything, as `doctor` does, and mask it.

    What cannot be looked at is told in its place: a broken installation is when it is needed.
    """
    settings, problem = _settings(settings_path)
    masks = _masks(home, settings)
    parts: dict[str, Callable[[], object]] = {
        "about.json": lambda: _about(home),
        "configuration.json": lambda: problem or masked_configuration(shown(settings)),
        "catalogue.json": lambda: _catalogue(home, settings),
        "schedules.json": lambda: _schedules(home, settings),
        "doctor.json": lambda: _doctor(home, settings_path, quotes=problem is None),
    }
    files = [BundledFile("README.txt", _README)]
    for name, part in parts.items():
        try:
            found = part()
        except DcmvaultError as error:
            # Another part tells the rest; one that is broken must not hide the others.
            found = _told(error)
        files.append(BundledFile(name, masks.text(json.dumps(found, indent=2) + "\n")))
    return [*files, *_logs(home, masks)]


def write(files: list[BundledFile], path: Path) -> None:
    """Write them into a ZIP file of mode 0600; UsageError where there is something already."""
    if path.exists():
        raise UsageError(
            _("%(path)s is there already.") % {"path": path},
            hint=_("Choose another name with --output."),
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(file.name, file.text)
    try:
        put_private(path, packed.getvalue())
    except OSError as error:
        raise UsageError(
            _("%(path)s cannot be written: %(reason)s") % {"path": path, "reason": error.strerror}
        ) from error


def default_name(now: datetime) -> str:
    """Name a bundle by when it was made."""
    return f"dcmvault-support-{now.astimezone(UTC):%Y%m%d-%H%M%S}.zip"


def _settings(path: Path) -> tuple[Settings, Mapping[str, object] | None]:
    try:
        return load_settings(path), None
    except DcmvaultError as error:
        return Settings(), _told(error)


def _told(error: DcmvaultError) -> Mapping[str, object]:
    """Tell what went wrong: the sentence may quote what is in a file, so only its kind is told."""
    return {"error": error.code, "kind": type(error).__name__}


def _masks(home: Path, settings: Settings) -> TextMasks:
    found = {
        value
        for value in (*secret_values(effective(settings)), os.environ.get(PASSPHRASE_VARIABLE, ""))
        if value
    }
    patients: frozenset[str] = frozenset()
    try:
        with known_catalogue(home, settings) as catalogue:
            if catalogue is not None:
                patients = words_of(catalogue.patients.patients())
    except DcmvaultError:
        return TextMasks(home, frozenset(found))  # catalogue.json tells what is wrong with it
    return TextMasks(home, frozenset(found), patients)


def _about(home: Path) -> Mapping[str, object]:
    return {
        "dcmvault": version("dcmvault"),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": sys.platform,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": os.cpu_count(),
        "state_folder_free_bytes": shutil.disk_usage(home).free if home.exists() else None,
        "libraries": dict(sorted(_libraries())),
    }


def _libraries() -> Iterator[tuple[str, str]]:
    """Name what dcmvault requires, extras included, and which of it is here in what version."""
    for line in distribution("dcmvault").requires or ():
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "-"


def _catalogue(home: Path, settings: Settings) -> Mapping[str, object]:
    with known_catalogue(home, settings) as catalogue:
        if catalogue is None:
            return {"there": False}
        return {
            "there": True,
            "database": "sqlite" if catalogue.database.is_sqlite else "postgresql",
            "counts": dict(catalogue.status.counts()),
            "file_bytes": {
                path.name: path.stat().st_size for path in sorted(home.glob("*.sqlite3*"))
            },
            "runs": [
                {
                    "run": run.run_id,
                    "kind": run.request.kind.value,
                    "state": run.state.value,
                    "strategy": run.request.strategy.value,
                    "priority": run.request.priority.name.lower(),
                    "source": masked_address(run.request.source),
                    "destinations": len(run.request.destinations),
                    "created_at": _time(run.created_at),
                    "started_at": _time(run.started_at),
                    "finished_at": _time(run.finished_at),
                }
                for run in catalogue.runs.runs(limit=_RUNS)
            ],
        }


def _schedules(home: Path, settings: Settings) -> Mapping[str, object]:
    with known_catalogue(home, settings) as catalogue:
        remembered = {} if catalogue is None else catalogue.schedules.schedules()
        found: dict[str, object] = {}
        for name in sorted({*settings.schedules, *remembered}):
            state = remembered.get(name)
            runs = [] if catalogue is None else catalogue.schedules.last_runs(name, _SCHEDULED_RUNS)
            found[masked_address(name)] = {
                "configured": name in settings.schedules,
                "enabled": None if state is None else state.enabled,
                "next_at": _time(state.next_at if state else None),
                "last_due_at": _time(state.last_due_at if state else None),
                "waiting_since": _time(state.waiting_since if state else None),
                "runs": [
                    {
                        "run": run.run_id,
                        "due_at": _time(run.due_at),
                        "settled": run.settled,
                        "could_begin": not run.problem,
                    }
                    for run in runs
                ],
            }
        return found


def _doctor(home: Path, settings_path: Path, *, quotes: bool) -> list[Mapping[str, object]]:
    """Tell what doctor found; without quotations where the configuration could not be read.

    What is wrong in a configuration may be a secret in the wrong place.
    """
    found: list[Mapping[str, object]] = []
    for check in examine(home, settings_path):
        detail, hint = check.detail, check.hint
        if not quotes:
            detail, hint = (_QUOTED.sub(f"“{MASK}”", text) for text in (detail, hint))
        found.append({"name": check.name, "ok": check.ok, "detail": detail, "hint": hint})
    return found


def _logs(home: Path, masks: TextMasks) -> Iterator[BundledFile]:
    folder = home / "logs"
    # The daemon's own output is not among them: it shows links and tokens, once.
    for number in range(_LOGS):
        name = "dcmvault.log" + (f".{number}" if number else "")
        try:
            with (folder / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
                text = file.read(_LOG_BYTES).decode("utf-8", errors="replace")
        except OSError:
            continue
        yield BundledFile(f"logs/{name}", masks.text(text))


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
