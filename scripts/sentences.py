"""Sentences of the domain: English where they are raised and stored, translated where people read.

Errors, outcomes and findings are written in English, with their values in place, and stored so: the
catalogue and `--json` say the same whatever the language of who wrote them. `i18n.sentence`
recognises them when a person reads. This module finds them in the code for the catalogues: every
string literal or f-string of the domain that reads as a sentence; `{0}`, `{1}` stand for values.

What only the coders of data sets and protocol say about bytes stays English: it stands after
a sentence that is translated, and is read by who knows the Standard.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_FOLDERS = (
    "app",
    "audit",
    "catalogue",
    "destinations",
    "engine",
    "notify",
    "object_stores",
    "pipeline",
    "sources",
    "vault",
)
#: What the coders of the vault say of bytes is told behind a sentence about the object.
#: What a DICOM audit message says is as the Standard has it.
_CODERS = re.compile(
    r"(vault/(recoding/.*|codec_?[a-z]*|cutting|top_level|shape)|audit/dicom_message)\.py$"
)
DICOM_MODULES = (
    "association",
    "attribute_query",
    "channel",
    "codestreams",
    "commitment_coding",
    "commitment_receiver",
    "commitment_scu",
    "comparison",
    "contexts",
    "dicomweb",
    "file_meta",
    "find",
    "frame_codecs",
    "get_and_move",
    "http_connection",
    "http_login",
    "http_status",
    "intake",
    "move_receiver",
    "multipart",
    "orthanc_probe",
    "part10",
    "patient_inventory",
    "peer_tls",
    "pixel_shape",
    "pixels",
    "qido",
    "qido_inventory",
    "reencoding",
    "retrieve",
    "spool",
    "status",
    "storage_scp",
    "store",
    "study_inventory",
    "told_studies",
    "transcode",
    "tls",
    "tls_failures",
    "wado",
    "web_answers",
)
#: Calls whose arguments are never for people, or are translated where they stand.
_NOT_FOR_PEOPLE = re.compile(
    r"(^|\.)(_log|execute|text|gettext|ngettext|compile|_|TypeVar|getattr|literal_column)(\.|$)"
    r"|(Value|Key|Assertion|Runtime|Type|Import)Error"
)
_NO_SENTENCE = re.compile(
    r"\n|^PS3\.| UID$|_[a-z]+ = |\([0-9]{4},"
    r"|\b(INSERT|SELECT|UPDATE|PRAGMA|CREATE|BEGIN|WHERE|JOIN|CASE|NULL)\b|\(coalesce\("
)
#: Names and raw proofs.
_NAMES = frozenset(
    {
        "System Volume Information",
        "SOP Instance UIDs at IMAGE level",
        "study-level count",
        "US or SS",
        "OB or OW",
        "read back, SHA-256",
        "the store's SHA-256 of packs",
        "on the association of the request",
        "on an association of the peer's",
    }
)
_VALUE = re.compile(r"\{[0-9]+\}")
_WORD = re.compile(r"[A-Za-z][A-Za-z']+")


def domain_sentences(code: Path) -> Iterator[tuple[str, str]]:
    """Yield (file below `code`, sentence) in order."""
    paths = [path for folder in _FOLDERS for path in sorted((code / folder).rglob("*.py"))]
    paths += [code / "dicom" / f"{name}.py" for name in DICOM_MODULES]
    for path in paths:
        if _CODERS.search(path.as_posix()):
            continue
        for sentence in _sentences(ast.parse(path.read_text("utf-8"))):
            yield str(path.relative_to(code)), sentence


def _sentences(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # a docstring
        if isinstance(child, ast.Assert):
            continue
        if isinstance(child, ast.Call) and _NOT_FOR_PEOPLE.search(ast.unparse(child.func)):
            continue
        text = _text(child)
        if text is None:
            yield from _sentences(child)
        elif _reads_as_sentence(text):
            yield text


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts, values = [], 0
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(str(part.value).replace("{", "{{").replace("}", "}}"))
            else:
                parts.append(f"{{{values}}}")
                values += 1
        return "".join(parts)
    return None


def _reads_as_sentence(text: str) -> bool:
    words = len(_WORD.findall(_VALUE.sub("", text)))
    enough = 2 if text.endswith((".", "?")) else 3
    return words >= enough and " " in text and text not in _NAMES and not _NO_SENTENCE.search(text)
