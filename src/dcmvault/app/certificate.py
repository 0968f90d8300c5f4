"""Migration certificates: put together from a comparison, and written in the formats asked for."""

from __future__ import annotations

import errno
import getpass
import hashlib
import importlib.util
import os
import platform
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import IO

from dcmvault import __version__
from dcmvault.app.compare import Outcome
from dcmvault.app.wiring.clock import SystemClock
from dcmvault.errors import ConfigurationError, StateError, UsageError
from dcmvault.i18n import gettext as _
from dcmvault.model.certificate import Certificate, ListReport
from dcmvault.model.comparison import Verdict
from dcmvault.reports import certificate_html
from dcmvault.reports.comparison_json import write_certificate

#: How a certificate's files are called in a folder.
_NAME = "certificate"
_SUFFIXES = (".json", ".html", ".pdf")
#: Studies that are named on a page; the JSON has all.
_SHOWN = 1000


def require_writable(target: Path) -> None:
    """Raise before anything is compared where no certificate could be written to `target`.

    Raises UsageError for a suffix that is no format, ConfigurationError where the part that
    writes PDF is not installed, StateError where there is no folder for it.
    """
    suffix = target.suffix.lower()
    if suffix and suffix not in _SUFFIXES and not target.is_dir():
        raise UsageError(
            _("A certificate is no “%s” file.") % suffix,
            hint=_("Name a file that ends in .html, .pdf or .json, or a folder for all three."),
        )
    if suffix not in (".json", ".html") and importlib.util.find_spec("reportlab") is None:
        raise ConfigurationError(
            _("The part of dcmvault that writes PDF is not installed."),
            hint="pip install 'dcmvault[pdf]'",
        )
    if suffix in _SUFFIXES and not target.is_dir():
        require_folder(target)


def require_folder(path: Path) -> None:
    """Raise StateError where no file can be made: a comparison may have taken hours by then."""
    if not path.parent.is_dir():
        raise _cannot_write(path, NotADirectoryError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _cannot_write(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def write_certificates(outcome: Outcome, target: Path) -> list[Path]:
    """Write the certificate of a comparison as the name of `target` says; return the files.

    A folder, made if there is none, gets all three formats. Raises StateError.
    """
    certificate = certificate_of(outcome)
    suffix = target.suffix.lower()
    if suffix in _SUFFIXES and not target.is_dir():
        _write_one(outcome, certificate, target, "")
        return [target]
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from None
    paths = [target / f"{_NAME}{one}" for one in _SUFFIXES]
    digest = ""
    for path in paths:
        digest = _write_one(outcome, certificate, path, digest) or digest
    return paths


def certificate_of(outcome: Outcome) -> Certificate:
    """Put the certificate together."""
    side_a, side_b = outcome.sides()
    tally = outcome.compared.tally
    now = SystemClock().now()
    only = outcome.request.only
    return Certificate(
        a=side_a,
        b=side_b,
        depth=outcome.request.depth,
        began_at=outcome.began_at or now,
        ended_at=now,
        operator=_operator(),
        machine=platform.node(),
        versions={
            "dcmvault": __version__,
            "Python": platform.python_version(),
            platform.system(): platform.release(),
        },
        question=_question(outcome),
        tally=tally,
        exceptions=tuple(islice(outcome.exceptions(), _SHOWN)),
        exceptions_in_all=sum(tally.verdicts.values()) - tally.verdicts[Verdict.SAME],
        listed=ListReport(len(only.names), only.sha256, outcome.not_found) if only else None,
        sample=outcome.sample,
        delivered=tuple(outcome.delivered),
    )


def write_privately(path: Path, write: Callable[[IO[str]], object]) -> None:
    """Write a text file as it comes, readable by nobody else. Raises StateError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123
            write(stream)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _write_one(outcome: Outcome, certificate: Certificate, path: Path, json_digest: str) -> str:
    """Write one file; return the digest of what is JSON."""
    match path.suffix.lower():
        case ".json":
            write_privately(
                path,
                lambda stream: write_certificate(stream, certificate, outcome.compared.studies()),
            )
            return _digest(path)
        case ".html":
            page = certificate_html.render(certificate, json_digest)
            write_privately(path, lambda stream: stream.write(page))
        case _:
            from dcmvault.reports import certificate_pdf  # noqa: PLC0415 - an extra

            content = certificate_pdf.render(certificate, json_digest)
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                    file.write(content)
            except OSError as error:
                raise _cannot_write(path, error) from None
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _question(outcome: Outcome) -> str:
    request = outcome.request
    parts = ["dcmvault", "compare", outcome.address_a, outcome.address_b]
    parts += ["--depth", request.depth.value]
    if request.only is not None:
        parts.append("--only LIST")
    if outcome.delivered:
        parts.append("--act")
    if outcome.sample is not None:
        parts.append(f"--sample {len(outcome.sample.studies)} --seed {outcome.sample.seed}")
    return " ".join(parts)


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "-"


def _cannot_write(path: Path, error: OSError) -> StateError:
    return StateError(
        _("%s cannot be written.") % path, hint=error.strerror or type(error).__name__
    )
