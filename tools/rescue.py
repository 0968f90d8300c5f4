"""Get the files out of a vault of dcmvault without dcmvault.

Usage, with Python 3.11 or later and a vault in a folder of this computer:

    python -m pip install numpy imagecodecs pyjpegls cryptography zstandard
    python rescue.py VAULT --list
    python rescue.py VAULT OUT

(also ``pyrage``, if the vault is to be opened with an age identity). A vault in a bucket is first
copied into a folder with the bucket's own tools, each object to the path that is its key.

This program was written from the page vault-format.md alone, which lies beside it in the vault's
folder ``rescue/``; "section 4" below is section 4 of that page. It only reads the vault. It
restores every file bit for bit: a file gets its name in OUT only after its size and its SHA-256
have been found right. What is damaged is read from the vault's other copies; a file that cannot
be restored is named on the standard error, and the rest goes on. It does not mend packs with their
parity: ``dcmvault vault repair`` does, and the page says how (section 11).

Exit status: 0 all restored; 2 wrong usage; 3 some files could not be restored; 4 the vault has a
newer format; 5 it cannot be opened (wrong passphrase or key, or no vault).

How it works, from the top of this file to its end: bytes are found (``Folder``), the keys are
opened (``open_ring``), blobs are found and decoded (``Blobs``), three coders put pixel data back
into its compressed form (``jls_scan``, ``ljpeg_scan``, ``rle_frame``), the snapshots say which
records count (``State``), and records are made into files again (``Rescue``). The memory it needs
is about 100 bytes for each blob of the vault and a few times the largest blob.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import getpass
import hashlib
import hmac
import importlib
import itertools
import json
import os
import re
import struct
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import imagecodecs
import numpy as np
import numpy.typing as npt
import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jpeg_ls.CharLS import encode_buffer

VERSION = 1
NO_ID = bytes(32)
#: Most that a passphrase slot may ask for (section 4).
ARGON2_LIMITS = {"iterations": 64, "lanes": 64, "memory_kib": 4 << 20}

#: What section 5 calls the list; word b stands for byte b.
WORDS = """
acid acorn actor adult agent album alert alley amber angle ankle apple april arena armor arrow aspen
atlas attic audio autumn award bacon badge bagel baker bamboo banjo barn basin beach beaver bench
berry bike birch bison blanket blue board bonus border bottle bowl brain brick bridge bronze brush
bucket bullet bunny butter cabin cactus camel candle canyon carbon castle cave cedar chalk cherry
chess chin cider circus citrus clay cliff cloud clover coast cobra coffee comet copper coral cotton
coyote cradle crane crystal cube cup curtain daisy dance dawn deer delta desert diamond dinner
dolphin donkey door dragon dream drum duck dune eagle earth echo elbow elder elm ember engine
envelope falcon farm feather fence fern ferry fiddle field finger fire flag flute foam forest fossil
fountain fox frame frog fruit galaxy garden garlic gate ghost giant ginger glass globe glove goat
gold goose grape gravel guitar hammer harbor hat hazel heart hedge helmet hero hill honey hook horse
hotel house iceberg igloo ink iris iron island ivory jacket jaguar jar jelly jewel jungle kayak
kettle key king kite kitten koala ladder lake lamp lantern laser leaf lemon lentil library light
lily lion lizard lobster lotus lunar magnet mango maple marble market meadow melon meteor milk mint
mirror monkey moon moss mountain mouse museum nail napkin needle nest nickel noodle north nut oak
oasis ocean olive onion opal orange orbit orchid otter oven owl oyster paddle palm panda paper
parrot peach pearl pencil pepper piano pigeon pillow pine planet plum pocket poem polar pond pony
""".split()  # noqa: SIM905 - a list of 256 strings would fill the page

Array: TypeAlias = npt.NDArray[Any]
Json: TypeAlias = dict[str, Any]


class DamagedError(Exception):
    """Something in the vault is missing or not what it should be."""


class CannotOpenError(Exception):
    """There is no vault, or none of its slots takes the key that was given."""


class NewerFormatError(Exception):
    """The vault was written by a later version of the format."""


#: What reading damaged or forged bytes can raise; imagecodecs' errors are RuntimeErrors.
FAULTS = (
    DamagedError, InvalidTag, InvalidSignature, zstandard.ZstdError, struct.error, OSError,
    ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError,
)  # fmt: skip


def shown(text: object) -> str:
    """Text of the vault without characters that would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def say(text: str) -> None:
    """Write one line for a person to the standard error."""
    print(shown(text), file=sys.stderr)


def reason(error: Exception) -> str:
    """Say what went wrong; some errors have no words, as a wrong tag or signature."""
    return str(error) or type(error).__name__


# --- Objects: section 2 -------------------------------------------------------------------------


class Folder:
    """The objects of a vault, each in up to three copies."""

    def __init__(self, root: Path) -> None:
        self._roots = (root, root / "copies" / "1", root / "copies" / "2")

    def keys(self, folder: str, prefix: str) -> list[str]:
        """Return the keys `folder`/`prefix`SHA of which any copy is there, in order."""
        found = set()
        for root in self._roots:
            for path in (root / folder).rglob("*"):
                key = path.relative_to(root).as_posix()
                if re.fullmatch(f"{folder}/{prefix}[0-9a-f]{{64}}", key) and path.is_file():
                    found.add(key)
        return sorted(found)

    def paths(self, key: str) -> Iterator[Path]:
        """Paths of the copies of `key` that are there."""
        return (root / key for root in self._roots if (root / key).is_file())

    def sound(self, key: str) -> bytes:
        """Bytes of a copy that has the SHA-256 at the end of its key."""
        for path in self.paths(key):
            with contextlib.suppress(OSError):
                data = path.read_bytes()
                if key.endswith(hashlib.sha256(data).hexdigest()):
                    return data
        raise DamagedError(f"{key}: no copy of it is sound")

    def configs(self) -> Iterator[tuple[str, Json]]:
        """SHA-256 and content of each copy of the object `config` whose last line is right."""
        for path in self.paths("config"):
            with contextlib.suppress(OSError, ValueError):
                data = path.read_bytes()
                body, _, digest = data.rstrip().rpartition(b"sha256:")
                if hashlib.sha256(body).hexdigest() == digest.decode():
                    yield hashlib.sha256(data).hexdigest(), json.loads(body)


# --- Envelope and keys: sections 3, 4, 5 --------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """The first 64 bytes of an object."""

    raw: bytes
    kind: bytes
    version: int
    cipher: int
    epoch: int
    vault_id: bytes
    salt: bytes

    @classmethod
    def read(cls, data: bytes, kind: bytes) -> Header:
        """Take the header off an object that should be of `kind`."""
        raw = data[:64]
        magic, found, version, cipher, _, epoch, _, vault_id, salt = struct.unpack(
            "<4scBBBII16s32s", raw
        )
        if magic != b"DCMV" or found != kind or cipher > 1:
            raise DamagedError("not an object of the kind that its key says")
        if version > VERSION:
            # Only a key object is known to be sound here; elsewhere the byte may be rotten.
            fault = NewerFormatError if kind == b"K" else DamagedError
            raise fault(f"an object has format version {version}")
        return cls(raw, kind, version, cipher, epoch, vault_id, salt)


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 with 32 bytes of output."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(ikm)


@functools.lru_cache(maxsize=256)
def subkey(key: bytes, salt: bytes, kind: bytes) -> AESGCM:
    """Return the cipher of one object."""
    return AESGCM(hkdf(key, salt, b"dcmvault 1 " + kind))


def unseal(
    header: Header, key: bytes, number: int, type_: bytes, ident: bytes, sealed: bytes
) -> bytes:
    """Undo `seal(number, type_, ident, x)` of section 3; `key` is the epoch or master key."""
    if header.cipher == 0:
        return sealed
    nonce = bytes(4) + struct.pack("<Q", number)
    return subkey(key, header.salt, header.kind).decrypt(nonce, sealed, header.raw + type_ + ident)


def public_and_sealed(data: bytes) -> tuple[bytes, bytes]:
    """Parts of a signed object, of kind K or S; the signature is in its last 64 bytes."""
    end = 68 + struct.unpack_from("<I", data, 64)[0]
    return data[68:end], data[end:-64]


@dataclass(frozen=True)
class Ring:
    """The keys of an opened vault."""

    vault_id: bytes
    cipher: int
    id_key: bytes
    epochs: Mapping[int, bytes]
    verify_key: Ed25519PublicKey

    def unseal(self, header: Header, number: int, type_: bytes, ident: bytes, x: bytes) -> bytes:
        """Undo `seal` in an object of any kind but K."""
        if header.vault_id != self.vault_id or header.cipher != self.cipher:
            raise DamagedError("an object of another vault")
        if header.cipher and header.epoch not in self.epochs:
            raise DamagedError(f"the key ring has no epoch {header.epoch}")
        return unseal(header, self.epochs.get(header.epoch, b""), number, type_, ident, x)

    def body(self, data: bytes, kind: bytes) -> bytes:
        """Body of an object of kind J, I or C."""
        return self.unseal(Header.read(data, kind), 0, kind, NO_ID, data[64:])


@dataclass(frozen=True)
class Secret:
    """What the caller has to open a slot of this kind with."""

    kind: str
    value: bytes

    def master_key(self, slot: Json, vault_id: bytes) -> bytes:
        """Unwrap the master key of section 4; InvalidTag when the secret is not the slot's."""
        if self.kind == "age":
            return self._by_age(base64.b64decode(slot["wrapped"]))
        ephemeral, public = bytes.fromhex(slot["ephemeral"]), bytes.fromhex(slot["public"])
        private = X25519PrivateKey.from_private_bytes(self._private_key(slot))
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        kek = hkdf(shared, ephemeral + public, b"dcmvault 1 slot")
        aad = vault_id + bytes.fromhex(slot["slot"])
        return AESGCM(kek).decrypt(bytes(12), bytes.fromhex(slot["wrapped"]), aad)

    def _private_key(self, slot: Json) -> bytes:
        if self.kind == "key_file":
            return hkdf(self.value, b"", b"dcmvault 1 key file")
        if self.kind == "recovery":
            return hkdf(self.value, b"", b"dcmvault 1 recovery")
        cost = slot["argon2id"]
        if any(cost[name] > most for name, most in ARGON2_LIMITS.items()):
            raise DamagedError(f"slot {slot['slot']} asks for too much memory or time")
        return Argon2id(
            salt=bytes.fromhex(cost["salt"]), length=32, iterations=cost["iterations"],
            lanes=cost["lanes"], memory_cost=cost["memory_kib"],
        ).derive(self.value)  # fmt: skip

    def _by_age(self, wrapped: bytes) -> bytes:
        try:
            pyrage = importlib.import_module("pyrage")
        except ImportError:
            raise CannotOpenError("an age identity needs: python -m pip install pyrage") from None
        lines = self.value.decode().split()
        identities = [
            pyrage.x25519.Identity.from_str(s) for s in lines if s.startswith("AGE-SECRET-KEY-")
        ]
        try:
            return bytes(pyrage.decrypt(wrapped, identities))
        except pyrage.DecryptError as error:
            raise InvalidTag from error


def recovery_bytes(text: str) -> bytes:
    """Bytes that four rows of recovery words stand for (section 5); ValueError on a slip."""
    words = re.findall(r"[a-z]+", text.lower())
    if len(words) != 24:
        raise ValueError(f"a recovery key has 24 words, not {len(words)}")
    result = b""
    for row in range(4):
        try:
            *data, check = (WORDS.index(word) for word in words[6 * row : 6 * row + 6])
        except ValueError:
            raise ValueError(f"row {row + 1} has a word that is not in the list") from None
        if hashlib.sha256(bytes([row, *data])).digest()[0] != check:
            raise ValueError(f"the words of row {row + 1} do not fit together")
        result += bytes(data)
    return result


def open_ring(folder: Folder, secrets: Callable[[], list[Secret]]) -> Ring:
    """Open the key ring; `secrets` is asked only when the vault is encrypted."""
    configs = list(folder.configs())
    for _, config in configs:
        if config.get("format") == "dcmvault" and config["version"] > VERSION:
            raise NewerFormatError(f"the vault has format version {config['version']}")
    keys = folder.keys("keys", r"\d{8}-")
    if not keys:
        raise CannotOpenError("there is no vault here: it has no keys/")
    if not configs:
        say("config is lost or damaged; going on with what the key ring says")
    ciphers = {config.get("cipher") for _, config in configs} or {"aes-256-gcm", "none"}
    # The highest generation first; of several, the one whose key comes first.
    for key in sorted(keys, key=lambda key: key[:13], reverse=True):
        try:
            data = folder.sound(key)
            header = Header.read(data, b"K")
            if ("aes-256-gcm" if header.cipher else "none") not in ciphers:
                raise DamagedError("it has another cipher than config says")
            if configs and not any(_signed(data, config) for _, config in configs):
                raise DamagedError("its signature is wrong")
            ring, vault_id = _read_ring(data, header, secrets), header.vault_id
        except (DamagedError, ValueError, LookupError, TypeError) as error:
            say(f"{key}: {error}")
            continue
        if ring is None and configs:
            raise CannotOpenError("nothing that was given opens a slot of its keys")
        if ring is None:
            say(f"{key}: nothing that was given opens a slot of this key ring")
            continue
        if configs and ring["config"] not in {digest for digest, _ in configs}:
            say("config is not the one that the key ring was made with; going on with the ring")
        seed = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(ring["signing_key"]))
        epochs = {entry["epoch"]: bytes.fromhex(entry["key"]) for entry in ring["epochs"]}
        return Ring(
            vault_id, header.cipher, bytes.fromhex(ring["id_key"]), epochs, seed.public_key()
        )
    raise CannotOpenError("the vault cannot be opened with that")


def _signed(data: bytes, config: Json) -> bool:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(config["verify_key"]))
    with contextlib.suppress(InvalidSignature):
        key.verify(data[-64:], data[:-64])
        return True
    return False


def _read_ring(data: bytes, header: Header, secrets: Callable[[], list[Secret]]) -> Json | None:
    """Read the ring of one object of kind K; None when no secret opens it."""
    public, sealed = public_and_sealed(data)
    if header.cipher == 0:
        return cast("Json", json.loads(sealed))
    for slot, secret in itertools.product(json.loads(public)["slots"], secrets()):
        if slot["kind"] != secret.kind:
            continue
        with contextlib.suppress(InvalidTag):
            master = secret.master_key(slot, header.vault_id)
            opened = unseal(header, master, 0, b"K", hashlib.sha256(public).digest(), sealed)
            return cast("Json", json.loads(opened))
    return None


# --- Packs and blobs: sections 6, 7, 10 ---------------------------------------------------------

ROW = np.dtype(
    [("type", "S1"), ("id", "u1", (32,)), ("at", "<u4"), ("sealed", "<u4"), ("content", "<u4")]
)


def unzstd(frame: bytes) -> bytes:
    """Content of one Zstandard frame, whether or not the frame says how long it is."""
    return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(frame))


def decode(encoding: bytes) -> bytes:
    """Content of a blob from its encoding (section 7)."""
    how, rest = encoding[0], encoding[1:]
    if how == 0:
        return rest
    if how == 1:
        return unzstd(rest)
    if how == 2:
        width, y = rest[0], np.frombuffer(unzstd(rest[1:]), np.uint8)
        words = len(y) // width
        whole = y[: words * width].reshape(width, words).T
        return whole.tobytes() + y[words * width :].tobytes()
    if how == 3:
        return _decode_samples(rest)
    if how == 4:
        return bytes(imagecodecs.jpegxl_decode_jpeg(rest, numthreads=1))
    raise DamagedError(f"encoding {how} is unknown")


def _decode_samples(data: bytes) -> bytes:
    size, flags, base, columns, rows, samples, _ = struct.unpack_from("<BBHIIBB", data)
    kind = {1: np.uint8, 2: np.uint16}[size]
    image = np.asarray(imagecodecs.jpegxl_decode(data[14:])).reshape(rows, columns, samples)
    image = image.astype(kind) + kind(base & (1 << 8 * size) - 1)
    if flags & 1:
        image ^= kind(1 << 8 * size - 1)
    if flags & 2:
        image = image.transpose(2, 0, 1)
    return bytes(image.astype(f"<u{size}").tobytes())


class Blobs:
    """Where the blobs lie, and what they hold."""

    def __init__(self, folder: Folder, ring: Ring) -> None:
        self._folder = folder
        self._ring = ring
        self._packs = folder.keys("packs", "../")
        #: Records that journals tell of: study, id of the R blob, number of instances.
        self.flushed: list[tuple[str, str, int]] = []
        #: Indexes and journals that are there and cannot be read.
        self.lost: list[str] = []
        self._rows = np.empty(0, ROW)
        #: Of each row: the number of its pack, and its own number in the pack, which the nonce has.
        self._pack = np.empty(0, np.uint32)
        self._number = np.empty(0, np.uint32)
        #: First eight bytes of each id, in ascending order, to search in.
        self._search = np.empty(0, ">u8")
        #: Numbers of the packs that no index and no journal tells of.
        self._untold: list[int] = []
        self._load()

    def _load(self) -> None:
        """Take the rows from indexes and journals, and from the footers of all other packs."""
        numbers = {key[-64:]: number for number, key in enumerate(self._packs)}
        known: dict[int, Array] = {}
        listings = [k for name in ("index", "journal") for k in self._folder.keys(name, "")]
        for key in listings:
            kind = b"I" if key.startswith("index") else b"J"
            try:
                head, rows = self._index(self._ring.body(self._folder.sound(key), kind))
            except FAULTS as error:
                say(f"{key}: {reason(error)}")
                self.lost.append(key)
                continue
            for name, _, blobs in head["packs"]:
                if name in numbers:
                    known[numbers[name]] = rows[:blobs]
                rows = rows[blobs:]
            if kind == b"J":
                self.flushed += [(study, ident, count) for study, ident, count in head["records"]]
        #: Whether what journals told of must be looked for in packs that nobody tells of.
        self.untold_count = bool(self.lost or not listings)
        self._untold = sorted(set(numbers.values()) - set(known))
        for number in self._untold:
            with contextlib.suppress(DamagedError):
                known[number] = self._footer(self._packs[number])
        if not known:
            return
        rows, lengths = np.concatenate(list(known.values())), [len(rows) for rows in known.values()]
        search = np.ascontiguousarray(rows["id"][:, :8]).view(">u8").ravel()
        order = np.argsort(search, kind="stable")
        self._rows, self._search = rows[order], search[order]
        self._pack = np.repeat(np.array(list(known), np.uint32), lengths)[order]
        self._number = np.concatenate([np.arange(n, dtype=np.uint32) for n in lengths])[order]

    @staticmethod
    def _index(body: bytes) -> tuple[Json, Array]:
        end = 4 + struct.unpack_from("<I", body)[0]
        head = json.loads(unzstd(body[4:end]))
        return head, np.frombuffer(body[end:], ROW)

    def _footer(self, key: str) -> Array:
        for path in self._folder.paths(key):
            with contextlib.suppress(*FAULTS), path.open("rb") as pack:
                header = Header.read(pack.read(64), b"P")
                pack.seek(-8, os.SEEK_END)
                length, magic = struct.unpack("<I4s", pack.read(8))
                if magic == b"DCMV":
                    pack.seek(-8 - length, os.SEEK_END)
                    sealed = pack.read(length)
                    rows = self._ring.unseal(header, 2**64 - 1, b"f", NO_ID, sealed)
                    return np.frombuffer(rows, ROW)
        say(f"{key}: its footer is damaged, and no index tells of it")
        raise DamagedError(key)

    def records(self, *, told: bool) -> list[str]:
        """Ids of all R blobs in packs that an index or a journal tells of, or in the others."""
        chosen = np.isin(self._pack, np.array(self._untold, np.uint32), invert=told)
        rows = self._rows[(self._rows["type"] == b"R") & chosen]
        return sorted({row["id"].tobytes().hex() for row in rows})

    def read(self, kind: str, ident: str) -> bytes:
        """Content of a blob, from the first place where it is sound."""
        wanted, tried = bytes.fromhex(ident), 0
        for place in self._places(kind, wanted):
            for path in self._folder.paths(self._packs[self._pack[place]]):
                tried += 1
                with contextlib.suppress(*FAULTS):
                    return self._read_at(path, self._rows[place], int(self._number[place]), wanted)
        what = "is damaged wherever it lies" if tried else "is in no pack that is there"
        raise DamagedError(f"the {kind} blob {ident} {what}")

    def has(self, kind: str, ident: str) -> bool:
        """Say whether any pack that is there has a blob, sound or not."""
        return next(self._places(kind, bytes.fromhex(ident)), None) is not None

    def _places(self, kind: str, ident: bytes) -> Iterator[int]:
        prefix = np.frombuffer(ident[:8], ">u8")[0]
        first, last = (int(np.searchsorted(self._search, prefix, s)) for s in ("left", "right"))
        for place in range(first, last):
            row = self._rows[place]
            if row["id"].tobytes() == ident and row["type"] == kind.encode():
                yield place

    def _read_at(self, path: Path, row: Any, number: int, ident: bytes) -> bytes:
        with path.open("rb") as pack:
            header = Header.read(pack.read(64), b"P")
            pack.seek(int(row["at"]))
            sealed = pack.read(int(row["sealed"]))
        kind, length = bytes(row["type"]), int(row["content"])
        content = decode(self._ring.unseal(header, number, kind, ident, sealed))
        mac = hmac.digest(self._ring.id_key, kind + hashlib.sha256(content).digest(), "sha256")
        if mac != ident or len(content) != length:
            raise DamagedError("a blob has not the content that its id says")
        return content

    def json(self, kind: str, ident: str) -> Json:
        """Content of a blob that is JSON."""
        value = json.loads(self.read(kind, ident))
        if not isinstance(value, dict):
            raise DamagedError(f"the {kind} blob {ident} is not a JSON object")
        return value


# --- Recoded pixel data: section 9 --------------------------------------------------------------


@dataclass
class JpegHead:
    """What the segments before a scan say."""

    precision: int = 0
    #: Component ids in the order of the frame, and (id, Huffman table) in the order of the scan.
    frame: list[int] = field(default_factory=list)
    scan: list[tuple[int, int]] = field(default_factory=list)
    #: JPEG lossless: Ss, Se, Ah/Al. JPEG-LS: NEAR, ILV, point transform.
    parameters: tuple[int, int, int] = (0, 0, 0)
    restart: int = 0
    #: Per table, the code of each symbol as text of 0 and 1.
    huffman: dict[int, dict[int, str]] = field(default_factory=dict)

    @classmethod
    def scans(cls, head: bytes) -> Iterator[tuple[bytes, JpegHead]]:
        """Per scan, the segments before it and what is in force (T.81 annex B, T.87 annex C)."""
        result, start, at = cls(), 0, 2
        while at < len(head):
            while head[at + 1] == 0xFF:
                at += 1
            marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
            body = head[at + 4 : at + 2 + length]
            at += 2 + length
            if marker in {0xC3, 0xF7}:
                result.precision = body[0]
                result.frame = [body[6 + 3 * i] for i in range(body[5])]
            elif marker == 0xC4:
                result._define(body)
            elif marker == 0xDD:
                result.restart = int.from_bytes(body, "big")
            elif marker == 0xDA:
                result.scan = [(body[1 + 2 * i], body[2 + 2 * i] >> 4) for i in range(body[0])]
                result.parameters = (body[-3], body[-2], body[-1])
                yield head[start:at], result
                start = at

    def _define(self, body: bytes) -> None:
        """Make the codes of a DHT segment (T.81 annex C)."""
        while body:
            table = self.huffman[body[0]] = {}
            code, at = 0, 17
            for length in range(1, 17):
                for symbol in body[at : at + body[length]]:
                    table[symbol] = f"{code:0{length}b}"
                    code += 1
                at += body[length]
                code <<= 1
            body = body[at:]


def jpeg_frame(kind: str, samples: Array, head: bytes) -> Iterator[bytes]:
    """Yield a JPEG stream up to the end of its last scan; samples: rows, columns, components."""
    for segments, jpeg in JpegHead.scans(head):
        yield segments
        chosen = samples[:, :, [jpeg.frame.index(component) for component, _ in jpeg.scan]]
        yield {"jls": jls_scan, "ljpeg": ljpeg_scan}[kind](chosen, jpeg)


def ljpeg_scan(samples: Array, jpeg: JpegHead) -> bytes:
    """Entropy-coded data of T.81 annex H (process 14)."""
    rows, columns, _ = samples.shape
    predictor, _, point = jpeg.parameters
    point &= 15
    codes = [_Codes(jpeg.huffman[table]) for _, table in jpeg.scan]
    if jpeg.restart % columns:
        raise DamagedError("a restart interval that is not made of whole rows")
    interval = jpeg.restart // columns or rows
    scan = bytearray()
    for number, start in enumerate(range(0, rows, interval)):
        if number:
            scan += bytes([0xFF, 0xD0 + (number - 1) % 8])
        part = samples[start : start + interval].astype(np.int32) >> point
        differences = _differences(part, predictor, 1 << (jpeg.precision - point - 1))
        scan += _huffman_coded(differences, codes).replace(b"\xff", b"\xff\x00")
    return bytes(scan)


def _differences(x: Array, predictor: int, first: int) -> Array:
    """Differences of one restart interval, -32767 to 32768 (T.81 H.1.2.1)."""
    a, b, c = x[1:, :-1], x[:-1, 1:], x[:-1, :-1]
    inner = [a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1]
    predicted = np.empty_like(x)
    predicted[0, 0] = first
    predicted[0, 1:] = x[0, :-1]
    predicted[1:, 0] = x[:-1, 0]
    predicted[1:, 1:] = inner[predictor - 1]
    difference = (x - predicted) & 0xFFFF
    return np.where(difference > 32768, difference - 65536, difference)


class _Codes(dict[int, str]):
    """The bits of each difference (T.81 H.1.2.2), made when they are first asked for."""

    def __init__(self, table: Mapping[int, str]) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, difference: int) -> str:
        category = abs(difference).bit_length()
        bits = self._table[category]
        # Category 16 has one member only, 32768, so it needs no further bits.
        if 0 < category < 16:
            low = difference if difference > 0 else difference + (1 << category) - 1
            bits += f"{low:0{category}b}"
        self[difference] = bits
        return bits


def _huffman_coded(differences: Array, codes: list[_Codes]) -> bytes:
    """Bits of the differences, filled up with ones to a byte; without the stuffed zeros."""
    coded, rest = bytearray(), ""
    for row in differences:
        row_codes = zip(itertools.cycle(codes), row.ravel().tolist())
        bits = rest + "".join([code[difference] for code, difference in row_codes])
        whole = len(bits) & ~7
        coded += int("0" + bits[:whole], 2).to_bytes(whole // 8, "big")
        rest = bits[whole:]
    if rest:
        coded.append(int(rest.ljust(8, "1"), 2))
    return bytes(coded)


def jls_scan(samples: Array, jpeg: JpegHead) -> bytes:
    """Entropy-coded data of T.87 with NEAR = 0, taken out of a stream that CharLS makes."""
    rows, columns, components = samples.shape
    words = samples.astype("<u1" if jpeg.precision <= 8 else "<u2")
    mode = jpeg.parameters[1] if components > 1 else 0
    made = encode_buffer(words.tobytes(), rows, columns, components, jpeg.precision, 0, mode)
    head, _ = next(JpegHead.scans(bytes(made)))
    return bytes(made)[len(head) : -2]


def rle_frame(samples: bytes, bytes_per_sample: int, components: int, control: bytes) -> bytes:
    """RLE frame of PS3.5 annex G from little endian samples and its control bytes."""
    planes = np.frombuffer(samples, np.uint8).reshape(-1, components, bytes_per_sample)
    count, *offsets = struct.unpack_from("<16I", control)
    frame, at = bytearray(control[:64]), 64
    for segment in sorted(range(count), key=lambda i: offsets[i]):
        (n,) = struct.unpack_from("<I", control, at)
        codes, at = control[at + 4 : at + 4 + n], at + 4 + n
        (g,) = struct.unpack_from("<I", control, at)
        gap, at = control[at + 4 : at + 4 + g], at + 4 + g
        sample, byte = divmod(segment, bytes_per_sample)
        plane = planes[:, sample, bytes_per_sample - 1 - byte].tobytes()
        place = 0
        for code in codes:
            frame.append(code)
            if code < 128:
                frame += plane[place : place + code + 1]
                place += code + 1
            elif code > 128:
                frame += plane[place : place + 1]
                place += 257 - code
        frame += gap
    return bytes(frame)


# --- What counts: sections 8 and 10 -------------------------------------------------------------


class State:
    """What the vault holds now, or held in one snapshot: studies, and the records of each."""

    def __init__(self, folder: Folder, ring: Ring, blobs: Blobs, snapshot: str | None) -> None:
        self._folder = folder
        self._ring = ring
        self._blobs = blobs
        #: What could not be read, so that files may be missing that nobody can name.
        self.lost: list[str] = []
        #: The `public` part of each sound snapshot.
        self.snapshots: dict[str, Json] = {}
        damaged = self._load()
        parents = {name for public in self.snapshots.values() for name in public["parents"]}
        self.heads = [name for name in self.snapshots if name not in parents]
        heads = [self._read(name)[1] for name in self.heads]
        self._states = heads if snapshot is None else [self._read(self._named(snapshot))[1]]
        #: When each study was forgotten last, and blobs that a repair gave up.
        self._forgotten: dict[str, str] = {}
        self._given_up: set[str] = set()
        self._load_forgotten([*heads, *self._states])
        #: R blobs that count beside those of snapshots, by shard and study.
        self._others: dict[str, dict[str, set[str]]] = {}
        if snapshot is None:
            gone = [name for name in damaged if name not in parents]
            self.lost += [f"{name} is damaged" for name in gone + blobs.lost]
            found = [(study, ident) for study, ident, _ in blobs.flushed]
            if gone or not self.snapshots:
                found += self._studies_of(blobs.records(told=True))
            if blobs.untold_count:
                found += self._studies_of(blobs.records(told=False))
            self._others = _by_shard(found)

    def _load(self) -> list[str]:
        """Read all snapshots; returns the names of those that are damaged."""
        damaged = []
        for key in self._folder.keys("snapshots", r"\d{8}-"):
            name = key.partition("/")[2]
            try:
                self.snapshots[name], _ = self._read(name)
            except FAULTS as error:
                say(f"{key}: {reason(error)}")
                damaged.append(name)
        return damaged

    def _read(self, name: str) -> tuple[Json, Json]:
        """Read `public` and `state` of a snapshot."""
        data = self._folder.sound(f"snapshots/{name}")
        self._ring.verify_key.verify(data[-64:], data[:-64])
        header, (public, sealed) = Header.read(data, b"S"), public_and_sealed(data)
        state = self._ring.unseal(header, 0, b"S", hashlib.sha256(public).digest(), sealed)
        return json.loads(public), json.loads(unzstd(state))

    def _named(self, wanted: str) -> str:
        names = [name for name in self.snapshots if name.startswith(wanted)]
        if len(names) != 1:
            raise CannotOpenError(f"{len(names)} sound snapshots are called {wanted}")
        return names[0]

    def _load_forgotten(self, states: list[Json]) -> None:
        """Take up what any of `states` knows to be forgotten."""
        for ident in {state["forgotten"] for state in states if state.get("forgotten")}:
            try:
                document = self._blobs.json("M", ident)
                self._given_up |= set(document.get("lost", []))
                for study, at in document["studies"].items():
                    self._forgotten[study] = max(at, self._forgotten.get(study, ""))
            except FAULTS as error:
                self._note("which studies were forgotten", error)

    def expects(self, kind: str, ident: str, study: str = "") -> bool:
        """Whether a blob should be there: it was not given up, nor forgotten and pruned."""
        gone = ident in self._given_up or (kind == "R" and study in self._forgotten)
        return not gone or self._blobs.has(kind, ident)

    def _note(self, what: str, error: Exception) -> None:
        note = f"{what}: {reason(error)}"
        self.lost += [note] if note not in self.lost else []

    def _studies_of(self, idents: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the study of each R blob, and its id."""
        for ident in idents:
            try:
                yield str(self._blobs.json("R", ident)["study"]), ident
            except FAULTS as error:
                self._note("a record", error)

    @functools.cached_property
    def _all_records(self) -> dict[str, dict[str, set[str]]]:
        """All R blobs, by shard and study: what stands in for a shard or a manifest."""
        told = self._blobs.records(told=True), self._blobs.records(told=False)
        return _by_shard(self._studies_of(itertools.chain(*told)))

    def studies(self, only: str | None) -> Iterator[tuple[str, list[str]]]:
        """Each study and its R blobs; where a shard or manifest is damaged, all that there are."""
        for shard in [f"{n:02x}" for n in range(256)] if only is None else [_shard(only)]:
            found = {study: set(ids) for study, ids in self._others.get(shard, {}).items()}
            shards = {state["shards"][shard] for state in self._states if shard in state["shards"]}
            for ident in shards:
                if not self.expects("M", ident):
                    continue
                try:
                    for study, entry in self._blobs.json("M", ident)["studies"].items():
                        if only is None or only == study:
                            found.setdefault(study, set()).update(self._manifest(study, entry))
                except FAULTS as error:
                    self._note(f"shard {shard} of the studies", error)
                    for study, ids in self._all_records.get(shard, {}).items():
                        found.setdefault(study, set()).update(ids)
            for study in sorted(found) if only is None else found.keys() & {only}:
                yield study, sorted(i for i in found[study] if self.expects("R", i, study))

    def _manifest(self, study: str, entry: Json) -> set[str]:
        if not self.expects("M", entry["manifest"]):
            return set()
        try:
            return {ident for ident, _ in self._blobs.json("M", entry["manifest"])["records"]}
        except FAULTS as error:
            self._note(f"manifest of study {study}", error)
            return self._all_records.get(_shard(study), {}).get(study, set())

    def counting(self, record: Json) -> list[Json]:
        """Return the files of a record that were not forgotten, and lack nothing given up."""
        if str(record["stored_at"]) <= self._forgotten.get(record["study"], ""):
            return []
        return [item for item in record["instances"] if self._is_whole(item)]

    def _is_whole(self, item: Json) -> bool:
        if not self._given_up:
            return True
        needed = [("H", item["skeleton"][0])] if item["skeleton"][0] else []
        for _, kind, *rest in item["values"]:
            if kind in {"v", "f"}:
                needed += [(kind.upper(), ident) for ident in rest[-1]]
            elif kind != "more":
                needed.append(("F", rest[0]))
        return all(self.expects(*blob) for blob in needed)

    def sidecars(self) -> Iterator[tuple[str, str, int, str, list[str]]]:
        """Source, name, size, SHA-256 and V blobs of each file that came along with a source."""
        newest: Json = {}
        for state in sorted(self._states, key=lambda state: str(state["created_at"])):
            newest |= state.get("sidecars", {})
        for source, sidecars in newest.items():
            for name, size, sha256, ids in sidecars:
                yield source, name, size, sha256, ids


def _shard(study: str) -> str:
    return hashlib.sha256(study.encode("utf-8", "surrogatepass")).hexdigest()[:2]


def _by_shard(records: Iterable[tuple[str, str]]) -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = {}
    for study, ident in records:
        found.setdefault(_shard(study), {}).setdefault(study, set()).add(ident)
    return found


# --- Files --------------------------------------------------------------------------------------


def safe_parts(locator: str) -> list[str]:
    """Folders and name below OUT for a locator (section 8), whatever it says."""
    parts = []
    for part in locator.split("/"):
        name = re.sub(
            r"\\(\\|x[89a-f][0-9a-f])",
            lambda found: chr(0xDC00 + int(found[1][1:], 16)) if found[1] != "\\" else "\\",
            part,
        )
        name = re.sub(r"[\x00-\x1f\x7f]", "_", name)
        if os.name == "nt":
            name = re.sub(r'[\\<>:"|?*]|[. ]+$', "_", name)
        try:
            raw = os.fsencode(name)
        except UnicodeEncodeError:
            raw = name.encode("utf-8", "replace")
        if len(raw) > 255:
            raw = raw[:120] + raw[-120:]
        if raw not in {b"", b".", b".."}:
            parts.append(os.fsdecode(raw))
    return parts or ["file"]


def place(folder: Path, parts: list[str], size: int, sha256: str) -> tuple[Path, bool]:
    """Path for a file below `folder`, and whether it is there already with this content.

    A name that something else has gets "~2", "~3" ... before its suffix. Links are not followed.
    """
    for depth, part in enumerate(parts):
        stem, dot, suffix = part.rpartition(".")
        stem, suffix = (stem, dot + suffix) if stem else (part, "")
        for number in itertools.count(1):
            path = folder / (part if number == 1 else f"{stem[:50]}~{number}{suffix[-10:]}")
            if depth < len(parts) - 1:
                if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
                    break
            elif not os.path.lexists(path):
                return path, False
            elif path.is_file() and not path.is_symlink() and path.stat().st_size == size:
                with path.open("rb") as there:
                    if hashlib.file_digest(there, "sha256").hexdigest() == sha256:
                        return path, True
        path.mkdir(exist_ok=True)
        folder = path
    raise ValueError("a path without parts")


class Rescue:
    """Makes files of records again."""

    def __init__(self, blobs: Blobs, state: State, out: Path) -> None:
        self._blobs = blobs
        self._state = state
        self._out = out
        self._header_block = functools.lru_cache(maxsize=4)(functools.partial(blobs.read, "H"))
        self.restored, self.bytes, self.failed = 0, 0, 0

    def fail(self, what: str, why: Exception) -> None:
        """Name something that could not be restored."""
        self.failed += 1
        say(f"not restored: {what}: {reason(why)}")

    def records(self, study: str, idents: Iterable[str], *, quiet: bool) -> Iterator[Json]:
        """Yield the records of a study that are readable and count."""
        for ident in idents:
            try:
                record = self._blobs.json("R", ident)
                record["instances"] = self._state.counting(record)
                if record["study"] == study and record["instances"]:
                    yield record
            except FAULTS as error:
                if not quiet:
                    self.fail(f"some files of study {study}", error)

    def instances(self, study: str, idents: list[str]) -> Iterator[tuple[str, Json]]:
        """Source and description of each file of a study that counts (end of section 8)."""
        latest: dict[bytes, tuple[str, str, str]] = {}
        for record in self.records(study, idents, quiet=False):
            for item in record["instances"]:
                key, version = self._key(record, item)
                latest[key] = max(version, latest.get(key, version))
        for record in self.records(study, idents, quiet=True):
            for item in record["instances"]:
                key, version = self._key(record, item)
                if latest.get(key) == version:
                    del latest[key]
                    yield record["source"], item

    @staticmethod
    def _key(record: Json, item: Json) -> tuple[bytes, tuple[str, str, str]]:
        """Return what the versions of a file have in common, and what puts them in order."""
        text = json.dumps([record["source"], item["locator"], item["sop"]])
        version = (str(record["stored_at"]), str(record["run"]), str(item["sha256"]))
        return hashlib.sha256(text.encode()).digest()[:16], version

    def everything(self, only: str | None) -> None:
        """Restore all files that count, those of one study if `only` is given."""
        sources = set() if only is not None else {entry[0] for entry in self._state.sidecars()}
        for study, idents in self._state.studies(only):
            sources |= {r["source"] for r in self.records(study, idents, quiet=True)}
        folders = {
            source: [f"{number}-{safe_parts(source)[-1]}"] if len(sources) > 1 else []
            for number, source in enumerate(sorted(sources), 1)
        }
        for study, idents in self._state.studies(only):
            for source, item in self.instances(study, idents):
                parts = [*folders[source], *safe_parts(item["locator"])]
                self._one(parts, item["locator"], item, functools.partial(self._pieces, item))
        for source, name, size, sha256, ids in [] if only is not None else self._state.sidecars():
            item = {"size": size, "sha256": sha256}
            label = folders[source] or safe_parts(source)[-1:]
            parts = ["_library", *label, *safe_parts(name)]
            self._one(parts, name, item, functools.partial(self._joined, "V", ids))

    def _one(
        self, parts: list[str], name: str, item: Json, pieces: Callable[[], Iterator[bytes]]
    ) -> None:
        """Write one file; it gets its name when it is known to be right."""
        partial = self._out / ".rescue-partial"
        try:
            path, there = place(self._out, parts, item["size"], item["sha256"])
            if not there:
                digest, size = hashlib.sha256(), 0
                with partial.open("wb") as file:
                    for piece in pieces():
                        file.write(piece)
                        digest.update(piece)
                        size += len(piece)
                if size != item["size"] or digest.hexdigest() != item["sha256"]:
                    raise DamagedError("what its record says does not give its SHA-256")
                partial.rename(path)
            if item.get("mtime_ns"):
                os.utime(path, ns=(item["mtime_ns"], item["mtime_ns"]))
            self.restored += 1
            self.bytes += item["size"]
        except FAULTS as error:
            self.fail(name, error)
        finally:
            partial.unlink(missing_ok=True)

    def _pieces(self, item: Json) -> Iterator[bytes]:
        """Bytes of a file: the literal part with the values put in (section 8)."""
        ident, offset, length, literal = item["skeleton"]
        skeleton = self._header_block(ident)[offset : offset + length] if ident else b""
        if len(skeleton) != length or literal > length:
            raise DamagedError("its skeleton is not where its record says")
        at, stream, values = 0, b"", item["values"]
        for number, (position, kind, *rest) in enumerate(values, 1):
            if not at <= position <= literal:
                raise DamagedError("its values are not in order")
            yield skeleton[at:position]
            at = position
            if kind == "v":
                yield from self._joined("V", rest[0])
                continue
            if kind == "f":
                yield from _swapped(self._joined("F", rest[1]), rest[0])
                continue
            if kind == "more":
                taken = rest[0]
            else:
                auxiliary = skeleton[literal:]
                stream = b"".join(self._recoded(kind, rest[0], rest[1], rest[2:], auxiliary))
                further = itertools.takewhile(lambda value: value[1] == "more", values[number:])
                taken = len(stream) - sum(length for _, _, length in further)
            if not 0 <= taken <= len(stream):
                raise DamagedError("a stream is shorter than its fragments")
            yield stream[:taken]
            stream = stream[taken:]
        yield skeleton[at:literal]

    def _joined(self, kind: str, idents: list[str]) -> Iterator[bytes]:
        return (self._blobs.read(kind, ident) for ident in idents)

    def _recoded(
        self, kind: str, ident: str, shape: list[int], spans: list[list[int]], auxiliary: bytes
    ) -> Iterator[bytes]:
        """Yield a frame in the compressed form in which it was found (section 9)."""
        columns, rows, components, size, precision = shape
        samples = np.frombuffer(self._blobs.read("F", ident), f"<u{size}")
        samples = samples.reshape(rows, columns, components)
        if precision < 8 * size:
            samples = samples & samples.dtype.type((1 << precision) - 1)
        texts = [auxiliary[offset : offset + length] for offset, length in spans]
        if kind == "rle":
            yield rle_frame(samples.tobytes(), size, components, texts[0])
            return
        yield from jpeg_frame(kind, samples, texts[0])
        yield texts[1]


def _swapped(pieces: Iterable[bytes], width: int) -> Iterator[bytes]:
    """Reverse the bytes of each word of the joined pieces."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        whole = len(data) - len(data) % width
        yield np.frombuffer(data[:whole], np.uint8).reshape(-1, width)[:, ::-1].tobytes()
        rest = data[whole:]
    yield rest


# --- The command --------------------------------------------------------------------------------


def _secrets(options: argparse.Namespace) -> list[Secret]:
    if options.key_file:
        return [Secret("key_file", options.key_file.read_bytes())]
    if options.age_identity:
        return [Secret("age", options.age_identity.read_bytes())]
    if options.recovery_file:
        return [Secret("recovery", recovery_bytes(options.recovery_file.read_text("utf-8")))]
    if options.passphrase_file:
        text = options.passphrase_file.read_text("utf-8").rstrip("\r\n")
    else:
        text = os.environ.get("DCMVAULT_PASSPHRASE") or getpass.getpass(
            "Passphrase, or the 24 words of the recovery key: "
        )
    secrets = [Secret("passphrase", unicodedata.normalize("NFC", text).encode())]
    with contextlib.suppress(ValueError):
        secrets.append(Secret("recovery", recovery_bytes(text)))
    return secrets


def _list(state: State, rescue: Rescue, only: str | None) -> None:
    for name, public in sorted(state.snapshots.items()):
        head = "head" if name in state.heads else ""
        print("snapshot", name, public["created_at"], head, sep="\t")
    for study, idents in state.studies(only):
        about: Json = {}
        for record in rescue.records(study, idents, quiet=True):
            about |= record.get("attributes", {})
        files = [item for _, item in rescue.instances(study, idents)]
        if files or idents:
            size = f"{sum(item['size'] for item in files)} bytes"
            who = [shown(about.get(name, "")) for name in ("study_date", "patient_name")]
            print("study", shown(study) or "-", f"{len(files)} files", size, *who, sep="\t")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vault", type=Path, metavar="VAULT", help="folder of the vault")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="where the files go")
    keys = parser.add_mutually_exclusive_group()
    for name in ("passphrase-file", "key-file", "recovery-file", "age-identity"):
        keys.add_argument(
            f"--{name}",
            type=Path,
            metavar="F",
            help="what opens the vault; without "
            "one, the passphrase or the recovery words are taken from DCMVAULT_PASSPHRASE or asked",
        )
    parser.add_argument("--snapshot", metavar="ID", help="its state instead of the present one")
    parser.add_argument("--study", metavar="UID", help="only this study ('' for other files)")
    parser.add_argument("--list", action="store_true", help="list snapshots and studies only")
    options = parser.parse_args(arguments)
    if options.out is None and not options.list:
        parser.error("OUT is missing")
    try:
        folder = Folder(options.vault)
        asked = functools.cache(lambda: _secrets(options))
        ring = open_ring(folder, asked)
        blobs = Blobs(folder, ring)
        state = State(folder, ring, blobs, options.snapshot)
        rescue = Rescue(blobs, state, options.out)
    except NewerFormatError as error:
        say(f"{error}: a newer rescue.py is needed")
        return 4
    except (CannotOpenError, EOFError, OSError, ValueError) as error:
        say(f"cannot open the vault: {error}")
        return 5
    if options.list:
        _list(state, rescue, options.study)
    else:
        options.out.mkdir(mode=0o700, parents=True, exist_ok=True)
        rescue.everything(options.study)
    for what in state.lost:
        say(f"files may be missing: {what}")
    if not options.list:
        say(f"{rescue.restored} files restored ({rescue.bytes} bytes), {rescue.failed} not")
    return 3 if rescue.failed or state.lost else 0


if __name__ == "__main__":
    sys.exit(main())
