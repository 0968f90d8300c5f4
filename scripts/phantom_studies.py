"""Studies of nobody, to be looked at: drawn by rule, with names that are plainly made up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcmvault.testing.dicom_files import make_instance, make_uid

Frame = npt.NDArray[np.float64]

#: Ellipses of a head: grey, half axes, centre, angle in degrees (after Shepp and Logan, 1974).
_HEAD = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0),
    (-0.75, 0.66, 0.87, 0.0, -0.02, 0),
    (-0.14, 0.11, 0.31, 0.22, 0.0, -18),
    (-0.14, 0.16, 0.41, -0.22, 0.0, 18),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0),
    (0.1, 0.05, 0.05, 0.0, 0.1, 0),
    (0.14, 0.05, 0.03, -0.08, -0.6, 0),
    (0.14, 0.03, 0.05, 0.06, -0.6, 0),
)
#: A chest: body, lungs, heart, spine, collar bones.
_CHEST = (
    (0.55, 0.92, 0.98, 0.0, -0.05, 0),
    (-0.4, 0.33, 0.62, -0.42, 0.05, 4),
    (-0.4, 0.33, 0.62, 0.42, 0.05, -4),
    (0.3, 0.3, 0.27, 0.14, -0.28, 30),
    (0.22, 0.09, 0.95, 0.0, 0.0, 0),
    (0.2, 0.36, 0.04, -0.4, 0.7, -12),
    (0.2, 0.36, 0.04, 0.4, 0.7, 12),
)
#: A knee: thigh and shin, soft tissue around them, the gap between.
_KNEE = (
    (0.3, 0.62, 0.97, 0.0, 0.0, 0),
    (0.45, 0.4, 0.5, 0.0, 0.48, 0),
    (0.45, 0.38, 0.46, 0.0, -0.52, 0),
    (-0.25, 0.3, 0.06, 0.0, -0.02, 0),
    (0.3, 0.12, 0.2, 0.46, 0.1, 12),
)
_Ellipses = Sequence[tuple[float, float, float, float, float, int]]


@dataclass(frozen=True)
class _Study:
    key: str
    name: str
    date: str
    modality: str
    description: str
    ellipses: _Ellipses
    pixels: int
    #: What each series is called, and how many instances it has.
    series: tuple[tuple[str, int], ...]


_STUDIES = (
    _Study(
        "head",
        "Phantom^Ada",
        "20250312",
        "CT",
        "Head without contrast",
        _HEAD,
        512,
        (("Axial 5 mm", 8), ("Bone 2 mm", 6)),
    ),
    _Study(
        "knee",
        "Exemplo^Beatriz",
        "20250311",
        "MR",
        "Knee, right",
        _KNEE,
        256,
        (("Sagittal PD", 6), ("Coronal T2", 5), ("Axial T1", 4)),
    ),
    _Study(
        "chest",
        "Sample^Charles",
        "20250310",
        "CR",
        "Chest, two views",
        _CHEST,
        1024,
        (("PA", 1), ("Lateral", 1)),
    ),
    _Study(
        "brain",
        "Amostra^Davi",
        "20250306",
        "MR",
        "Brain with contrast",
        _HEAD,
        256,
        (("Axial FLAIR", 8), ("Axial T1", 8)),
    ),
    _Study("ward", "Phantom^Elena", "20250305", "CR", "Chest, bedside", _CHEST, 1024, (("AP", 1),)),
    _Study(
        "thorax",
        "Exemplo^Fernando",
        "20250303",
        "CT",
        "Chest without contrast",
        _CHEST,
        512,
        (("Axial 5 mm", 8),),
    ),
    _Study(
        "control",
        "Sample^Grace",
        "20250227",
        "CR",
        "Chest, two views",
        _CHEST,
        1024,
        (("PA", 1), ("Lateral", 1)),
    ),
    _Study(
        "left", "Amostra^Helena", "20250226", "MR", "Knee, left", _KNEE, 256, (("Sagittal PD", 6),)
    ),
    _Study(
        "stroke",
        "Phantom^Igor",
        "20250225",
        "CT",
        "Head, emergency",
        _HEAD,
        512,
        (("Axial 5 mm", 6),),
    ),
    _Study(
        "follow-up",
        "Exemplo^Joana",
        "20250221",
        "MR",
        "Brain, follow-up",
        _HEAD,
        256,
        (("Axial T2", 6),),
    ),
    _Study("last", "Sample^Kenji", "20250220", "CR", "Chest, one view", _CHEST, 1024, (("PA", 1),)),
    _Study(
        "late",
        "Amostra^Lucia",
        "20250219",
        "CT",
        "Head without contrast",
        _HEAD,
        512,
        (("Axial 5 mm", 4),),
    ),
)


def phantom_studies(folder: Path) -> list[list[Path]]:
    """Write the studies below `folder`, newest first; return the files of each."""
    return [_written(folder, number, study) for number, study in enumerate(_STUDIES, 1)]


def _written(folder: Path, number: int, study: _Study) -> list[Path]:
    study_uid = make_uid("phantom", study.key)
    files = []
    for place, (words, instances) in enumerate(study.series, 1):
        series_uid = make_uid("phantom", study.key, place)
        for instance in range(1, instances + 1):
            uid = make_uid("phantom", study.key, place, instance)
            made = make_instance(
                folder / f"study-{number:02}" / f"s{place}" / f"i{instance:03}.dcm",
                study_uid,
                series_uid,
                uid,
                modality=study.modality,
                patient_name=study.name,
                patient_id=f"PHANTOM-{number:03}",
                study_date=study.date,
                study_description=study.description,
                series_number=place,
                instance_number=instance,
                elements=_elements(study, uid, words, number, instance / (instances + 1)),
            )
            files.append(made.path)
    return files


def _elements(
    study: _Study, uid: str, words: str, number: int, height: float
) -> dict[str, str | int | bytes]:
    seen = _drawn(study.ellipses, study.pixels, height)
    seed = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big")
    noise = np.random.default_rng(seed).normal(0, 24, seen.shape)
    grey = np.clip(seen * 2600 + 200 + noise, 0, 4095).astype("<u2")
    return {
        "SeriesDescription": words,
        "StudyTime": f"{8 + number % 9:02}1500",
        "AccessionNumber": f"A{number:05}",
        "InstitutionName": "Phantom Hospital",
        "Rows": study.pixels,
        "Columns": study.pixels,
        "WindowCenter": "1300",
        "WindowWidth": "2600",
        "PixelData": grey.tobytes(),
    }


def _drawn(ellipses: _Ellipses, pixels: int, height: float) -> Frame:
    """Draw a cut through ellipsoids at a height from 0 to 1: the middle is the widest."""
    rise = np.linspace(1.1, -1.1, pixels)[:, np.newaxis]
    across = np.linspace(-1.1, 1.1, pixels)[np.newaxis, :]
    wide = float(np.sqrt(1 - (1.4 * (height - 0.5)) ** 2))
    seen = np.zeros((pixels, pixels))
    for grey, half_x, half_y, x, y, degrees in ellipses:
        turn = np.deg2rad(degrees)
        right = (across - x * wide) * np.cos(turn) + (rise - y * wide) * np.sin(turn)
        up = (rise - y * wide) * np.cos(turn) - (across - x * wide) * np.sin(turn)
        inside = (right / (half_x * wide)) ** 2 + (up / (half_y * wide)) ** 2
        seen += grey * np.clip((1 - inside) * 12, 0, 1)
    return np.clip(seen, 0, None)
