"""The daemon as a service of this machine: written, begun, removed, looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dcmvault.app.api_token import make_token
from dcmvault.app.service_files import launchd_agent, systemd_unit
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.config.settings import Settings
from dcmvault.errors import StateError, UsageError
from dcmvault.i18n import gettext as _

_UNIT = "dcmvault.service"
_LABEL = "org.dcmvault.daemon"
#: Seconds that systemctl and launchctl may take.
_PATIENCE_S = 60
#: Where a service of the system keeps its state, unless DCMVAULT_HOME says otherwise.
SYSTEM_HOME = Path("/var/lib/dcmvault")


@dataclass(frozen=True, slots=True)
class Service:
    """What makes the daemon a service: a file, and what is run after it is written or removed."""

    path: Path
    content: str
    install: tuple[tuple[str, ...], ...]
    uninstall: tuple[tuple[str, ...], ...]
    #: Run after the file was removed.
    after_removal: tuple[tuple[str, ...], ...]
    status: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Whether it is installed, and what the system says of it."""

    path: Path
    installed: bool
    running: bool
    #: In the words of systemctl or launchctl.
    told: str


def service(settings: Settings, home: Path, *, is_system: bool, user: str) -> Service:
    """Describe the service on this machine: of this user, or of the system as a `user`.

    UsageError where this kind of machine knows no such service.
    """
    if is_system and not user:
        raise UsageError(
            _("A service of the system needs the user that it runs as."),
            hint=_("Name one who may read the sources: --system --user NAME"),
        )
    if user and not is_system:
        raise UsageError(_("--user goes with --system only."))
    if sys.platform == "darwin":
        if is_system:
            raise UsageError(_("On macOS the daemon is an agent of a user, not of the system."))
        return _launchd(home)
    if not sys.platform.startswith("linux"):
        raise UsageError(_("Services are known for Linux (systemd) and macOS (launchd)."))
    ports = [settings.web.port, settings.listener.port]
    return _systemd(home, user, ports)


def _program() -> list[str]:
    script = Path(sys.executable).with_name("dcmvault")
    if script.exists():
        return [str(script), "serve"]
    return [sys.executable, "-m", "dcmvault", "serve"]


def _systemd(home: Path, user: str, ports: Sequence[int]) -> Service:
    systemctl: tuple[str, ...]
    if user:
        folder, systemctl = Path("/etc/systemd/system"), ("systemctl",)
    else:
        configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        folder, systemctl = Path(configuration) / "systemd" / "user", ("systemctl", "--user")
    return Service(
        path=folder / _UNIT,
        content=systemd_unit(_program(), home, user=user, ports=ports),
        install=((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", _UNIT)),
        uninstall=((*systemctl, "disable", "--now", _UNIT),),
        after_removal=((*systemctl, "daemon-reload"),),
        status=(*systemctl, "is-active", _UNIT),
    )


def _launchd(home: Path) -> Service:
    path = Path.home() / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    domain = f"gui/{os.getuid()}"
    return Service(
        path=path,
        content=launchd_agent(_LABEL, _program(), home),
        install=(("launchctl", "bootstrap", domain, str(path)),),
        uninstall=(("launchctl", "bootout", f"{domain}/{_LABEL}"),),
        after_removal=(),
        status=("launchctl", "print", f"{domain}/{_LABEL}"),
    )


def write(one: Service, home: Path, *, is_own: bool) -> str:
    """Write the service's file; return the API's token if it was made just now.

    So the token is shown here, and not in the journal of the system. A state folder that is not
    one's own is left alone. StateError where the file cannot be written.
    """
    try:
        one.path.parent.mkdir(parents=True, exist_ok=True)
        one.path.write_text(one.content, "utf-8")
    except OSError as error:
        raise StateError(
            _("The service cannot be written: %s.") % error.strerror, hint=str(one.path)
        ) from error
    if not is_own:
        return ""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "logs").mkdir(mode=0o700, exist_ok=True)
    return make_token(home, SystemClock().now())


def begin(one: Service) -> None:
    """Start the service, and have it started from now on. StateError where the system refuses."""
    _run_all(one.install)


def uninstall(one: Service) -> bool:
    """Stop the service and remove its file; False if there is none. State and copies stay."""
    if not one.path.exists():
        return False
    _run_all(one.uninstall)
    try:
        one.path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(
            _("The service cannot be removed: %s.") % error.strerror, hint=str(one.path)
        ) from error
    _run_all(one.after_removal)
    return True


def state(one: Service) -> ServiceState:
    """Ask the system how the service is."""
    installed = one.path.exists()
    done = _run(one.status)
    running = installed and done is not None and done.returncode == 0
    told = (done.stdout.strip().splitlines() or [""])[0] if done is not None else ""
    return ServiceState(one.path, installed, running, told)


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        done = _run(command)
        if done is None or done.returncode:
            said = done.stderr.strip().splitlines()[-1:] if done is not None else []
            raise StateError(_("The system refused: %s") % " ".join(command), hint=" ".join(said))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
