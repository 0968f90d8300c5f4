"""Manifests written of one place and held against others, with sha256sum and OpenSSL as judges."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from scripts.peer_processes import Orthanc
from tests.conftest import RunDcmvault
from tests.integration.cloud_vault_world import PASSPHRASE, make_vault
from tests.peer_files import send

from dcmvault import i18n
from dcmvault.cli.main import run
from dcmvault.config.sections import VaultDestinationSection
from dcmvault.testing.dicom_files import make_instance, make_study, make_uid

#: Runs a command in this process, and returns its JSON object; the exit status is checked.
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Ask:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)
    i18n.use_language("en")

    def call(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        found = run([*map(str, arguments), "--json"])
        said = capsys.readouterr()
        assert found == status, said
        shown = json.loads(said.out)
        assert isinstance(shown, dict)
        assert shown["exit_status"] == status
        return shown

    return call


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two studies, in three transfer syntaxes, under names that need escapes."""
    folder = tmp_path / "source"
    make_study(folder / "one", key="one", series=2, instances=2)
    make_study(folder / "two", key="two", instances=2, transfer_syntax=RLELossless)
    make_instance(
        folder / "two" / "a\nname.dcm",
        make_uid("two"),
        make_uid("implicit"),
        make_uid("implicit", 1),
        transfer_syntax=ImplicitVRLittleEndian,
    )
    return folder


def _back_up(run_dcmvault: RunDcmvault, source: Path, *places: str | Path) -> None:
    to = [part for place in places for part in ("--to", place)]
    done = run_dcmvault("backup", source, *to, "--json", env={"DCMVAULT_PASSPHRASE": PASSPHRASE})
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def vault(tmp_path: Path) -> str:
    """A vault whose passphrase costs little."""
    section = VaultDestinationSection(location=str(tmp_path / "vault"))
    make_vault(section)
    return section.address


def _counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in report["counts"].items() if count}


def _roots(folder: Path) -> dict[str, str]:
    index = json.loads((folder / "manifests.json").read_text())
    return {row["study_instance_uid"]: row["merkle_root"] for row in index["studies"]}


def _sha256sum(folder: Path, checksums: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sha256sum", "--strict", "-c", checksums],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.peers
def test_one_manifest_against_every_place(
    run_dcmvault: RunDcmvault,
    ask: Ask,
    source: Path,
    tmp_path: Path,
    vault: str,
    orthanc: Orthanc,
) -> None:
    """Files are told by their bytes, a PACS by its data sets; the digest that decided is named."""
    copy = tmp_path / "copy"
    _back_up(run_dcmvault, source, copy, vault)
    send(orthanc, source)
    manifest = tmp_path / "manifest"
    written = ask("manifest", "export", "--from", source, "--out", manifest)
    assert (written["studies"], written["instances"], written["problems"]) == (2, 7, [])
    env = {"DCMVAULT_PASSPHRASE": PASSPHRASE}
    assert run_dcmvault("restore", vault, tmp_path / "back", env=env).returncode == 0
    for place in (source, copy, vault, f"{vault}#latest", tmp_path / "back"):
        report = ask("manifest", "validate", manifest, place)
        assert _counts(report) == {"identical": 7}
        assert {one["decided_by"] for one in report["instances"]} == {"sha256"}
        assert report["signed"] == {"key": written["key"], "ours": True}

    places = (
        orthanc.address,
        f"orthanc+{orthanc.http_url}",
        f"dicomweb+{orthanc.http_url}/dicom-web",
    )
    for place in places:
        report = ask("manifest", "validate", manifest, place)
        counts = _counts(report)
        assert sum(counts.values()) == 7
        assert counts.keys() <= {"identical", "identical_data_set"}
    by_dimse = ask("manifest", "validate", manifest, orthanc.address)
    # Orthanc sends by C-GET without compression what came in RLE.
    assert {one["decided_by"] for one in by_dimse["instances"]} >= {"dsd1", "px1"}

    gone = by_dimse["instances"][0]["sop_instance_uid"]
    orthanc.delete(gone)
    for place in places:
        report = ask("manifest", "validate", manifest, place, status=3)
        assert [
            one["sop_instance_uid"] for one in report["instances"] if one["result"] == "missing"
        ] == [gone]
    # One study only: what else the place has is not its matter, what it has of that study is.
    one = next(iter(_roots(manifest)))
    single = tmp_path / "single"
    ask("manifest", "export", "--from", orthanc.address, "--study", one, "--out", single)
    assert list(_roots(single)) == [one]


def test_sha256sum_checks_what_was_written_for_it(
    run_dcmvault: RunDcmvault, ask: Ask, source: Path, tmp_path: Path, vault: str
) -> None:
    """A source's checksums hold for what is restored of it, a folder's own for that folder."""
    copy, back = tmp_path / "copy", tmp_path / "back"
    _back_up(run_dcmvault, source, copy, vault)
    env = {"DCMVAULT_PASSPHRASE": PASSPHRASE}
    assert run_dcmvault("restore", vault, back, env=env).returncode == 0
    for place, folder in ((source, source), (copy, copy)):
        out = tmp_path / f"sums-{place.name}"
        ask("manifest", "export", "--from", place, "--format", "sha256sum", "--out", out)
        done = _sha256sum(folder, out / "files.sha256")
        assert (done.returncode, done.stdout.count(": OK")) == (0, 7), done
    restored = back / "two" / "a\nname.dcm"
    if not restored.exists():  # a line end in a name does not come back as one
        (renamed,) = (back / "two").glob("a*name.dcm")
        renamed.rename(restored)
    assert _sha256sum(back, tmp_path / "sums-source" / "files.sha256").returncode == 0
    restored.write_bytes(restored.read_bytes()[:-1] + b"\x01")
    done = _sha256sum(back, tmp_path / "sums-source" / "files.sha256")
    assert (done.returncode, done.stdout.count("FAILED")) == (1, 1)
    refused = ask(
        "manifest", "export", "--from", vault, "--format", "sha256sum", "--out", tmp_path / "v",
        status=2,
    )  # fmt: skip
    assert refused["error"]["code"] == "usage"
    told = ask("manifest", "validate", tmp_path / "sums-source", back, status=2)
    assert "sha256sum -c" in told["error"]["hint"]


def test_what_is_damaged_missing_other_or_more_is_named(
    run_dcmvault: RunDcmvault, ask: Ask, source: Path, tmp_path: Path
) -> None:
    copy, manifest = tmp_path / "copy", tmp_path / "manifest"
    _back_up(run_dcmvault, source, copy)
    ask("manifest", "export", "--from", source, "--out", manifest)
    shutil.copytree(source, tmp_path / "other")
    files = sorted((tmp_path / "other" / "one").rglob("*.dcm"))
    pixels, comment, cut, gone = files
    changed = pydicom.dcmread(pixels)
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(pixels)
    commented = pydicom.dcmread(comment)
    commented.ImageComments = "Doe was here"
    commented.save_as(comment)
    cut.write_bytes(cut.read_bytes()[:-20])
    gone.unlink()
    make_instance(tmp_path / "other" / "more.dcm", make_uid("one"), make_uid("s"), make_uid("i"))
    make_study(tmp_path / "other" / "third", key="third")
    report = ask("manifest", "validate", manifest, tmp_path / "other", status=3)
    assert _counts(report) == {"identical": 3, "different": 3, "missing": 1, "extra": 1}
    hows = {one["how"] for one in report["instances"] if one["result"] == "different"}
    assert hows == {
        "other decoded pixels, the same attributes",
        "other attributes, the same decoded pixels",
        "it does not parse as DICOM to its end",
    }
    assert "Doe" not in json.dumps(report)
    # Extras alone are no failure.
    for path in (pixels, comment, cut, gone):
        shutil.copyfile(source / path.relative_to(tmp_path / "other"), path)
    assert _counts(ask("manifest", "validate", manifest, tmp_path / "other")) == {
        "identical": 7, "extra": 1,
    }  # fmt: skip

    # A copy that is not what it is named by goes into no manifest.
    damaged = next(copy.glob("studies/*/*.dcm"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")
    told = ask("manifest", "export", "--from", copy, "--out", tmp_path / "copies", status=3)
    assert told["instances"] == 6
    assert [(one["code"], one["file"]) for one in told["problems"]] == [
        ("damaged", str(damaged.relative_to(copy)))
    ]


def test_a_manifest_that_was_changed_is_refused(
    ask: Ask, source: Path, tmp_path: Path, run_dcmvault: RunDcmvault
) -> None:
    """By signature, by digest, by root; and whoever signs anew has another key."""
    manifest = tmp_path / "manifest"
    ask("manifest", "export", "--from", source, "--out", manifest)
    verified = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public-key.pem", "-rawin",
         "-in", "manifests.json", "-sigfile", "manifests.json.sig"],
        cwd=manifest, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Signature Verified Successfully" in verified.stdout, verified
    assert _sha256sum(manifest, manifest / "SHA256SUMS").returncode == 0

    def refused(name: str, old: str, new: str, against: Path = manifest) -> str:
        path = manifest / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))
        report = ask("manifest", "validate", against, source, status=1)
        path.write_text(content)
        assert report["error"]["code"] == "manifest_damaged"
        return str(report["error"]["message"])

    study = next(iter(_study_files(manifest)))
    assert "signature" in refused("manifests.json", '"instances": 4', '"instances": 5')
    assert "not the one that was signed" in refused(study, '"bytes": ', '"bytes": 1')
    single = manifest / study
    digest = json.loads(single.read_text())["series"][0]["files"][0]["sha256"]
    assert "roots" in refused(study, digest, hashlib.sha256(b"").hexdigest(), single)
    assert refused(study, "dcmvault-study-manifest", "something", single)
    report = ask("manifest", "validate", single, source)
    assert report["signed"] == {"key": "", "ours": False}
    other = run_dcmvault(
        "manifest", "export", "--from", source, "--out", tmp_path / "foreign",
        env={"DCMVAULT_HOME": str(tmp_path / "another home")},
    )  # fmt: skip
    assert other.returncode == 0
    report = ask("manifest", "validate", tmp_path / "foreign", source)
    assert report["signed"]["ours"] is False
    assert report["signed"]["key"].startswith("sha256:")


def _study_files(manifest: Path) -> list[str]:
    index = json.loads((manifest / "manifests.json").read_text())
    return [row["file"] for row in index["studies"]]


def test_a_vault_is_read_whatever_its_records_say(
    run_dcmvault: RunDcmvault, ask: Ask, source: Path, tmp_path: Path, vault: str
) -> None:
    """A manifest of file digests can be told from a vault's records; that they are true, not."""
    _back_up(run_dcmvault, source, vault)
    manifest = tmp_path / "manifest"
    ask("manifest", "export", "--from", vault, "--digests", "file", "--out", manifest)
    assert ask("manifest", "validate", manifest, vault)["counts"]["missing"] == 0
    # What it has of files follows what it has of studies.
    pack = max((tmp_path / "vault" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) * 3 // 4] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(content)
    report = ask("manifest", "validate", manifest, vault, status=3)
    assert report["counts"]["unreadable"] + report["counts"]["missing"] > 0


def test_each_backup_adds_a_signed_link(
    run_dcmvault: RunDcmvault, ask: Ask, home: Path, source: Path, tmp_path: Path, vault: str
) -> None:
    """Links say what each destination holds, by the roots that an export computes of it."""
    copy = tmp_path / "copy"
    _back_up(run_dcmvault, source, copy, vault)
    make_instance(source / "one" / "new.dcm", make_uid("one"), make_uid("s"), make_uid("i"))
    _back_up(run_dcmvault, source, copy, vault)
    _back_up(run_dcmvault, source, copy, vault)  # nothing was due: nothing new is to be said
    (home / "manifests" / "chain" / ".00000003-cut.json.new").write_text("half")
    chain = ask("manifest", "chain", "--out", tmp_path / "for the auditor")
    assert len(list((tmp_path / "for the auditor").iterdir())) == 5
    assert [link["sequence"] for link in chain["links"]] == [1, 2]
    assert chain["links"][1]["previous"] == chain["links"][0]["sha256"]
    folder = home / "manifests" / "chain"
    first, second = sorted(folder.glob("*.json"))
    assert chain["links"][0]["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert stat.S_IMODE((home / "manifests" / "signing-key.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "for the auditor").iterdir()
    )
    newest = json.loads(second.read_text())["manifests"]
    for place in (str(copy), vault):
        out = tmp_path / hashlib.sha256(place.encode()).hexdigest()
        ask("manifest", "export", "--from", place, "--digests", "file", "--out", out)
        linked = {
            row["study_instance_uid"]: row["merkle_root"]
            for row in newest
            if row["destination"] == place
        }
        assert linked == {make_uid("one"): _roots(out)[make_uid("one")]}

    signature = second.with_name(second.name + ".sig")
    kept = second.read_bytes(), signature.read_bytes()
    second.write_text(second.read_text().replace(make_uid("one"), make_uid("two")))
    assert ask("manifest", "chain", status=3)["faults"] == [
        "the signature of link 2 is wrong or missing",
        "link 2 is another one than was made",
    ]
    second.write_bytes(kept[0])
    first.unlink()
    assert ask("manifest", "chain", status=3)["faults"] == ["1 links before link 2 are missing"]
    shutil.rmtree(folder)
    assert ask("manifest", "chain", status=3)["faults"] == ["2 links after link 0 are missing"]
    (home / "catalogue.sqlite3").unlink()
    assert "all are gone" in run_dcmvault("manifest", "chain").stdout


def test_a_chain_that_was_cut_at_its_end(
    run_dcmvault: RunDcmvault, ask: Ask, home: Path, source: Path, tmp_path: Path, vault: str
) -> None:
    """The catalogue knows the newest link, and the next one leaves the gap to be seen."""
    copy = tmp_path / "copy"
    for number in range(3):
        new = source / "one" / f"new-{number}.dcm"
        make_instance(new, make_uid("one"), make_uid("s"), make_uid("i", number))
        _back_up(run_dcmvault, source, copy, vault)
        if number == 1:
            assert ask("manifest", "chain")["faults"] == []
            for path in (home / "manifests" / "chain").glob("00000002-*"):
                path.unlink()
            faults = ask("manifest", "chain", status=3)["faults"]
            assert faults == ["1 links after link 1 are missing"]
    chain = ask("manifest", "chain", status=3)
    assert [link["sequence"] for link in chain["links"]] == [1, 3]
    assert chain["faults"] == ["1 links before link 3 are missing"]
