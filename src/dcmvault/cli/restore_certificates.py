"""Restore certificates, written where the command line asks for them."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from dcmvault.app.restore_certificates import render_certificate
from dcmvault.cli.output import say, write_private
from dcmvault.errors import StateError
from dcmvault.i18n import gettext as _
from dcmvault.model.report import Privacy
from dcmvault.model.restore_certificate import RestoreCertificate


def certify(certificate: RestoreCertificate, paths: tuple[Path, ...], privacy: Privacy) -> None:
    """Write a certificate into files, as their suffixes say; StateError where that cannot be."""
    for path in paths:
        text = render_certificate(certificate, path.suffix, privacy)
        try:
            write_private(path.absolute(), text)
        except OSError as error:
            raise StateError(
                _("The certificate cannot be written."), hint=f"{path}: {error.strerror}"
            ) from None


def require_places(paths: tuple[Path, ...]) -> None:
    """Raise StateError where no file can be written, before what it certifies takes hours."""
    for path in paths:
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            path.absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.absolute().parent):
                pass
        except OSError as error:
            raise StateError(
                _("The certificate cannot be written."), hint=f"{path}: {error.strerror}"
            ) from None


def say_certificates(paths: tuple[Path, ...]) -> None:
    """Say where certificates are."""
    for path in paths:
        say("  " + _("certificate: %s") % path)
