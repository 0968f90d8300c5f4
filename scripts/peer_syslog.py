"""rsyslog on loopback as a collector of audit messages: over TLS, TCP and UDP.

Standard library only. Each message that it takes is a line of `storage/messages`, as it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.peer_launch import HOST, Peer, free_port, run_command, run_peer
from scripts.peer_packages import find_program, find_rsyslog_module, require

_CONFIGURATION = """
global(
  workDirectory="{folder}"
  maxMessageSize="1m"
  parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriverCAFile="{folder}/cert.pem"
  defaultNetstreamDriverCertFile="{folder}/cert.pem"
  defaultNetstreamDriverKeyFile="{folder}/key.pem"
)
module(load="imudp")
module(
  load="imtcp" streamDriver.name="ossl" streamDriver.mode="{mode}" streamDriver.authMode="anon"
)
template(name="raw" type="string" string="%rawmsg%\\n")
ruleset(name="keep") {{
  action(type="omfile" file="{folder}/storage/messages" template="raw")
}}
input(type="imtcp" address="{host}" port="{port}" ruleset="keep")
input(type="imudp" address="{host}" port="{udp}" ruleset="keep")
"""


@dataclass(frozen=True)
class Syslog(Peer):
    """A running rsyslog. `port` speaks TLS or plain TCP, as it was started; `udp_port` UDP."""

    udp_port: int = 0

    @property
    def certificate(self) -> Path:
        """Its certificate, which signs itself."""
        return self.folder / "cert.pem"

    def messages(self) -> list[str]:
        """List what it took so far, in order."""
        try:
            kept = (self.folder / "storage" / "messages").read_text("utf-8")
        except FileNotFoundError:
            return []
        return kept.splitlines()


@contextmanager
def rsyslog(*, tls: bool = True) -> Iterator[Syslog]:
    """Run rsyslog with a configuration of its own."""
    program = require(find_program("rsyslogd"), "rsyslog")
    require(find_rsyslog_module("lmnsd_ossl"), "rsyslog-openssl")
    udp = free_port()

    def prepare(folder: Path, port: int) -> list[str]:
        (folder / "storage").mkdir(exist_ok=True)
        if not (folder / "cert.pem").exists():
            run_command(
                [
                    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                    *("-subj", "/CN=collector", "-addext", f"subjectAltName=IP:{HOST}"),
                    *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
                ],
                folder=folder,
            )
        told = _CONFIGURATION.format(
            folder=folder, host=HOST, port=port, udp=udp, mode=1 if tls else 0
        )
        (folder / "rsyslog.conf").write_text(told, encoding="ascii")
        pid = folder / "pid"
        return [str(program), "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(pid)]

    with run_peer("rsyslog", prepare) as (process, folder, port):
        yield Syslog(process, folder, port, udp_port=udp)
