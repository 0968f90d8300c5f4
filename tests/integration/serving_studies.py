"""Studies of every sort that queries tell apart, for an archive of ours and for Orthanc alike."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dcmvault.testing.dicom_files import MadeInstance, make_instance, make_uid

#: Patient: name, ID, birth date, sex. Studies of each: date, time, description, accession number,
#: and series: modality, instances, transfer syntax.
_PATIENTS: tuple[tuple[tuple[str, str, str, str], tuple[tuple[object, ...], ...]], ...] = (
    (
        ("Doe^Jane", "P1", "19700131", "F"),
        (
            ("20200102", "101112", "CT ABDOMEN", "A1", (("CT", 3, ""), ("SR", 1, ""))),
            ("20210304", "235959.5", "CT THORAX", "A2", (("CT", 2, RLELossless),)),
        ),
    ),
    (
        ("Doe^John^^Dr", "P2", "19690720", "M"),
        (("20200102", "000000", "MR Head", "A3", (("MR", 2, ImplicitVRLittleEndian),)),),
    ),
    (
        ("Müller^Jörg", "P-3", "", "O"),
        (("20191231", "120000", "Schädel", "A4", (("CR", 1, ExplicitVRBigEndian),)),),
    ),
    (
        ("Silva^José", "P.4", "20010101", "M"),
        (
            ("19991231", "0801", "US", "", (("US", 1, ""), ("US", 2, ""))),
            ("", "", "", "A5", (("OT", 1, ""), ("CT", 1, DeflatedExplicitVRLittleEndian))),
        ),
    ),
    (
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "P5", "19800229", "F"),
        (("20220222", "222222.22", "XA*", "A6", (("XA", 1, ""),)),),
    ),
)


def make_studies(folder: Path) -> tuple[MadeInstance, ...]:
    """Write all of them below a folder."""
    made: list[MadeInstance] = []
    for patient, (name, patient_id, birth, sex) in enumerate(one for one, _rest in _PATIENTS):
        for study, told in enumerate(_PATIENTS[patient][1]):
            date, time, description, accession, series = told
            assert isinstance(series, tuple)
            study_uid = make_uid("serve", patient, study)
            for number, (modality, count, syntax) in enumerate(series, start=1):
                for instance in range(1, count + 1):
                    key = (patient, study, number, instance)
                    made.append(
                        make_instance(
                            folder / "-".join(map(str, key)),
                            study_uid,
                            make_uid("serve", patient, study, number),
                            make_uid("serve", *key),
                            modality=modality,
                            patient_name=name,
                            patient_id=patient_id,
                            study_date=str(date),
                            study_description=str(description),
                            series_number=number,
                            instance_number=instance,
                            elements={
                                "StudyTime": time,
                                "AccessionNumber": accession,
                                "PatientBirthDate": birth,
                                "PatientSex": sex,
                                "StudyID": f"S{study}",
                                "ReferringPhysicianName": "Ref^Erring" if study else "",
                                "InstitutionName": "General Hospital",
                                "ProtocolName": f"Protocol {number}",
                                "SeriesDate": date,
                                "BodyPartExamined": "CHEST" if number == 1 else "",
                                "ImagePositionPatient": [0, 0, instance],
                            },
                            **({"transfer_syntax": syntax} if syntax else {}),
                        )
                    )
    return tuple(made)


def study_uid(patient: int, study: int) -> str:
    """Return a Study Instance UID, counting from 0."""
    return make_uid("serve", patient, study)


def series_uid(patient: int, study: int, series: int) -> str:
    """Return a Series Instance UID; series count from 1."""
    return make_uid("serve", patient, study, series)


def instance_uid(patient: int, study: int, series: int, instance: int) -> str:
    """Return a SOP Instance UID; instances count from 1."""
    return make_uid("serve", patient, study, series, instance)
