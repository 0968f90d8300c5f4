"""Manifests as files: JSON for programs, and lines that `sha256sum -c` reads.

The same study gives the same bytes, wherever and whenever it is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dcmvault.errors import ManifestDamagedError
from dcmvault.model.instance import InstanceIdentity
from dcmvault.model.manifest import ListedInstance, StudyManifest
from dcmvault.pipeline.study_manifests import study_manifest

STUDY_FORMAT = "dcmvault-study-manifest"
VERSION = 1


def study_file_name(study_instance_uid: str) -> str:
    """Return the name of a study's manifest: of a digest, for values of DICOM make no names."""
    return f"{hashlib.sha256(study_instance_uid.encode()).hexdigest()[:32]}.json"


def encode_study(manifest: StudyManifest) -> bytes:
    """Write a study's manifest."""
    document = {
        "format": STUDY_FORMAT,
        "version": VERSION,
        "study_instance_uid": manifest.study_instance_uid,
        "instances": manifest.instances,
        "bytes": manifest.bytes,
        "merkle_root": manifest.merkle_root.hex(),
        "series": [
            {
                "series_instance_uid": one.series_instance_uid,
                "instances": len(one.instances),
                "bytes": sum(instance.size for instance in one.instances),
                "merkle_root": one.merkle_root.hex(),
                "files": [_instance(instance) for instance in one.instances],
            }
            for one in manifest.series
        ],
    }
    return document_bytes(document)


def document_bytes(document: Mapping[str, object]) -> bytes:
    """Return a document as JSON that people can read, in ASCII."""
    return (json.dumps(document, indent=1) + "\n").encode("ascii")


def _instance(one: ListedInstance) -> dict[str, object]:
    written: dict[str, object] = {
        "sop_instance_uid": one.identity.sop_instance_uid,
        "sop_class_uid": one.sop_class_uid,
        "transfer_syntax_uid": one.transfer_syntax_uid,
        "bytes": one.size,
        "sha256": one.file_sha256.hex(),
    }
    if one.data_set:
        written["data_set"] = one.data_set
    if one.pixels:
        written["pixels"] = one.pixels
    if one.attributes:
        written["attributes"] = one.attributes
    return written


def decode_study(content: bytes) -> StudyManifest:
    """Read a study's manifest; its roots are computed anew.

    Raises ManifestDamagedError if it is none, or its roots and totals are not those of its files.
    """
    document = read_document(content, STUDY_FORMAT)
    try:
        study_uid = str(document["study_instance_uid"])
        listed = [
            _read_instance(study_uid, str(series["series_instance_uid"]), item)
            for series in document["series"]
            for item in series["files"]
        ]
        told = {
            str(series["series_instance_uid"]): (series["merkle_root"], series["instances"])
            for series in document["series"]
        }
        manifest = study_manifest(study_uid, listed)
        found = {
            one.series_instance_uid: (one.merkle_root.hex(), len(one.instances))
            for one in manifest.series
        }
        totals = (manifest.merkle_root.hex(), manifest.instances, manifest.bytes)
        agrees = told == found and totals == (
            document["merkle_root"],
            document["instances"],
            document["bytes"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_manifest() from error
    if not agrees:
        raise ManifestDamagedError(
            "the manifest's roots are not those of the files that it lists",
            hint="It was changed or damaged since it was written: take another copy of it.",
        )
    return manifest


def read_document(content: bytes, format_: str) -> dict[str, Any]:
    """Read a JSON document of ours; ManifestDamagedError if it is none of this format."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _no_manifest() from error
    if not isinstance(document, dict) or document.get("format") != format_:
        raise _no_manifest()
    if document.get("version") != VERSION:
        raise ManifestDamagedError(
            "the manifest is of a version that this dcmvault cannot read",
            hint="Use a newer dcmvault.",
        )
    return document


def _read_instance(study: str, series: str, item: Mapping[str, Any]) -> ListedInstance:
    sha256 = bytes.fromhex(item["sha256"])
    if len(sha256) != hashlib.sha256().digest_size:
        raise ValueError(item["sha256"])
    return ListedInstance(
        InstanceIdentity(study, series, str(item["sop_instance_uid"])),
        sha256,
        int(item["bytes"]),
        str(item["sop_class_uid"]),
        str(item["transfer_syntax_uid"]),
        str(item.get("data_set", "")),
        str(item.get("pixels", "")),
        str(item.get("attributes", "")),
    )


def checksum_line(sha256: bytes, path: bytes) -> bytes:
    r"""Write one line as GNU sha256sum does: names with \ or line ends are escaped and marked."""
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"" if escaped == path else b"\\"
    return mark + sha256.hex().encode() + b"  " + escaped + b"\n"


def _no_manifest() -> ManifestDamagedError:
    return ManifestDamagedError(
        "this is no manifest of dcmvault",
        hint="Name what `dcmvault manifest export` wrote: its folder, or a study's file in it.",
    )
