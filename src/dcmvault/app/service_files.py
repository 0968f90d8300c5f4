"""What systemd and launchd read to run the daemon: a hardened unit, an agent's property list."""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from pathlib import Path

#: The file with variables for secrets (`env:NAME`), beside the configuration.
ENVIRONMENT_NAME = "environment"
#: Exit statuses that a restart does not mend: usage, configuration.
_HOPELESS = "2 4"
#: Ports that only root may listen on.
_PRIVILEGED = 1024

_UNIT = """\
[Unit]
Description=dcmvault backs up DICOM studies
{ordering}
[Service]
Type=exec
ExecStart={program}
ExecReload=/bin/kill -HUP $MAINPID
Environment={environment}
EnvironmentFile=-{environment_file}
{identity}Restart=on-failure
RestartSec=10
RestartPreventExitStatus={hopeless}
TimeoutStopSec=30
KillMode=mixed
{hardening}
[Install]
WantedBy={target}
"""
_ORDERING = """\
Wants=network-online.target
After=network-online.target
"""
#: What works in the unit of a user, too: no name spaces are needed for it.
_HARDENED = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""
#: What only the system's own systemd can do.
_HARDENED_SYSTEM = """\
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
PrivateDevices=yes
PrivateTmp=yes
RestrictNamespaces=yes
"""


def systemd_unit(
    program: Sequence[str], home: Path, *, user: str = "", ports: Sequence[int] = ()
) -> str:
    """Write the unit of a user's service, or of the system's where it runs as a `user`.

    `ports` are those that it listens on.
    """
    hardening = _HARDENED
    if user:
        is_privileged = any(0 < port < _PRIVILEGED for port in ports)
        capability = "CAP_NET_BIND_SERVICE" if is_privileged else ""
        hardening += f"{_HARDENED_SYSTEM}CapabilityBoundingSet={capability}\n"
        hardening += f"AmbientCapabilities={capability}\n"
    return _UNIT.format(
        ordering=_ORDERING if user else "",
        program=" ".join(_quoted(word.replace("$", "$$")) for word in program),
        environment=_quoted(f"DCMVAULT_HOME={home}"),
        environment_file=_escaped(str(home / ENVIRONMENT_NAME)),
        identity=f"User={user}\n" if user else "",
        hopeless=_HOPELESS,
        hardening=hardening,
        target="multi-user.target" if user else "default.target",
    )


def launchd_agent(label: str, program: Sequence[str], home: Path) -> str:
    """Write the property list of an agent, which runs while its user is logged in."""
    log = str(home / "logs" / "daemon.txt")
    agent = {
        "Label": label,
        "ProgramArguments": list(program),
        "EnvironmentVariables": {"DCMVAULT_HOME": str(home)},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 30,
        "ProcessType": "Background",
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    return plistlib.dumps(agent).decode("utf-8")


def _quoted(word: str) -> str:
    """Write a word of a command line or an assignment (systemd.syntax(7), “Quoting”)."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(c in escaped for c in " \t'\"\\;") else escaped


def _escaped(text: str) -> str:
    """Keep systemd from taking a % for a specifier."""
    return text.replace("%", "%%")
