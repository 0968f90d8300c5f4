"""Who finds out a PACS that lies: `python -m bench.lying_pacs [--lies 1000]`.

A PACS answers every C-STORE with success, and then lies in eight kinds about half of what it was
sent; the other half is honest, some of it with attributes that a PACS may write itself. dcmvault
backs up, asking for the level that can see the kind of lie (for a cache: looks twice). Beside it
DCMTK's dcmsend and storescu and Orthanc send the same files to the same PACS: what they report as
failed is what they found out. Caught is what is named, instance by instance; a false alarm is an
honest instance that is named.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts import peer_processes
from scripts.peer_processes import Orthanc

from dcmvault.testing.dicom_files import make_instance, make_uid
from dcmvault.testing.lies import Lie

#: What the report calls the kinds; a bit in the header or in the pixels is one.
_KINDS: Mapping[Lie, str] = {
    Lie.DROPS: "drops",
    Lie.HEADER_BIT: "flips a bit",
    Lie.PIXEL_BIT: "flips a bit",
    Lie.TRUNCATES: "truncates",
    Lie.SWAPS: "swaps pixels",
    Lie.ROUNDS: "rounds a value",
    Lie.COUNTS: "counts that fit",
    Lie.COMMITS: "commits what it lost",
    Lie.CACHE: "cache, once",
}
#: The lowest level that can see a lie; `proven` where none stands here.
_SEEN_AT = {Lie.DROPS: "present", Lie.COUNTS: "complete", Lie.COMMITS: "complete"}
_COERCIONS = {"InstitutionName": "The PACS's own", "StationName": "STORE-7"}
_COERCED = "(0008,0080) (0008,1010)"
_OTHERS = ("dcmsend", "storescu", "Orthanc")


@dataclass
class _Tally:
    """What was found out about all lies of all kinds."""

    lies: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)
    honest: int = 0
    coerced: int = 0
    false_alarms: int = 0
    by_others: Counter[str] = field(default_factory=Counter)


class _Liar:
    """A lying PACS as a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._read()["port"])

    def lied(self) -> tuple[set[str], set[str]]:
        """Return the UIDs about which it lied, and those that it altered as it may."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        said = self._read()
        return set(said["lied_about"]), set(said["coerced"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said


@contextmanager
def _lying(lie: Lie) -> Iterator[_Liar]:
    coercions = [f"--coercion={keyword}={value}" for keyword, value in _COERCIONS.items()]
    command = (
        *(sys.executable, "-m", "dcmvault.testing.lying_pacs", "--lie", lie),
        *("--every", "2", "--coerces", "3", *coercions),
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _Liar(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)


def _studies(folder: Path, count: int) -> Path:
    for number in range(count):
        study, series = number // 24, number // 12
        make_instance(
            folder / f"{study:03d}" / f"{number:05d}.dcm",
            make_uid(folder.name, study),
            make_uid(folder.name, study, series),
            make_uid(folder.name, study, series, number),
            rows=32,
            columns=32,
            instance_number=number,
            elements={"SliceLocation": f"{number + 0.8473625:.7f}", "KVP": "119.75"},
        )
    return folder


def _dcmvault(home: Path, *arguments: str) -> set[str]:
    """Run a command, and return the UIDs that its summary names as failed."""
    done = subprocess.run(
        [sys.executable, "-m", "dcmvault", *arguments, "--json"],
        env={"DCMVAULT_HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"dcmvault ended with {done.returncode}: {done.stdout.decode()}")
    return {failure["sop_instance_uid"] for failure in json.loads(done.stdout)["failures"]}


def _found_by_us(folder: Path, source: Path, lie: Lie, port: int) -> set[str]:
    home = folder / f"home-{lie}"
    home.mkdir()
    address = f"dicom://LYING@127.0.0.1:{port}"
    (home / "config.toml").write_text(
        f'[destinations.pacs]\naddress = "{address}"\ncoerced = "{_COERCED}"\n'
    )
    level = _SEEN_AT.get(lie, "proven")
    named = _dcmvault(home, "backup", str(source), "--to", "pacs", "--verify", level)
    if lie is not Lie.CACHE:
        return named
    # What comes from its memory is honest; the proof is made once more.
    return named | _dcmvault(home, "verify", str(source), "--at", "pacs", "--level", level)


def _by_dcmsend(port: int, source: Path) -> int:
    report = source.parent / "dcmsend.txt"
    command = ["dcmsend", "--scan-directories", "--recurse", "--create-report-file", str(report)]
    done = subprocess.run(
        [*command, "-aec", "LYING", "127.0.0.1", str(port), str(source)],
        capture_output=True,
        check=False,
    )
    # Without a failure it says "with status SUCCESS" of all.
    text = report.read_text(errors="replace")
    failed = [line for line in text.splitlines() if "* with status" in line]
    others = sum(int(line.rsplit(":", 1)[1]) for line in failed if "SUCCESS" not in line)
    return others or int(done.returncode != 0)


def _by_storescu(port: int, source: Path) -> int:
    command = ["storescu", "-v", "--no-halt", "--scan-directories", "--recurse", "-aec", "LYING"]
    done = subprocess.run(
        [*command, "127.0.0.1", str(port), str(source)], capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    answers = [line for line in said if "Received Store Response" in line]
    return sum("Success" not in line for line in answers) or int(done.returncode != 0)


def _by_orthanc(orthanc: Orthanc, port: int, source: Path) -> int:
    """Let Orthanc send what it holds, and return how many instances it says to have failed."""
    orthanc.wipe()
    resources = [orthanc.store(path.read_bytes()) for path in sorted(source.rglob("*.dcm"))]
    orthanc.rest(
        "/modalities/lying",
        method="PUT",
        body={"AET": "LYING", "Host": "127.0.0.1", "Port": port},
    )
    job = {"Resources": resources, "Synchronous": True}
    try:
        said = orthanc.rest("/modalities/lying/store", method="POST", body=job)
    except urllib.error.HTTPError:
        return 1  # it ends at the first instance that is refused, and does not say how many are
    return int(said["FailedInstancesCount"])


def _campaign(folder: Path, lie: Lie, lies: int, orthanc: Orthanc, tally: _Tally) -> None:
    source = _studies(folder / f"source-{lie}", 2 * lies)
    with _lying(lie) as liar:
        named = _found_by_us(folder, source, lie, liar.port)
        about, coerced = liar.lied()
    kind = _KINDS[lie]
    tally.lies[kind] += len(about)
    tally.caught[kind] += len(about & named)
    tally.false_alarms += len(named - about)
    tally.honest += 2 * lies - len(about)
    tally.coerced += len(coerced)
    others: Mapping[str, Callable[[int], int]] = {
        "dcmsend": lambda port: _by_dcmsend(port, source),
        "storescu": lambda port: _by_storescu(port, source),
        "Orthanc": lambda port: _by_orthanc(orthanc, port, source),
    }
    for name, send in others.items():
        # The same lies anew: about the same instances, in the order in which they come.
        with _lying(lie) as liar:
            tally.by_others[name] += send(liar.port)
            about, _coerced = liar.lied()
            if not about:
                raise SystemExit(f"{name} sent nothing about which could be lied")


def _versions(orthanc: Orthanc) -> str:
    said = subprocess.run(["dcmsend", "--version"], capture_output=True, text=True, check=False)
    dcmtk = next(word for word in said.stdout.split() if word.startswith("v"))
    number = orthanc.rest("/system")["Version"]
    return f"dcmvault {version('dcmvault')}, DCMTK {dcmtk}, Orthanc {number}"


def _verdict(is_reached: bool) -> str:
    return "REACHED" if is_reached else "NOT REACHED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lies", type=int, default=1000, help="in all, at least")
    arguments = parser.parse_args()
    missing = [name for name in ("dcmsend", "storescu", "Orthanc") if not shutil.which(name)]
    if missing:
        print(f"Not installed: {', '.join(missing)}. On Debian and Ubuntu:", file=sys.stderr)
        print("    sudo apt-get install -y dcmtk orthanc", file=sys.stderr)
        raise SystemExit(2)
    # Of each kind as many, and an even number: two instances exchange their pixels.
    each = -(-arguments.lies // len(Lie))
    each += each % 2
    tally = _Tally()
    with tempfile.TemporaryDirectory() as name, peer_processes.orthanc() as orthanc:
        print(f"beside {_versions(orthanc)}")
        for lie in Lie:
            _campaign(Path(name), lie, each, orthanc, tally)
    for kind, lies in tally.lies.items():
        print(f"{kind:22} {tally.caught[kind]:5} of {lies:5} caught")
    lies, caught = sum(tally.lies.values()), sum(tally.caught.values())
    print(
        f"caught {100 * caught / lies:.1f} % of {lies} lies  asked 100 %:"
        f" {_verdict(caught == lies)}"
    )
    print(
        f"false alarms {tally.false_alarms} of {tally.honest} honest instances"
        f" ({tally.coerced} coerced)  asked 0: {_verdict(tally.false_alarms == 0)}"
    )
    for other in _OTHERS:
        print(f"{other:22} {tally.by_others[other]:5} of {lies:5} caught")


if __name__ == "__main__":
    main()
