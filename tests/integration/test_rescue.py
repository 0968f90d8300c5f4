"""The rescue tool against vaults that this file makes by hand, from the format page as well."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pydicom.data
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydicom.encaps import generate_frames
from tools import rescue

ROOT = Path(__file__).resolve().parents[2]
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
PASSPHRASE = "correct horse bätteri"
RECOVERY = bytes(range(100, 120))
STUDY = "1.2.3"
AT = "2026-01-31T12:34:56.789012Z"
LATER = "2026-02-01T00:00:00.000000Z"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hkdf(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(ikm)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def compact(value: object) -> bytes:
    return json.dumps(value).encode()


class Maker:
    """A tiny writer of vaults."""

    def __init__(self, root: Path, *, cipher: str = "aes-256-gcm") -> None:
        self.root = root
        self.cipher = int(cipher == "aes-256-gcm")
        self.vault_id = os.urandom(16)
        self.master = os.urandom(32) if self.cipher else bytes(32)
        self.epoch_key = os.urandom(32)
        self.id_key = os.urandom(32)
        self.signing = Ed25519PrivateKey.generate()
        self.rows: dict[str, bytes] = {}
        self.packs: list[tuple[str, int, int]] = []
        config = compact(
            {
                "format": "dcmvault",
                "version": 1,
                "vault_id": self.vault_id.hex(),
                "created_at": AT,
                "cipher": cipher,
                "copies": 3,
                "parity": False,
                "ballast": 0,
                "verify_key": self.signing.public_key().public_bytes_raw().hex(),
            }
        )
        config += b"\n"
        self.config = config + b"sha256:" + sha(config).encode() + b"\n"
        for key in ("config", "copies/1/config", "copies/2/config"):
            self.put(key, self.config)

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def named(self, prefix: str, data: bytes, copies: int = 3) -> str:
        for place in ("", "copies/1/", "copies/2/")[:copies]:
            self.put(f"{place}{prefix}{sha(data)}", data)
        return sha(data)

    def header(self, kind: bytes, epoch: int = 1) -> bytes:
        fields = struct.pack("<4scBBBII", b"DCMV", kind, 1, self.cipher, 0, epoch, 0)
        return fields + self.vault_id + os.urandom(32)

    def seal(
        self, header: bytes, n: int, type_: bytes, ident: bytes, x: bytes, key: bytes = b""
    ) -> bytes:
        if not self.cipher:
            return x
        subkey = hkdf(key or self.epoch_key, header[32:], b"dcmvault 1 " + header[4:5])
        nonce = bytes(4) + n.to_bytes(8, "little")
        return AESGCM(subkey).encrypt(nonce, x, header + type_ + ident)

    def slot(self, number: int, kind: str, private: bytes, **members: Any) -> dict[str, Any]:
        public = X25519PrivateKey.from_private_bytes(private).public_key()
        one_time = X25519PrivateKey.generate()
        ephemeral = one_time.public_key().public_bytes_raw()
        kek = hkdf(
            one_time.exchange(public), ephemeral + public.public_bytes_raw(), b"dcmvault 1 slot"
        )
        name = number.to_bytes(4, "big")
        wrapped = AESGCM(kek).encrypt(bytes(12), self.master, self.vault_id + name)
        return {
            "slot": name.hex(),
            "kind": kind,
            "label": "",
            "created_at": AT,
            "public": public.public_bytes_raw().hex(),
            "ephemeral": ephemeral.hex(),
            "wrapped": wrapped.hex(),
            **members,
        }

    def keys(self, slots: list[dict[str, Any]], generation: int = 1) -> None:
        public = compact({"generation": generation, "created_at": AT, "slots": slots})
        ring = compact(
            {
                "config": sha(self.config),
                "id_key": self.id_key.hex(),
                "signing_key": self.signing.private_bytes_raw().hex(),
                "epochs": [{"epoch": 1, "key": self.epoch_key.hex(), "opened_at": AT}],
                "rotation": {"days": 365, "bytes": 1},
                "slots": [],
            }
        )
        header = self.header(b"K", generation)
        sealed = self.seal(header, 0, b"K", hashlib.sha256(public).digest(), ring, self.master)
        data = header + len(public).to_bytes(4, "little") + public + sealed
        self.named(f"keys/{generation:08d}-", data + self.signing.sign(data))

    def passphrase_slot(self, number: int = 1) -> dict[str, Any]:
        salt = os.urandom(16)
        private = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=64).derive(
            PASSPHRASE.encode()
        )
        cost = {"salt": salt.hex(), "iterations": 1, "lanes": 1, "memory_kib": 64}
        return self.slot(number, "passphrase", private, argon2id=cost)

    def blob_id(self, kind: str, content: bytes) -> str:
        digest = hashlib.sha256(content).digest()
        return hmac.new(self.id_key, kind.encode() + digest, "sha256").hexdigest()

    def pack(self, blobs: Iterable[tuple[str, bytes, bytes]]) -> list[str]:
        """Write a pack of (type, content, encoding); returns the ids."""
        header = self.header(b"P")
        data, rows, ids = header, b"", []
        for n, (kind, content, encoding) in enumerate(blobs):
            ident = bytes.fromhex(self.blob_id(kind, content))
            sealed = self.seal(header, n, kind.encode(), ident, encoding)
            rows += (
                kind.encode() + ident + struct.pack("<III", len(data), len(sealed), len(content))
            )
            data += sealed
            ids.append(ident.hex())
        footer = self.seal(header, 2**64 - 1, b"f", bytes(32), rows)
        data += footer + len(footer).to_bytes(4, "little") + b"DCMV"
        name = self.named(f"packs/{sha(data)[:2]}/", data, copies=1)
        self.rows[name] = rows
        self.packs.append((name, len(data), len(rows) // 45))
        return ids

    def plain(self, kind: str, *contents: bytes) -> list[str]:
        return self.pack([(kind, content, b"\x01" + zstd(content)) for content in contents])

    def listing(self, kind: str, records: list[tuple[str, str, int]]) -> str:
        """Write a journal ("J") or an index ("I") of all packs."""
        head = zstd(compact({"packs": self.packs, "records": records, "source": "", "run": "r"}))
        body = len(head).to_bytes(4, "little") + head
        body += b"".join(self.rows[name] for name, _, _ in self.packs)
        header = self.header(kind.encode())
        sealed = self.seal(header, 0, kind.encode(), bytes(32), body)
        return self.named("journal/" if kind == "J" else "index/", header + sealed)

    def snapshot(
        self,
        studies: dict[str, list[str]],
        *,
        generation: int = 1,
        parents: Iterable[str] = (),
        forgotten: dict[str, str] | None = None,
        sidecars: dict[str, Any] | None = None,
    ) -> str:
        shards: dict[str, dict[str, Any]] = {}
        for study, records in studies.items():
            manifest = {"study": study, "records": [[ident, 1] for ident in records]}
            (ident,) = self.plain("M", compact(manifest))
            entry = {"manifest": ident, "instances": 1, "bytes": 1, "about": {}}
            shards.setdefault(sha(study.encode())[:2], {})[study] = entry
        state = {
            "kind": "backup",
            "created_at": AT,
            "shards": {
                name: self.plain("M", compact({"studies": entries}))[0]
                for name, entries in shards.items()
            },
            "holds": "",
            "forgotten": "",
            "sidecars": sidecars or {},
        }
        if forgotten:
            (state["forgotten"],) = self.plain(
                "M", compact({"snapshots": [], "studies": forgotten})
            )
        public = compact({"generation": generation, "parents": list(parents), "created_at": AT})
        header = self.header(b"S")
        data = header + len(public).to_bytes(4, "little") + public
        data += self.seal(header, 0, b"S", hashlib.sha256(public).digest(), zstd(compact(state)))
        data += self.signing.sign(data)
        return f"{generation:08d}-" + self.named(f"snapshots/{generation:08d}-", data)

    def instance(
        self, locator: str, data: bytes, values: Sequence[Any] = (), auxiliary: bytes = b"",
        literal: bytes | None = None, sop: str = "1.2.3.9",
    ) -> dict[str, Any]:  # fmt: skip
        """Describe a file; without values it is all skeleton."""
        literal = data if literal is None else literal
        before = b"other skeletons"
        _, block = self.plain("H", b"another block", before + literal + auxiliary)
        return {
            "sop": sop, "series": "", "class": "", "syntax": "", "number": "",
            "locator": locator, "size": len(data), "mtime_ns": 1_700_000_000_000_000_000,
            "sha256": sha(data), "opaque": "",
            "skeleton": [block, len(before), len(literal + auxiliary), len(literal)],
            "values": list(values),
        }  # fmt: skip

    def record(
        self, instances: list[dict[str, Any]], *, study: str = STUDY, source: str = "/data/images",
        stored_at: str = AT,
    ) -> str:  # fmt: skip
        record = {
            "study": study, "source": source, "run": "r", "stored_at": stored_at,
            "attributes": {"patient_name": "Doe^Jane", "study_date": "20260131"}, "series": {},
            "instances": instances,
        }  # fmt: skip
        return self.plain("R", compact(record))[0]


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    made = Maker(tmp_path / "vault", cipher="none")
    made.keys([])
    return made


def restored(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def run(maker: Maker, out: Path, *options: str) -> dict[str, bytes]:
    assert rescue.main([str(maker.root), str(out), *options]) == 0
    return restored(out)


def small_vault(maker: Maker) -> str:
    """One file; returns the snapshot's name."""
    record = maker.record([maker.instance("a/b.dcm", b"content of b")])
    name = maker.snapshot({STUDY: [record]})
    maker.listing("I", [])
    return name


SMALL = {"a/b.dcm": b"content of b"}


def words(secret: bytes) -> str:
    rows = []
    for row in range(4):
        part = secret[5 * row : 5 * row + 5]
        check = hashlib.sha256(bytes([row]) + part).digest()[:1]
        rows.append(" ".join(rescue.WORDS[b].upper() for b in part + check))
    return " -\n".join(rows)


@pytest.fixture
def encrypted(tmp_path: Path) -> Maker:
    made = Maker(tmp_path / "vault")
    made.keys(
        [
            made.passphrase_slot(),
            made.slot(2, "key_file", hkdf(b"key file", b"", b"dcmvault 1 key file")),
            made.slot(3, "recovery", hkdf(RECOVERY, b"", b"dcmvault 1 recovery")),
        ]
    )
    small_vault(made)
    return made


def test_a_vault_without_encryption(maker: Maker, tmp_path: Path) -> None:
    small_vault(maker)
    assert run(maker, tmp_path / "out") == SMALL
    path = tmp_path / "out/a/b.dcm"
    assert path.stat().st_mtime_ns == 1_700_000_000_000_000_000
    assert run(maker, tmp_path / "out") == SMALL, "what is there already is not restored again"


def test_each_kind_of_slot_opens_the_vault(
    encrypted: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    (tmp_path / "words").write_text(words(RECOVERY), encoding="utf-8")
    (tmp_path / "key").write_bytes(b"key file")
    for option, name in (("passphrase", "passphrase"), ("recovery", "words"), ("key", "key")):
        options = (f"--{option}-file", str(tmp_path / name))
        assert run(encrypted, tmp_path / f"out-{option}", *options) == SMALL
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "correct horse ba\u0308tteri")
    assert run(encrypted, tmp_path / "out-nfc") == SMALL
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", words(RECOVERY))
    assert run(encrypted, tmp_path / "out-words") == SMALL


def test_a_slot_that_was_removed_opens_no_older_generation(
    encrypted: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted.keys([encrypted.passphrase_slot(7)], 2)
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)
    assert run(encrypted, tmp_path / "out") == SMALL
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", words(RECOVERY))
    assert rescue.main([str(encrypted.root), str(tmp_path / "out-2")]) == 5


def test_an_age_identity_opens_the_vault(tmp_path: Path) -> None:
    pyrage = pytest.importorskip("pyrage")
    made = Maker(tmp_path / "vault")
    identity = pyrage.x25519.Identity.generate()
    wrapped = base64.b64encode(pyrage.encrypt(made.master, [identity.to_public()])).decode()
    slot = {"slot": "00000001", "kind": "age", "wrapped": wrapped}
    made.keys([{**slot, "recipient": str(identity.to_public())}])
    small_vault(made)
    (tmp_path / "identity").write_text(f"# made by age-keygen\n{identity}\n", encoding="utf-8")
    options = ("--age-identity", str(tmp_path / "identity"))
    assert run(made, tmp_path / "out", *options) == SMALL


def test_a_key_ring_that_others_signed_does_not_count(
    encrypted: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").write_text(PASSPHRASE, encoding="utf-8")
    own, encrypted.signing = encrypted.signing, Ed25519PrivateKey.generate()
    encrypted.keys([encrypted.passphrase_slot()], 2)
    encrypted.signing = own
    assert run(encrypted, tmp_path / "out", "--passphrase-file", str(tmp_path / "p")) == SMALL
    assert "its signature is wrong" in capsys.readouterr().err


def test_what_cannot_be_opened(
    encrypted: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", "wrong")
    assert rescue.main([str(encrypted.root), str(tmp_path / "out")]) == 5
    assert rescue.main([str(tmp_path), str(tmp_path / "out")]) == 5
    (tmp_path / "words").write_text(words(RECOVERY)[:-5], encoding="utf-8")
    options = ["--recovery-file", str(tmp_path / "words")]
    assert rescue.main([str(encrypted.root), str(tmp_path / "out"), *options]) == 5
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as status:
        rescue.main([str(encrypted.root)])
    assert status.value.code == 2


def test_a_newer_format_is_refused(maker: Maker, tmp_path: Path) -> None:
    small_vault(maker)
    newer = compact({"format": "dcmvault", "version": 2, "cipher": "none"}) + b"\n"
    maker.put("config", newer + b"sha256:" + sha(newer).encode())
    assert rescue.main([str(maker.root), str(tmp_path / "out")]) == 4


def test_values_of_every_encoding(maker: Maker, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    gray = np.cumsum(rng.integers(-3, 4, (24, 20), dtype=np.int16), axis=1, dtype=np.int16)
    colour = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    narrow = rng.integers(500, 700, (6, 8, 1), dtype=np.uint16)
    odd = rng.integers(0, 256, 4 * 25 + 3, dtype=np.uint8).tobytes()
    jpeg = bytes(imagecodecs.jpeg8_encode(colour, level=80))

    def samples(array: Any, flags: int, base: int, *, bits: int | None = None) -> bytes:
        """Encoding 3 of rows, columns, samples as the codestream has them."""
        stream = imagecodecs.jpegxl_encode(
            array, lossless=True, usecontainer=False, bitspersample=bits
        )
        rows, columns, count = (*array.shape, 1)[:3]
        fields = (3, array.itemsize, flags, base, columns, rows, count, 0)
        return struct.pack("<BBBHIIBB", *fields) + bytes(stream)

    unsigned = gray.view(np.uint16) ^ 0x8000
    base = int(unsigned.min())
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1))
    shuffled = np.frombuffer(odd[:100], np.uint8).reshape(25, 4).T.tobytes() + odd[100:]
    blobs = [
        ("F", gray.tobytes(), samples(unsigned - np.uint16(base), 1, base)),
        ("F", planes.tobytes(), samples(colour, 2, 0)),
        ("F", narrow.tobytes(), samples(narrow - np.uint16(500), 0, 500, bits=10)),
        ("V", odd, b"\x02\x04" + zstd(shuffled)),
        ("V", jpeg, b"\x04" + bytes(imagecodecs.jpegxl_encode_jpeg(jpeg))),
        ("V", b"raw", b"\x00raw"),
    ]  # fmt: skip
    signed, planar, wide, bytes_, photo, raw = maker.pack(blobs)
    data = (
        b"AB" + gray.tobytes() + planes.tobytes() + b"C"
        + narrow.tobytes()
        + gray.byteswap().tobytes() + odd + b"raw" + jpeg + b"raw"
    )  # fmt: skip
    values = [
        [2, "f", 1, [signed]],
        [2, "f", 1, [planar]],
        [3, "f", 1, [wide]],
        [3, "f", 2, [signed]],
        [3, "v", [bytes_, raw]],
        [3, "v", [photo]],
        [3, "v", [raw]],
    ]
    item = maker.instance("x.dcm", data, values, literal=b"ABC")
    maker.listing("J", [(STUDY, maker.record([item]), 1)])
    assert run(maker, tmp_path / "out") == {"x.dcm": data}


def test_words_that_pieces_cut_are_swapped(maker: Maker, tmp_path: Path) -> None:
    words_ = bytes(range(24))
    ids = maker.plain("F", words_[:7], words_[7:9], words_[9:])
    data = np.frombuffer(words_, "<u4").astype(">u4").tobytes()
    item = maker.instance("big.dcm", data, [[0, "f", 4, ids]], literal=b"")
    maker.snapshot({STUDY: [maker.record([item])]})
    assert run(maker, tmp_path / "out") == {"big.dcm": data}


def frames(name: str) -> tuple[pydicom.Dataset, list[bytes]]:
    dataset = pydicom.dcmread(TEST_FILES / name)
    number = int(dataset.get("NumberOfFrames", 1))
    return dataset, list(generate_frames(dataset.PixelData, number_of_frames=number))


def jpeg_parts(stream: bytes) -> tuple[bytes, bytes]:
    """Split off head and tail of a JPEG stream."""
    at = stream.index(b"\xff\xda")
    at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    end = stream.rindex(b"\xff\xd9")
    return stream[:at], stream[end:]


def rle_control(frame: bytes) -> bytes:
    """Take the literals out of an RLE frame (the reverse of section 9)."""
    count, *offsets = struct.unpack_from("<16I", frame)
    ends = sorted([*offsets[:count], len(frame)])
    size = 64 * 64
    control = frame[:64]
    for start in sorted(offsets[:count]):
        end, at, codes, done = ends[ends.index(start) + 1], start, b"", 0
        while done < size:
            code = frame[at]
            codes += bytes([code])
            if code < 128:
                at, done = at + 2 + code, done + code + 1
            elif code > 128:
                at, done = at + 2, done + 257 - code
            else:
                at += 1
        control += len(codes).to_bytes(4, "little") + codes
        control += (end - at).to_bytes(4, "little") + frame[at:end]
    return control


def test_recoded_frames_of_real_files(encrypted: Maker, tmp_path: Path) -> None:
    files, items = {}, []
    for name, kind in (
        ("MR_small_jpeg_ls_lossless.dcm", "jls"),
        ("SC_rgb_jpeg_gdcm.dcm", "ljpeg"),
        ("MR_small_RLE.dcm", "rle"),
    ):
        dataset, (frame,) = frames(name)
        whole = (TEST_FILES / name).read_bytes()
        frame = frame.rstrip(b"\0") if kind != "rle" else frame
        if kind == "rle":
            spans, auxiliary = [[0, len(rle_control(frame))]], rle_control(frame)
            pixels = dataset.pixel_array.view("<u2")
        else:
            head, tail = jpeg_parts(frame)
            auxiliary = head + tail
            spans = [[0, len(head)], [len(head), len(tail)]]
            read = imagecodecs.jpegls_decode if kind == "jls" else imagecodecs.jpegsof3_decode
            pixels = np.ascontiguousarray(read(frame))
        size = pixels.dtype.itemsize
        (ident,) = encrypted.plain("F", pixels.tobytes())
        rows, columns, samples = (*pixels.shape, 1)[:3]
        shape = [columns, rows, samples, size, 8 * size]
        at = whole.index(frame)
        literal = whole[:at] + whole[at + len(frame) :]
        value = [at, kind, ident, shape, *spans]
        items.append(encrypted.instance(name, whole, [value], auxiliary, literal))
        files[name] = whole
    encrypted.listing("J", [(STUDY, encrypted.record(items), 3)])
    (tmp_path / "p").write_text(PASSPHRASE, encoding="utf-8")
    options = ("--passphrase-file", str(tmp_path / "p"))
    assert run(encrypted, tmp_path / "out", *options) == {**files, **SMALL}


def test_lost_indexes_journals_and_snapshots(
    encrypted: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)
    record = encrypted.record([encrypted.instance("late.dcm", b"late")])
    encrypted.listing("J", [(STUDY, record, 1)])
    everything = {**SMALL, "late.dcm": b"late"}
    assert run(encrypted, tmp_path / "out-0") == everything
    for number, lost in enumerate(("index", "journal", "snapshots"), 1):
        for place in ("", "copies/1", "copies/2"):
            shutil.rmtree(encrypted.root / place / lost)
        assert run(encrypted, tmp_path / f"out-{number}") == everything


def test_damaged_copies_are_passed_over(
    encrypted: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCMVAULT_PASSPHRASE", PASSPHRASE)
    for path in encrypted.root.rglob("*"):
        parts = path.relative_to(encrypted.root).parts
        if path.is_file() and parts[0] not in {"copies", "packs"}:
            path.write_bytes(b"rotten")
        elif path.is_file() and parts[:2] == ("copies", "1"):
            path.unlink()
    assert run(encrypted, tmp_path / "out") == SMALL


def test_a_blob_that_is_rotten_in_one_pack_is_read_from_another(
    maker: Maker, tmp_path: Path
) -> None:
    (ident,) = maker.plain("V", b"value")
    (first, *_) = maker.packs[-1]
    # Another pack with the same blob, in another encoding.
    assert maker.pack([("V", b"value", b"\x00value")]) == [ident]
    item = maker.instance("v.dcm", b"value", [[0, "v", [ident]]], literal=b"")
    maker.snapshot({STUDY: [maker.record([item])]})
    path = maker.root / "packs" / first[:2] / first
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(bytes(data))
    assert run(maker, tmp_path / "out") == {"v.dcm": b"value"}


def test_what_cannot_be_restored_is_named_and_the_rest_goes_on(
    maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ident,) = maker.plain("V", b"value")
    (name, *_) = maker.packs[-1]
    bad = maker.instance("bad.dcm", b"value", [[0, "v", [ident]]], literal=b"")
    wrong = {**maker.instance("wrong.dcm", b"other"), "sha256": sha(b"something else")}
    good = maker.instance("good.dcm", b"good")
    record = maker.record([bad, wrong, good])
    maker.snapshot({STUDY: [record]})
    maker.listing("I", [])
    (maker.root / "packs" / name[:2] / name).unlink()
    assert rescue.main([str(maker.root), str(tmp_path / "out")]) == 3
    assert restored(tmp_path / "out") == {"good.dcm": b"good"}
    errors = capsys.readouterr().err
    assert "bad.dcm" in errors
    assert "wrong.dcm" in errors
    assert "1 files restored (4 bytes), 2 not" in errors


def test_the_state_is_the_union_of_heads_and_journals(maker: Maker, tmp_path: Path) -> None:
    one = maker.record([maker.instance("one", b"1")], stored_at=AT)
    two = maker.record([maker.instance("two", b"2"), maker.instance("one", b"1 again")],
                       stored_at=LATER)  # fmt: skip
    three = maker.record([maker.instance("three", b"3")], study="1.2.4")
    four = maker.record([maker.instance("four", b"4")], study="")
    first = maker.snapshot({STUDY: [one]})
    maker.snapshot({STUDY: [one, two]}, generation=2, parents=[first])
    maker.snapshot({STUDY: [one], "1.2.4": [three]}, generation=2, parents=[first])
    maker.listing("J", [("", four, 1)])
    present = {"one": b"1 again", "two": b"2", "three": b"3", "four": b"4"}
    assert run(maker, tmp_path / "now") == present
    assert run(maker, tmp_path / "then", "--snapshot", first) == {"one": b"1"}
    assert run(maker, tmp_path / "study", "--study", "1.2.4") == {"three": b"3"}
    assert run(maker, tmp_path / "others", "--study", "") == {"four": b"4"}
    assert rescue.main([str(maker.root), str(tmp_path / "x"), "--snapshot", "00000002"]) == 5


def test_what_was_forgotten_stays_away(maker: Maker, tmp_path: Path) -> None:
    old = maker.record([maker.instance("old", b"1")], stored_at=AT)
    new = maker.record([maker.instance("new", b"2")], stored_at="2026-03-01T00:00:00.000000Z")
    first = maker.snapshot({STUDY: [old]})
    maker.snapshot({STUDY: [new]}, generation=2, parents=[first], forgotten={STUDY: LATER})
    assert run(maker, tmp_path / "then", "--snapshot", first) == {}
    shutil.rmtree(maker.root / "index", ignore_errors=True)
    assert run(maker, tmp_path / "now") == {"new": b"2"}


def test_a_lost_shard_and_a_lost_head_are_made_up_for(maker: Maker, tmp_path: Path) -> None:
    record = maker.record([maker.instance("a", b"1")])
    first = maker.snapshot({STUDY: [record]})
    shard = maker.packs[-1][0]
    (maker.root / "packs" / shard[:2] / shard).unlink()
    maker.listing("I", [])
    assert rescue.main([str(maker.root), str(tmp_path / "shard")]) == 3
    assert restored(tmp_path / "shard") == {"a": b"1"}

    other = maker.record([maker.instance("b", b"2")], study="1.9")
    second = maker.snapshot({"1.9": [other]}, generation=2, parents=[first])
    maker.listing("I", [])
    for place in ("", "copies/1/", "copies/2/"):
        maker.put(f"{place}snapshots/{second}", b"rotten")
    assert rescue.main([str(maker.root), str(tmp_path / "head")]) == 3
    assert restored(tmp_path / "head") == {"a": b"1", "b": b"2"}


def test_a_snapshot_that_others_signed_does_not_count(maker: Maker, tmp_path: Path) -> None:
    small_vault(maker)
    forged = maker.record([maker.instance("forged", b"x")])
    own, maker.signing = maker.signing, Ed25519PrivateKey.generate()
    name = maker.snapshot({STUDY: [forged]}, generation=2)
    maker.signing = own
    maker.listing("I", [])
    assert rescue.main([str(maker.root), str(tmp_path / "out"), "--snapshot", name]) == 5


def test_names_stay_inside_and_apart(maker: Maker, tmp_path: Path) -> None:
    locators = {
        "../../escape": b"1",
        "C:\\\\x \\xe9.dcm": b"2",
        "/etc/passwd": b"3",
        "a/x.dcm": b"4",
        "a//./x.dcm": b"5",
        "a": b"6",
        "": b"7",
        "b\nc": b"8",
    }
    items = [maker.instance(name, data, sop=data.decode()) for name, data in locators.items()]
    maker.snapshot({STUDY: [maker.record(items)]})
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "etc").symlink_to(tmp_path / "elsewhere")
    assert run(maker, out) == {
        "escape": b"1",
        "C:\\x \udce9.dcm": b"2",
        "etc~2/passwd": b"3",
        "a/x.dcm": b"4",
        "a/x~2.dcm": b"5",
        "a~2": b"6",
        "file": b"7",
        "b_c": b"8",
    }
    assert not list((tmp_path / "elsewhere").iterdir())


def test_several_sources_and_their_sidecars(maker: Maker, tmp_path: Path) -> None:
    one = maker.record([maker.instance("x", b"1")], source="/data/images")
    two = maker.record([maker.instance("x", b"2")], source="/data/other", study="1.9")
    (part1, part2) = maker.plain("V", b"data", b"base")
    sidecars = {"/data/other": [["database.sql", 8, sha(b"database"), [part1, part2]]]}
    maker.snapshot({STUDY: [one], "1.9": [two]}, sidecars=sidecars)
    assert run(maker, tmp_path / "out") == {
        "1-images/x": b"1",
        "2-other/x": b"2",
        "_library/2-other/database.sql": b"database",
    }


def test_the_list_and_the_program_alone(maker: Maker) -> None:
    """It runs with nothing of dcmvault in reach, and says what there is."""
    name = small_vault(maker)
    program = (
        "import runpy, sys; sys.argv[0] = 'rescue.py';"
        "sys.modules['dcmvault'] = None;"
        f"runpy.run_path({str(ROOT / 'tools/rescue.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(maker.root), "--list"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    snapshot, study = done.stdout.splitlines()
    assert snapshot.split("\t") == ["snapshot", name, AT, "head"]
    assert study.split("\t") == [
        "study", STUDY, "1 files", "12 bytes", "20260131", "Doe^Jane",
    ]  # fmt: skip


def test_the_words_are_those_of_the_page() -> None:
    page = (ROOT / "docs/reference/vault-format.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("```text\n")
    assert rest.partition("```")[0].split() == rescue.WORDS
