"""Manifests of studies from what is known of their instances: totals, and Merkle roots."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from dcmvault.dicom.digest import merkle_root
from dcmvault.model.manifest import ListedInstance, ListedSeries, StudyManifest


def study_manifest(study_instance_uid: str, instances: Iterable[ListedInstance]) -> StudyManifest:
    """Make the manifest of one study; equal files under one identity count once."""
    ordered = sorted({(one.identity, one.file_sha256): one for one in instances}.values())
    series = []
    for uid, members in groupby(ordered, key=lambda one: one.identity.series_instance_uid):
        listed = tuple(members)
        series.append(ListedSeries(uid, listed, merkle_root(one.file_sha256 for one in listed)))
    root = merkle_root(one.merkle_root for one in series)
    return StudyManifest(study_instance_uid, tuple(series), root)


def by_study(instances: Iterable[ListedInstance]) -> dict[str, list[ListedInstance]]:
    """Gather instances by study."""
    found: dict[str, list[ListedInstance]] = {}
    for one in instances:
        found.setdefault(one.identity.study_instance_uid, []).append(one)
    return found
