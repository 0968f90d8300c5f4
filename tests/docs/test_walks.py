"""How-tos and tutorials are walked: their commands are carried out, in order, in a small world.

What pages name (a disk, a PACS, a library) is there under another address; `_NAMES` says which.
A line that is not carried out, and a page that is not walked, is on a list with the reason.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from scripts.peer_processes import Orthanc
from tests.docs.test_documents import DOCUMENTS, ROOT
from tests.docs.test_examples import commands_of

from dcmvault import i18n
from dcmvault.cli.main import run
from dcmvault.testing.dicom_files import make_study, make_uid
from dcmvault.testing.horos_library import build_library

#: In a state folder of its own, with nothing but studies, a library and a PACS.
FROM_NOTHING = (
    "tutorials/back-up-a-horos-library.md",
    "tutorials/back-up-to-a-pacs.md",
    "how-to/look-after-a-vault.md",
)
#: One after the other in one state folder, where all that has a name was backed up once.
GOING_ON = (
    "how-to/verify-and-re-verify.md",
    "how-to/keep-manifests.md",
    "how-to/back-up-a-dicomweb-service.md",
    "how-to/send-by-dicomweb.md",
    "how-to/back-up-a-horos-library.md",
    "how-to/back-up-a-pacs.md",
    "how-to/back-up-several-sources.md",
    "how-to/mirror-an-orthanc.md",
    "how-to/migrate-between-archives.md",
    "how-to/may-i-delete-the-original.md",
    "how-to/posso-apagar-o-original.md",
    "how-to/watch-what-goes-on.md",
    "how-to/acompanhar-o-que-acontece.md",
    "how-to/run-plans-by-themselves.md",
    "how-to/agendar-planos.md",
    "how-to/reports.md",
    "how-to/relatorios-e-auditoria.md",
    "how-to/audit.md",
    "how-to/restore.md",
    "how-to/drill-a-disaster.md",
    "how-to/withstand-ransomware.md",
    "how-to/send-to-a-pacs-over-tls.md",
    "how-to/ask-for-help.md",
)
#: Pages with commands that are not walked here: the test that carries them out.
ELSEWHERE = {
    "tutorials/back-up-to-s3.md": "tests/integration/test_vault_cloud.py",
    "how-to/vault-in-the-cloud.md": "tests/integration/test_vault_cloud.py",
    "how-to/when-a-key-is-lost.md": "tests/docs/test_examples.py",
    "how-to/bring-a-horos-library-back.md": "tests/integration/test_restore_library.py",
    "how-to/install.md": "scripts/clean_install",
    "how-to/run-it-as-a-service.md": "tests/integration/test_commands_service.py",
    "how-to/several-hosts.md": "tests/integration/test_several_hosts.py",
    "how-to/keep-reading-during-a-disaster.md": "tests/integration/test_serve_retrieve.py",
    "how-to/let-others-push.md": "tests/integration/test_commands_listen.py",
    "how-to/log-in-with-openid-connect.md": "tests/security/test_oidc_hostile.py",
    "how-to/be-told.md": "tests/integration/test_notifications.py",
    "how-to/ser-avisado.md": "tests/integration/test_notifications.py",
}
#: Lines of walked pages that are not carried out.
LEFT_OUT = {
    r"service install|worker|top$|top --json$|config init$": "stays, or asks questions",
    r".*--watch|listen|serve": "stays",
    r".*s3://bucket/studies": "there is no bucket",
    r"config init --detect|config init --force": "looks through the whole machine",
}
#: Lines that end otherwise than by 0, and why.
STATUSES = {
    # The library is damaged here and there, on purpose.
    'backup "horos:$HOME/Documents/Horos Data" --to vault:/Volumes/Backup/vault --verify proven': 3,
    'backup "horos:/Users/me/Documents/Horos Data" --to vault:/Volumes/Backup/vault': 3,
    # Copies of a minute ago do not count yet.
    "safe-to-delete horos --study 1.2.840.99999.1": 3,
    # The new archive has nothing yet.
    "compare old new --csv differences.csv": 3,
    "compare old new --only moved.csv": 3,
}


@dataclass
class World:
    """Studies in two folders, a library, a PACS, and room for copies."""

    root: Path
    pacs: Orthanc
    env: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    names: dict[str, str] = field(default_factory=dict)
    #: Lines that were carried out: what pages in two languages share is done once.
    done: set[str] = field(default_factory=set)

    def enter(self) -> None:
        """Be the user of this home."""
        self.env.setenv("HOME", str(self.root))
        self.env.setenv("DCMVAULT_HOME", str(self.root / "state"))
        self.env.setenv("DCMVAULT_PASSPHRASE", "an old passphrase")
        self.env.chdir(self.root)
        i18n.use_language("en")

    def make(self) -> None:
        """Put what the pages speak of there."""
        made = make_study(self.root / "studies" / "one", key="one", instances=2, rows=8, columns=8)
        make_study(self.root / "studies" / "two", key="two", instances=1, rows=8, columns=8)
        make_study(self.root / "images", key="three", instances=1, rows=8, columns=8)
        (self.root / "moved.csv").write_text(f"StudyInstanceUID\n{made[0].study_instance_uid}\n")
        for folder in ("vault", "second", "cloud", "new", "orthanc"):
            (self.root / folder).mkdir()
        build_library(self.root / "Documents" / "Horos Data")
        dicom = f"dicom://ORTHANC@{self.pacs.host}:{self.pacs.port}?calling=DCMVAULT"
        uid = made[0].study_instance_uid
        self.names = {
            r"dicoms?://[^\s\"]+": dicom,
            r"dicomweb\+https://pacs.example/dicom-web": f"dicomweb+{self.pacs.http_url}/dicom-web",
            r"orthanc\+http://localhost:8042": f"orthanc+{self.pacs.http_url}",
            r"vault:s3://radiology/vault|vault:/backup(?![/\w])": f"vault:{self.root}/vault",
            r"vault:/backup/orthanc": f"vault:{self.root}/orthanc",
            r"vault:s3://\S+?(?=[#\s]|$)": f"vault:{self.root}/second",
            r"vault:/[\w/]+": f"vault:{self.root}/vault",
            r"/mnt/backup/vault(?= --keyless)": f"{self.root}/vault",
            r"/Volumes/Backup": f"{self.root}/images",
            r"/Volumes/Studies|\bSOURCE\b|\bORIGEM\b": f"{self.root}/studies",
            r"\b1\.2\.840\.99999\.1\b": make_uid("three"),
            r"/Users/me/|\$HOME/": f"{self.root}/",
            r"\bDESTINATION\b|\bDESTINO\b": "vault",
            r"\bPLAN\b|\bPLANO\b": "nightly",
            r"\b1\.2\.4\b": make_uid("two"),
            r"\bUID\b|\b1\.2(?:\.\d+)+\b": uid,
            r"\bRUN\b": "latest",
            r"\b(?:414e4c68|1a2b3c4d)\b": "latest",
            r"\b4711\b": "TEST-0001",
            r"\bA123\b": "A-1",
            r"(?<=--as-of )\S+": (datetime.now(UTC) + timedelta(days=1)).date().isoformat(),
            r"(?<=--study-date )\S+": "2000..2100",
            r"~/": f"{self.root}/",
        }

    def configure(self) -> None:
        """Name the places, and back everything up once."""
        dicom = self.names[r"dicoms?://[^\s\"]+"]
        state = self.root / "state"
        state.mkdir(mode=0o700)
        (state / "config.toml").write_text(f"""
[sources.main]
address = "{self.root}/studies"
[sources.horos]
address = "{self.root}/images"
[sources.old]
address = "{self.root}/studies/one"
[sources.research]
address = "{self.root}/studies/two"
[destinations.vault]
address = "vault:{self.root}/vault"
[destinations.cloud]
address = "vault:{self.root}/cloud"
[destinations.pacs]
address = "{dicom}"
reverify_after = "30d"
[destinations.new]
address = "{self.root}/new"
[plans.nightly]
sources = ["main"]
destinations = ["vault"]
[schedules.nightly]
plan = "nightly"
cron = "0 2 * * *"
""")
        for line in ("vault init vault", "vault init cloud", "backup main --to vault --to pacs",
                     "backup horos --to vault --to pacs", "backup main --to cloud"):  # fmt: skip
            self.run(line, {0, 3})

    def typed(self, line: str) -> list[str]:
        """Return the words of a line with the names of this world."""
        rows = list(self.names.items())
        one = re.compile("|".join(f"({named})" for named, _here in rows))
        return shlex.split(one.sub(lambda found: rows[(found.lastindex or 0) - 1][1], line))

    def run(self, line: str, statuses: set[int]) -> str:
        """Carry a line out; return what is wrong, or nothing."""
        self.capsys.readouterr()
        status = run(self.typed(line))
        said = self.capsys.readouterr()
        return "" if status in statuses else f"{line}: {status}\n{said.out[-900:]}{said.err[-900:]}"

    def walk(self, page: str) -> list[str]:
        """Carry a page out; return what did not end as it should."""
        wrong = []
        for line in commands_of(ROOT / "docs" / page):
            plain = line.removeprefix("--lang pt-BR ").strip()
            if plain in self.done or any(re.match(left, plain) for left in LEFT_OUT):
                continue
            self.done.add(plain)
            wrong.append(self.run(line, {STATUSES.get(plain, 0)}))
        return [one for one in wrong if one]


@pytest.fixture
def world(
    tmp_path: Path,
    orthanc: Orthanc,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[World]:
    world = World(tmp_path, orthanc, monkeypatch, capsys)
    world.enter()
    world.make()
    yield world
    i18n.use_language("en")


@pytest.mark.parametrize("page", FROM_NOTHING)
def test_from_nothing(page: str, world: World) -> None:
    assert not world.walk(page)


@pytest.mark.nightly
def test_going_on(world: World) -> None:
    world.configure()
    wrong = {page: wrong for page in GOING_ON if (wrong := world.walk(page))}
    assert not wrong


def test_every_page_with_commands_is_walked_or_named() -> None:
    pages = {
        path.relative_to(ROOT / "docs").as_posix()
        for path in DOCUMENTS
        if path.parent.name in ("how-to", "tutorials") and commands_of(path)
    }
    assert pages == {*FROM_NOTHING, *GOING_ON, *ELSEWHERE}
    assert not [test for test in ELSEWHERE.values() if not (ROOT / test).exists()]
