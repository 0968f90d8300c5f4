"""What pages load: ours and npm's, small, unchanged, and kept by browsers."""

from __future__ import annotations

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

from scripts.dashboard_demo import ROOT

from dcmvault.web import asset_files
from dcmvault.web.asset_files import Asset

VENDOR = tomllib.loads((asset_files.FOLDER / "vendor.toml").read_text(encoding="utf-8"))
"""The table of what comes from npm."""


def _asset(name: str) -> Asset:
    return asset_files.assets()[name]


def test_an_address_changes_with_the_content() -> None:
    digest = hashlib.sha256((asset_files.FOLDER / "keys.js").read_bytes()).hexdigest()
    assert asset_files.address_of("keys.js") == f"/assets/keys.js?v={digest[:12]}"
    assert asset_files.address_of("not-there.js") == ""


def test_only_the_right_address_is_kept_for_ever() -> None:
    right = _asset("keys.js").digest
    for version, kept in ((right, "public, max-age=31536000, immutable"), ("0", "no-cache")):
        answer = asset_files.asset("keys.js", version, "")
        assert answer.headers["cache-control"] == kept
        assert "content-encoding" not in answer.headers


def test_who_can_gets_it_compressed() -> None:
    answer = asset_files.asset("dashboard.css", "", "gzip, br")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == _asset("dashboard.css").body


def test_nothing_but_assets_is_sent() -> None:
    names = set(asset_files.assets())
    assert all(Path(name).suffix in {".css", ".js", ".svg"} for name in names)
    assert not [name for name in names if ".." in name or name.startswith("/")]


def test_what_is_wanted_is_recorded_with_exact_versions_and_digests() -> None:
    shipped = {
        f"vendor/{Path(path).name}"
        for package in VENDOR["package"]
        if not package.get("dev")
        for path in package["files"]
        if path != "LICENSE"
    }
    assert shipped == set(asset_files._WANTED)
    for package in VENDOR["package"]:
        assert package["version"].replace(".", "").isdecimal()
        assert all(len(digest) == 64 for digest in package["files"].values())


def test_what_was_fetched_is_what_was_recorded() -> None:
    """In a checkout without `make assets` there is nothing to look at."""
    for package in VENDOR["package"]:
        for path, digest in package["files"].items():
            found = asset_files.FOLDER / "vendor" / Path(path).name
            if found.is_file() and path != "LICENSE":
                assert hashlib.sha256(found.read_bytes()).hexdigest() == digest, path


def test_no_script_or_style_of_ours_breaks_the_policy() -> None:
    """No inline style, handler or script in any template: the policy would refuse it."""
    for path in (ROOT / "src" / "dcmvault" / "web" / "templates").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for forbidden in (" style=", " onclick=", " onload=", "javascript:", "<style", "hx-on"):
            assert forbidden not in text, f"{path.name}: {forbidden}"
        assert all(" src=" in tag for tag in re.findall(r"<script\b[^>]*>", text)), path.name
