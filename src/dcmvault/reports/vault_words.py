"""What a vault tells of itself in words: its troubles, snapshots, keys and contents."""

from __future__ import annotations

from dcmvault.i18n import gettext as _
from dcmvault.reports.escaping import visible
from dcmvault.vault.blob import BlobType
from dcmvault.vault.findings import CheckResult, Trouble
from dcmvault.vault.keys import SlotKind
from dcmvault.vault.space import Coding


def trouble_heading(trouble: Trouble) -> str:
    """Name a kind of trouble."""
    return {
        Trouble.MISSING: _("Missing"),
        Trouble.DAMAGED: _("Damaged"),
        Trouble.UNREADABLE: _("Cannot be understood, though the bytes are those of the name"),
        Trouble.UNLISTED: _("Needed, but listed nowhere"),
        Trouble.LOST: _("In no pack any more"),
        Trouble.SNAPSHOT_GONE: _("Snapshots that are gone"),
        Trouble.ROLLED_BACK: _("An older state than was seen before"),
        Trouble.LEFT_OVER: _("Left over"),
    }[trouble]


def soundness(result: CheckResult) -> str:
    """Say how sound a vault is that was found so."""
    return {
        "structure": _(
            "The vault is whole: every object is there, and every part of every file is in a pack."
        ),
        "read_data": _(
            "The vault is sound: every byte is the one that was stored, and every part of every "
            "file opens."
        ),
        "subset": _(
            "The vault is whole, and sound as far as it was read: every part of every file is in a "
            "pack, and these packs open."
        ),
        "keyless": _(
            "Every byte is the one that was stored, and every signature is right. Nothing was "
            "opened, because no key was asked for."
        ),
    }[result.level]


def snapshot_kind(kind: str) -> str:
    """Name a kind of snapshot."""
    words = {
        "backup": _("backup"),
        "forget": _("forget"),
        "hold": _("hold"),
        "merge": _("merge"),
        "repair": _("repair"),
    }
    return words.get(kind, visible(kind))


def key_kind(kind: SlotKind) -> str:
    """Name a kind of key."""
    return {
        SlotKind.PASSPHRASE: _("passphrase"),
        SlotKind.KEY_FILE: _("key file"),
        SlotKind.RECOVERY: _("recovery key"),
        SlotKind.AGE: _("age recipient"),
    }[kind]


def object_kind(kind: str) -> str:
    """Name a kind of object of a vault, by the first part of its key."""
    words = {
        "packs": _("packs"),
        "parity": _("parity of packs"),
        "copies": _("further copies"),
        "index": _("indexes"),
        "journal": _("journals"),
        "snapshots": _("snapshots"),
        "keys": _("keys"),
        "rescue": _("rescue tool"),
        "ballast": _("ballast"),
        "condemned": _("lists of condemned packs"),
    }
    return words.get(kind, kind)


def content_kind(kind: BlobType) -> str:
    """Name a kind of content."""
    return {
        BlobType.FRAME: _("pixels"),
        BlobType.VALUE: _("other values"),
        BlobType.HEADERS: _("headers"),
        BlobType.RECORDS: _("records"),
        BlobType.STATE: _("lists of snapshots"),
    }[kind]


def coding_word(coding: Coding) -> str:
    """Name how values are coded."""
    return {
        Coding.IMAGES: _("uncompressed pixels, as JPEG XL"),
        Coding.JPEG: _("JPEG, as JPEG XL"),
        Coding.JPEG_LS: _("JPEG-LS, as JPEG XL"),
        Coding.LOSSLESS_JPEG: _("lossless JPEG, as JPEG XL"),
        Coding.RLE: _("RLE, as JPEG XL"),
        Coding.STREAMS: _("compressed pixels of other kinds, as they are"),
        Coding.VALUES: _("other values, by Zstandard"),
        Coding.HEADERS: _("headers, by Zstandard"),
    }[coding]
