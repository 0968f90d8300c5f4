"""What a peer is asked for when we want to know what it offers, and a test object to time it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import StoragePresentationContexts
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]  # made at run time

from dcmvault.dicom.association import PeerAssociation
from dcmvault.dicom.part10 import scan
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.model.instance import Fingerprint, InstanceEntry, InstanceFile, InstanceHeader

#: Every kind of image and document of PS3.4 Annex B that fits beside Verification.
STORAGE_PROPOSALS = tuple(
    ContextProposal(str(context.abstract_syntax), (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
    for context in StoragePresentationContexts[:127]
)
#: Transfer syntaxes that files come in, one context each.
SYNTAX_PROPOSALS = tuple(
    ContextProposal(str(CTImageStorage), (str(syntax),))
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        JPEGLosslessSV1,
        JPEGBaseline8Bit,
        JPEGLSLossless,
        JPEG2000Lossless,
        JPEG2000,
        RLELossless,
    )
)

#: Always the same, so that a peer has one test object of ours at most.
_TEST_UID = "2.25.226531845206180311412093087421830517221"
_SIDE = 4096


def accepted(
    association: PeerAssociation, proposals: Sequence[ContextProposal]
) -> frozenset[ContextProposal]:
    """Return which proposals the peer accepted, with whichever of their syntaxes."""
    contexts = association.contexts
    return frozenset(
        one
        for one in proposals
        if any(contexts.id_of(one.abstract_syntax_uid, uid) for uid in one.transfer_syntax_uids)
    )


def syntax_name(proposal: ContextProposal) -> str:
    """Name the first transfer syntax of a proposal as the Standard does."""
    return str(UID(proposal.transfer_syntax_uids[0]).name)


def make_test_object(path: Path, size: int) -> tuple[InstanceFile, InstanceHeader]:
    """Write a Part 10 file of about `size` bytes that nobody takes for a patient's image.

    It does not compress, so that nothing on the way makes it seem faster.
    """
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.SOPClassUID = SecondaryCaptureImageStorage
    data_set.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data_set.SOPInstanceUID = f"{_TEST_UID}.3"
    data_set.file_meta.MediaStorageSOPInstanceUID = UID(data_set.SOPInstanceUID)
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = f"{_TEST_UID}.1", f"{_TEST_UID}.2"
    data_set.PatientName, data_set.PatientID = "Test^Dcmvault", "DCMVAULT-TEST"
    data_set.StudyDescription = "dcmvault: test of bandwidth, may be deleted"
    data_set.PatientBirthDate = data_set.PatientSex = data_set.AccessionNumber = ""
    data_set.StudyDate = data_set.StudyTime = data_set.ReferringPhysicianName = ""
    data_set.StudyID, data_set.SeriesNumber, data_set.InstanceNumber = "1", "1", "1"
    data_set.Modality, data_set.ConversionType = "OT", "SYN"
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.Columns, data_set.Rows = _SIDE, max(size // (2 * _SIDE), 1)
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 16, 16, 15
    data_set.PixelRepresentation = 0
    data_set.PixelData = random.Random(1).randbytes(data_set.Rows * _SIDE * 2)  # noqa: S311
    data_set.save_as(path, enforce_file_format=True)
    stat = path.stat()
    fingerprint = Fingerprint(stat.st_size, stat.st_mtime_ns, stat.st_ino)
    header = scan(path)
    return InstanceFile(InstanceEntry("test", fingerprint), path, header), header
