"""Our storage service: associations that take instances into a spool."""

from __future__ import annotations

from dcmvault.dicom.accepted_association import AcceptedAssociation
from dcmvault.dicom.association_scp import AssociationScp, Connected, ScpRules, Secures
from dcmvault.dicom.commitment_scp import CommitmentScp
from dcmvault.dicom.spool import Spool


class StorageScp(AssociationScp):
    """A service that takes instances into a spool. Used as a context."""

    def __init__(
        self,
        rules: ScpRules,
        spool: Spool,
        commitment: CommitmentScp,
        tls: Secures | None = None,
    ) -> None:
        def attend(connected: Connected) -> AcceptedAssociation:
            return AcceptedAssociation(
                connected.channel,
                connected.request,
                spool,
                commitment,
                idle_s=rules.idle_timeout_s,
            )

        super().__init__(rules, attend, tls)
