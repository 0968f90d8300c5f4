"""Presentation contexts for what a peer is to send us as it stands with it.

Each SOP class is proposed in every transfer syntax that its instances may have, one context each,
so that the peer can choose the one that an instance is stored in and need not transcode (PS3.7
Annex D.3.3.4, PS3.8 section 9.3.2.2). Native syntaxes are always among them: what a peer cannot
send as it is it can decompress; nothing ever has to be compressed for us.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dcmvault.dicom.association import MAX_CONTEXTS
from dcmvault.dicom.command import is_usable_uid
from dcmvault.dicom.file_meta import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from dcmvault.dicom.get_and_move import GET_PROPOSALS
from dcmvault.dicom.pdu import ContextProposal
from dcmvault.dicom.query_model import find_proposals
from dcmvault.dicom.survey import STORAGE_PROPOSALS
from dcmvault.dicom.transfer_syntaxes import DEFLATED, FAMILIES, NATIVE_TARGETS

#: Verification, and query and retrieval in both models, have their place.
_ROOM = MAX_CONTEXTS - 5
#: MPEG-2, MPEG-4 and HEVC (PS3.5 Annex A.4.5 to A.4.8).
_VIDEO = tuple(
    f"1.2.840.10008.1.2.4.{number}"
    for number in ("100", "101", "102", "103", "104", "105", "106", "107", "108")
)
_NATIVE = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED,
)
_ENCAPSULATED = tuple(FAMILIES)
#: Classes whose instances may be video: endoscopy, microscopy, photography, ultrasound, XA, RF.
_VIDEO_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{rest}"
    for rest in ("77.1.1.1", "77.1.2.1", "77.1.4.1", "3.1", "12.1", "12.2", "7.2", "7.4")
)
#: Most that an association has of classes in all their syntaxes.
CLASSES_AT_ONCE = 4


def retrieval_contexts(sop_class_uids: Collection[str]) -> tuple[ContextProposal, ...]:
    """Propose to receive instances of these classes (at most CLASSES_AT_ONCE), query and C-GET.

    Where no class is known, all usual ones are proposed in native transfer syntaxes only.
    """
    assert len(sop_class_uids) <= CLASSES_AT_ONCE
    proposals = [
        ContextProposal(sop_class, (syntax,), peer_sends=True)
        for sop_class in sorted(filter(is_usable_uid, sop_class_uids))
        for syntax in _syntaxes_of(sop_class)
    ]
    if not proposals:
        proposals = [
            ContextProposal(one.abstract_syntax_uid, NATIVE_TARGETS, peer_sends=True)
            for one in STORAGE_PROPOSALS
        ]
    # What most peers serve stands first, the Patient Root model last.
    (study_find, *find), (study_get, *get) = find_proposals(relational=False), GET_PROPOSALS
    return (study_find, study_get, *proposals[:_ROOM], *find, *get)


def _syntaxes_of(sop_class_uid: str) -> Sequence[str]:
    video = _VIDEO if sop_class_uid in _VIDEO_CLASSES else ()
    return (*_NATIVE, *_ENCAPSULATED, *video)
