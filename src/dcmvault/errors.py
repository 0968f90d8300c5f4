"""The error tree: what went wrong, whether trying again helps, and which exit status it means."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Retry(StrEnum):
    """Whether the same attempt may succeed another time."""

    #: The cause passes by itself (a busy peer, a lost association).
    LATER = "later"
    #: The same input will fail the same way.
    NEVER = "never"
    #: A person must change something first (configuration, space, permissions).
    OPERATOR = "operator"


class DcmvaultError(Exception):
    """Root of every error that dcmvault raises on purpose.

    `message` is one sentence for people: what happened and to what. `hint` says what to do.
    Neither contains patient names or identifiers.
    """

    #: Stable, documented, never translated.
    code: ClassVar[str] = "error"
    retry: ClassVar[Retry] = Retry.NEVER
    #: Process exit status when this error ends a command (0, 1, 2, 3, 4, 5 or 130).
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DcmvaultError):
    """The command asks for something that cannot be, whatever the state of the world."""

    code = "usage"
    exit_status = 2


class AddressError(UsageError):
    """An address string does not name a source or destination."""

    code = "bad_address"


class LoginError(DcmvaultError):
    """Somebody does not come into the dashboard: a name, password, code or link is wrong."""

    code = "login"
    retry = Retry.OPERATOR


class LoginWaitError(LoginError):
    """Too many attempts failed; the next one counts only after a wait."""

    code = "login_wait"
    retry = Retry.LATER


class LoginServiceError(LoginError):
    """The service that people log in with does not answer, or not as it must."""

    code = "login_service"
    retry = Retry.LATER


class LevelNotSupportedError(UsageError):
    """The destination cannot give evidence of the asked level."""

    code = "level_not_supported"


class ConfigurationError(DcmvaultError):
    """The configuration file is wrong; the message names line and key."""

    code = "configuration"
    retry = Retry.OPERATOR
    exit_status = 4


class ConfigurationChangedError(ConfigurationError):
    """The configuration file is not as it was when a change of it was prepared."""

    code = "configuration_changed"


class StateError(DcmvaultError):
    """The state folder cannot be used (permissions, a newer format, damage)."""

    code = "state"
    retry = Retry.OPERATOR


class DaemonRunningError(StateError):
    """A daemon runs in this state folder already; a second one would only be in its way."""

    code = "daemon_running"


class SourceError(DcmvaultError):
    """Something about a source."""

    code = "source"


class SourceUnavailableError(SourceError):
    """The source as a whole cannot be read now; nothing may be concluded about its content."""

    code = "source_unavailable"
    retry = Retry.OPERATOR


class SourceEmptyError(SourceUnavailableError):
    """The source shows nothing although it held studies: an unmounted volume, never a deletion."""

    code = "source_empty"


class SourceHeldError(SourceUnavailableError):
    """Much of the source changed or went at once: nothing is delivered until somebody looked."""

    code = "source_held"


class SourceIndexError(SourceUnavailableError):
    """The index of a source is missing, damaged or of an unknown layout; its files may be there."""

    code = "source_index"


class EntryUnreadableError(SourceError):
    """One entry of a source cannot be read; the others can."""

    code = "unreadable"


class EntryVanishedError(EntryUnreadableError):
    """The entry was listed, but is gone when read (deleted at the source meanwhile)."""

    code = "vanished"
    retry = Retry.LATER


class EntryLostError(EntryUnreadableError):
    """The entry left its source before every destination of the run held it."""

    code = "lost_at_source"


class EntryChangedError(EntryUnreadableError):
    """The entry's fingerprint differs from the planned one: being written, or replaced."""

    code = "changed_while_reading"
    retry = Retry.LATER


class EntryMisnamedError(EntryUnreadableError):
    """The source's index named another instance than the file holds; it is known as that now."""

    code = "misnamed"
    retry = Retry.LATER


class MalformedDicomError(DcmvaultError):
    """Bytes that do not follow PS3.5 or PS3.10, or break a limit of the scanner."""

    code = "malformed_dicom"


class DestinationError(DcmvaultError):
    """Something about a destination."""

    code = "destination"


class RetrievalNotOfferedError(DestinationError):
    """A PACS does not send back what it holds in the way that was asked for."""

    code = "retrieval_not_offered"


class DestinationUnreachableError(DestinationError):
    """No working connection to the destination (name, TCP, TLS, missing disk)."""

    code = "unreachable"
    retry = Retry.LATER
    exit_status = 5


class DestinationAbsentError(DestinationUnreachableError):
    """The folder that the destination should be does not exist (not made yet, or not mounted)."""

    code = "destination_absent"


class TlsRefusedError(DestinationUnreachableError):
    """No TLS connection that can be trusted: a certificate, a pin or the protocol is refused.

    By us or by the peer (PS3.15 Annex B, BCP 195); trying again helps when somebody mended it.
    """

    code = "tls_refused"
    retry = Retry.OPERATOR


class AssociationDeferredError(DestinationUnreachableError):
    """The peer rejected the association for now: it serves as many as it can (PS3.8 9.3.4)."""

    code = "association_deferred"


class AssociationRejectedError(DestinationUnreachableError):
    """The peer answered, but rejected the association for good (PS3.8 section 9.3.4)."""

    code = "association_rejected"
    retry = Retry.OPERATOR


class AssociationLostError(DestinationUnreachableError):
    """The association ended while work was in flight; what was in flight is unknown."""

    code = "association_lost"


class InstanceQuarantinedError(AssociationLostError):
    """The association ended twice while one instance was in flight, the second time alone on it."""

    code = "quarantined"
    retry = Retry.NEVER


class DestinationStoppedError(DestinationError):
    """The destination must not be used further in this run (not authorised, full, read-only).

    `status` is the raw status of a peer that said so, or empty.
    """

    code = "destination_stopped"
    retry = Retry.OPERATOR
    exit_status = 5

    def __init__(self, message: str, *, hint: str = "", status: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class InstanceRefusedError(DestinationError):
    """The destination refused one instance for good; the association goes on.

    `status` is the raw status of the peer as four hexadecimal digits (PS3.7 Annex C), or empty.
    """

    code = "refused"

    def __init__(self, message: str, *, hint: str = "", status: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class InstanceDeferredError(InstanceRefusedError):
    """The destination refused one instance for now (out of resources, PS3.4 B.2.3: A7xx, 0110)."""

    code = "refused_for_now"
    retry = Retry.LATER


class InstanceUnsendableError(InstanceRefusedError):
    """Our own check before sending found that the peer cannot take this instance."""

    code = "cannot_be_sent"


class ObjectExistsError(DestinationError):
    """A create-only put met other bytes under the same key."""

    code = "object_exists"


class ObjectMissingError(DestinationError):
    """No object under this key."""

    code = "object_missing"


class LibraryIncompleteError(DestinationError):
    """A restored library, or what was to go into one, lacks something that its index knew."""

    code = "library_incomplete"
    retry = Retry.OPERATOR
    exit_status = 3


class ObjectLockedError(DestinationError):
    """The store keeps the object until a date (retention, S3 Object Lock)."""

    code = "object_locked"
    retry = Retry.OPERATOR


class VaultMissingError(DestinationUnreachableError):
    """There is no vault where one was expected; one is made on purpose only."""

    code = "vault_missing"
    retry = Retry.OPERATOR


class VaultLockedError(DestinationUnreachableError):
    """No key that was offered opens the vault: none given, a wrong one, or a slot that is gone."""

    code = "vault_locked"
    retry = Retry.OPERATOR


class VaultFormatError(DestinationStoppedError):
    """What is there is no vault of ours, another vault, or one of a newer format."""

    code = "vault_format"
    exit_status = 4


class VaultDamagedError(DestinationError):
    """An object of the vault is missing, or its bytes are not those that its name promises."""

    code = "vault_damaged"
    retry = Retry.OPERATOR
    exit_status = 3


class VaultSetBackError(DestinationStoppedError):
    """Snapshots that the vault had are gone: it is an older copy of itself, or another vault."""

    code = "vault_set_back"


class VaultBusyError(DestinationUnreachableError):
    """Somebody else changes the vault (a prune, a change of keys); trying again later helps."""

    code = "vault_busy"


class StudyHeldError(DestinationError):
    """A study under legal hold was to be forgotten."""

    code = "study_held"
    retry = Retry.OPERATOR


class PruneRefusedError(DestinationError):
    """A prune would drop more of the vault than is allowed without being told."""

    code = "prune_refused"
    retry = Retry.OPERATOR


class ManifestDamagedError(DcmvaultError):
    """A manifest is none, or it is not as it was written: signature, digest or root are wrong."""

    code = "manifest_damaged"
    retry = Retry.OPERATOR


class NotificationError(DcmvaultError):
    """Somebody could not be told of something; what it was about is not touched by that."""

    code = "notification"


class NotificationUnreachableError(NotificationError):
    """Nobody took the message now."""

    code = "notification_unreachable"
    retry = Retry.LATER
    exit_status = 5


class CollectorError(DcmvaultError):
    """The collector of audit messages cannot be reached; what waits is sent when it is back."""

    code = "collector_unreachable"
    retry = Retry.LATER
    exit_status = 5


class NotificationRefusedError(NotificationError):
    """Somebody answered no: a wrong password, an unknown address, a service that says 4xx."""

    code = "notification_refused"
    retry = Retry.OPERATOR
    exit_status = 5


class NotificationPartlyTakenError(NotificationError):
    """Some of the recipients were told, and others were refused; `message` names these.

    `left` are those of them whom another attempt may reach; empty where it would not help.
    """

    code = "notification_partly_taken"
    retry = Retry.OPERATOR
    exit_status = 5

    def __init__(self, message: str, *, hint: str = "", left: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.left = left


class HookFailedError(DcmvaultError):
    """A command of the user's own failed, and the configuration says that the run fails then."""

    code = "hook_failed"
    retry = Retry.OPERATOR


class PluginError(DcmvaultError):
    """A plug-in is needed that cannot be used."""

    code = "plugin"
    retry = Retry.OPERATOR
    exit_status = 4


class QueryTooBroadError(DcmvaultError):
    """A query to an archive of ours that would take too long: it is to be narrowed."""

    code = "query_too_broad"


class RunInterruptedError(DcmvaultError):
    """The user stopped waiting for a run; its work is safe and goes on when asked for again."""

    code = "interrupted"
    retry = Retry.LATER
    exit_status = 130
