"""The real peers: Orthanc, DCMTK, PostgreSQL and OpenSSH with temporary storage.

Standard library only. Each starter is a context manager: it yields a peer that answers, and
leaves neither process nor file behind. HTTP, PostgreSQL and SSH listen on 127.0.0.1 only; neither
Orthanc nor DCMTK can bind its DICOM port to one interface, so those ports are open to the network
while a peer runs (as ever with DICOM, do not run tests on a hostile network).
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scripts.peer_clouds import azurite, gcs_server, s3_server
from scripts.peer_launch import (
    HOST,
    Peer,
    free_port,
    hand_over,
    run_command,
    run_peer,
    unprivileged_user,
    wait_until,
)
from scripts.peer_packages import (
    find_orthanc_plugin,
    find_postgresql_folder,
    find_program,
    require,
)
from scripts.peer_syslog import rsyslog

#: An opener that ignores proxies: every peer is on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class DicomPeer(Peer):
    """A DICOM peer; `storage` is the folder where it writes what it receives."""

    ae_title: str = ""

    @property
    def address(self) -> str:
        """The address as dcmvault takes it."""
        return f"dicom://{self.ae_title}@{self.host}:{self.port}"

    @property
    def dicom_port(self) -> int:
        """The port of its DICOM listener."""
        return self.port

    @property
    def storage(self) -> Path:
        """Where received files are."""
        return self.folder / "storage"


@dataclass(frozen=True)
class Orthanc(DicomPeer):
    """A running Orthanc. Its REST interface is the tests' witness from outside the product."""

    http_port: int = 0

    @property
    def http_url(self) -> str:
        """The root of its REST interface, without a slash at the end."""
        return f"http://{self.host}:{self.http_port}"

    def rest(self, path: str, *, method: str = "GET", body: object = None) -> Any:
        """Ask the REST interface; return the decoded JSON answer (None if there is none)."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.http_url}{path}", data=data, method=method)
        with _DIRECT.open(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def statistics(self) -> dict[str, Any]:
        """Return `/statistics`: CountInstances, CountSeries, CountStudies, TotalDiskSizeMB ..."""
        statistics: dict[str, Any] = self.rest("/statistics")
        return statistics

    def instances(self) -> list[str]:
        """List the SOP Instance UIDs that it holds, sorted."""
        held = self.rest("/instances?expand")
        return sorted(instance["MainDicomTags"]["SOPInstanceUID"] for instance in held)

    def file(self, sop_instance_uid: str) -> bytes:
        """Return the stored Part 10 file of an instance; KeyError if it is not there."""
        return self._file(self._id(sop_instance_uid))

    def files(self, sop_instance_uid: str) -> list[bytes]:
        """Return all that is stored under a UID: one for each patient, study and series."""
        return [self._file(identifier) for identifier in self._ids(sop_instance_uid)]

    def store(self, file: bytes) -> str:
        """Store a Part 10 file over REST; return Orthanc's identifier of the instance."""
        url = f"{self.http_url}/instances"
        request = urllib.request.Request(url, data=file, method="POST")
        with _DIRECT.open(request, timeout=30) as answer:
            return str(json.loads(answer.read())["ID"])

    def delete(self, sop_instance_uid: str) -> None:
        """Lose an instance; KeyError if it is not there."""
        self.rest(f"/instances/{self._id(sop_instance_uid)}", method="DELETE")

    def wipe(self) -> None:
        """Lose everything."""
        for patient in self.rest("/patients"):
            self.rest(f"/patients/{patient}", method="DELETE")

    def _id(self, sop_instance_uid: str) -> str:
        found = self._ids(sop_instance_uid)
        if not found:
            raise KeyError(sop_instance_uid)
        return found[0]

    def _ids(self, sop_instance_uid: str) -> list[str]:
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        return [str(found) for found in self.rest("/tools/find", method="POST", body=query)]

    def _file(self, identifier: str) -> bytes:
        with _DIRECT.open(f"{self.http_url}/instances/{identifier}/file", timeout=30) as answer:
            stored: bytes = answer.read()
        return stored


@dataclass(frozen=True)
class PostgreSQL(Peer):
    """A running PostgreSQL with one superuser."""

    user: str = "dcmvault"
    password: str = ""

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database for SQLAlchemy with psycopg."""
        return (
            f"postgresql+psycopg://{self.user}:{self.password}@{self.host}:{self.port}/{database}"
        )

    @property
    def address(self) -> str:
        """The URL of the database that is always there."""
        return self.url()


@dataclass(frozen=True)
class Sshd(Peer):
    """A running OpenSSH with SFTP; one key may enter as the user who started it."""

    user: str = ""

    @property
    def address(self) -> str:
        """The address as an SFTP client takes it."""
        return f"sftp://{self.user}@{self.host}:{self.port}"

    @property
    def private_key(self) -> Path:
        """The key that may enter, without a passphrase."""
        return self.folder / "client_key"

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file that names this peer's host key."""
        return self.folder / "known_hosts"

    @property
    def storage(self) -> Path:
        """An empty folder to put things in."""
        return self.folder / "storage"


@contextmanager
def orthanc(*, no_delay: bool = True, **settings: object) -> Iterator[Orthanc]:
    """Run Orthanc, with the DICOMweb plug-in where it is installed.

    `settings` overrides keys of its configuration file, e.g. `DicomModalities`. DCMTK, which it is
    built on, leaves Nagle's algorithm on unless told otherwise (`no_delay`): 40 ms an instance.
    """
    program = require(find_program("Orthanc"), "orthanc")
    plugin = find_orthanc_plugin("OrthancDicomWeb")

    def prepare(folder: Path, port: int) -> list[str]:
        (folder / "storage").mkdir(exist_ok=True)
        configuration: dict[str, object] = {
            "Name": "dcmvault test peer",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "TemporaryDirectory": str(folder),
            "DicomAet": "ORTHANC",
            "DicomPort": port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "HttpPort": http_ports[port],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OrthancExplorerEnabled": False,
            "WebDavEnabled": False,
            "Plugins": [str(plugin)] if plugin else [],
            **settings,
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration, indent=2), encoding="utf-8")
        return [str(program), str(folder / "orthanc.json")]

    http_ports = _PortPairs()
    environment = {"TCP_NODELAY": "1"} if no_delay else {}
    # Killed, because asking it to end takes seconds and its storage goes anyway.
    with run_peer("orthanc", prepare, environment=environment, stop_signal=signal.SIGKILL) as (
        process,
        folder,
        port,
    ):
        peer = Orthanc(process, folder, port, ae_title="ORTHANC", http_port=http_ports[port])
        wait_until("orthanc", peer, lambda: _answers_http(f"{peer.http_url}/system"))
        yield peer


class _PortPairs(dict[int, int]):
    """For each port, another one beside it."""

    def __missing__(self, port: int) -> int:
        other = free_port()
        self[port] = other
        return other


def _answers_http(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 401  # it answers, and wants to know who asks
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def storescp(*options: str) -> Iterator[DicomPeer]:
    """Run DCMTK's storescp: it stores what it is sent, and nothing can be asked of it."""
    program = require(find_program("storescp"), "dcmtk")

    def prepare(folder: Path, port: int) -> list[str]:
        (folder / "storage").mkdir(exist_ok=True)
        return [
            *(str(program), "--fork", "--accept-all", "--promiscuous", "--aetitle", "STORESCP"),
            *("--output-directory", str(folder / "storage"), *options, str(port)),
        ]

    with run_peer("storescp", prepare, environment={"TCP_NODELAY": "1"}) as (process, folder, port):
        yield DicomPeer(process, folder, port, ae_title="STORESCP")


@contextmanager
def dcmqrscp(
    *options: str, move_to: Mapping[str, int] = MappingProxyType({})
) -> Iterator[DicomPeer]:
    """Run DCMTK's dcmqrscp: a small archive with C-STORE, C-FIND, C-GET and C-MOVE.

    `move_to` are ports of this machine by AE titles.
    """
    hosts = "".join(f"{name} = ({name}, 127.0.0.1, {port})\n" for name, port in move_to.items())
    program = require(find_program("dcmqrscp"), "dcmtk")

    def prepare(folder: Path, port: int) -> list[str]:
        (folder / "storage").mkdir(exist_ok=True)
        (folder / "dcmqrscp.cfg").write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nDCMQRSCP {folder / 'storage'} RW (2000, 4096mb) ANY\nAETable END\n",
            encoding="utf-8",
        )
        return [str(program), "--config", str(folder / "dcmqrscp.cfg"), *options]

    with run_peer("dcmqrscp", prepare, environment={"TCP_NODELAY": "1"}) as (process, folder, port):
        yield DicomPeer(process, folder, port, ae_title="DCMQRSCP")


@contextmanager
def postgresql(also_on: str = "") -> Iterator[PostgreSQL]:
    """Run PostgreSQL, as an unprivileged user when we are root (it refuses to run as root).

    It listens on one more address, for hosts of the same networks, where one is named.
    """
    programs = require(find_postgresql_folder(), "postgresql")
    user = unprivileged_user()
    password = secrets.token_urlsafe(16)

    def prepare(folder: Path, port: int) -> list[str]:
        data = folder / "storage"
        if not data.exists():
            secret = folder / "password"
            secret.write_text(password, encoding="ascii")
            hand_over(folder, user)
            run_command(
                [
                    *(str(programs / "initdb"), "--no-sync", "-D", str(data), "-U", "dcmvault"),
                    *("-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8"),
                    "--locale=C",
                ],
                user=user,
                folder=folder,
            )
            with (data / "pg_hba.conf").open("a", encoding="ascii") as rules:
                rules.write("host all all samenet scram-sha-256\n")
        hosts = f"{HOST},{also_on}" if also_on else HOST
        return [
            *(str(programs / "postgres"), "-D", str(data), "-h", hosts, "-p", str(port)),
            # Storage dies with the peer: what is tested is our process's crash, not this one's.
            *("-c", "fsync=off", "-c", "unix_socket_directories=", "-c", "max_connections=100"),
        ]

    # SIGINT is PostgreSQL's "fast" shutdown; SIGTERM would wait for clients to leave.
    with run_peer("postgresql", prepare, user=user, stop_signal=signal.SIGINT) as (
        process,
        folder,
        port,
    ):
        peer = PostgreSQL(process, folder, port, password=password)
        wait_until("postgresql", peer, lambda: "ready to accept connections" in peer.log)
        yield peer


@contextmanager
def sshd() -> Iterator[Sshd]:
    """Run OpenSSH's sshd with SFTP inside, for this user and one fresh key."""
    program = require(find_program("sshd"), "openssh-server")
    keygen = require(find_program("ssh-keygen"), "openssh-client")
    user = pwd.getpwuid(os.geteuid()).pw_name
    # Without PAM, sshd refuses an account without a password (Ubuntu's root) even by key.
    use_pam = "yes" if _is_locked(user) else "no"
    if os.geteuid() == 0:
        # sshd as root insists on its empty folder, which its service would have made.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def prepare(folder: Path, port: int) -> list[str]:
        (folder / "storage").mkdir(exist_ok=True)
        for key in ("host_key", "client_key"):
            if not (folder / key).exists():
                run_command(
                    [str(keygen), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)],
                    folder=folder,
                )
        host_key = (folder / "host_key.pub").read_text(encoding="ascii")
        known_hosts = f"[{HOST}]:{port} {host_key}"
        (folder / "known_hosts").write_text(known_hosts, encoding="ascii")
        (folder / "sshd_config").write_text(
            f"ListenAddress {HOST}:{port}\nHostKey {folder / 'host_key'}\n"
            f"AuthorizedKeysFile {folder / 'client_key.pub'}\nAllowUsers {user}\n"
            f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM {use_pam}\n"
            "KbdInteractiveAuthentication no\nStrictModes no\nMaxStartups 100\n"
            f"PidFile {folder / 'pid'}\nSubsystem sftp internal-sftp\n",
            encoding="utf-8",
        )
        return [str(program), "-D", "-e", "-f", str(folder / "sshd_config")]

    with run_peer("sshd", prepare) as (process, folder, port):
        yield Sshd(process, folder, port, user=user)


def _is_locked(user: str) -> bool:
    """Say whether the account's password is locked; only root can know, for others it is not."""
    try:
        shadow = Path("/etc/shadow").read_text(encoding="utf-8")
    except PermissionError:
        return False
    return any(line.startswith(f"{user}:!") for line in shadow.splitlines())


#: What `scripts/peers start` can start.
STARTERS: Mapping[str, Callable[[], AbstractContextManager[Peer]]] = {
    "orthanc": orthanc,
    "storescp": storescp,
    "dcmqrscp": dcmqrscp,
    "postgresql": postgresql,
    "sshd": sshd,
    "s3": s3_server,
    "azurite": azurite,
    "gcs": gcs_server,
    "rsyslog": rsyslog,
}
