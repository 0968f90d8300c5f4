"""Entry point of the command line: language, errors, exit status."""

from __future__ import annotations

import gettext as process_gettext
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress

import click

from dcmvault import i18n
from dcmvault.cli.garbage import collect_seldom
from dcmvault.cli.interrupts import interrupt_on_sigterm
from dcmvault.cli.logs import current_log, start_log
from dcmvault.cli.output import print_json, tell_error
from dcmvault.cli.root import command_group
from dcmvault.config.places import config_path, configured_language, state_folder
from dcmvault.errors import DcmvaultError
from dcmvault.i18n import gettext as _

_log = logging.getLogger(__name__)

#: Set by a shell that asks for completions.
_COMPLETION = "_DCMVAULT_COMPLETE"
_ERROR, _USAGE, _INTERRUPTED = 1, 2, 130


def main() -> None:
    """Run `dcmvault` and end the process with its exit status."""
    collect_seldom()
    interrupt_on_sigterm()
    if not sys.warnoptions:
        # Libraries warn with values that they read, which may be patient data.
        warnings.simplefilter("ignore")
    # Libraries also log values: what no handler of ours takes is not shown at all.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:]
    choose_language(arguments)
    # The command line library takes its own sentences from the process-wide catalogue.
    os.environ["LANGUAGE"] = i18n.language()
    process_gettext.bindtextdomain(i18n.DOMAIN, str(i18n.LOCALE_FOLDER))
    process_gettext.textdomain(i18n.DOMAIN)
    status = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    _leave(status)


def _leave(status: int) -> None:
    """End the process; work that outlived its grace must not hold it back.

    What such work does from here on is not written down, and is repeated at the next start.
    """
    if any(not t.daemon for t in threading.enumerate() if t is not threading.main_thread()):
        logging.shutdown()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def choose_language(arguments: Sequence[str]) -> None:
    """Choose the language before any text is built: --lang, environment, configuration, locale."""
    asked = i18n.normalise_language(_asked_language(arguments))
    configured = "" if asked else configured_language(config_path(state_folder()))
    i18n.use_language(asked or i18n.language_from_environment(os.environ, configured))


def _asked_language(arguments: Sequence[str]) -> str:
    """Find --lang among the options before the command; click checks its value later."""
    for number, argument in enumerate(arguments):
        if argument == "--lang":
            return next(iter(arguments[number + 1 : number + 2]), "")
        if argument.startswith("--lang="):
            return argument.partition("=")[2]
        if not argument.startswith("-"):
            break
    return ""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; errors are shown, never raised."""
    as_json = "--json" in arguments
    try:
        status = command_group().main(
            list(arguments) or ["--help"], prog_name="dcmvault", standalone_mode=False
        )
    except click.UsageError as error:
        return _show("usage", error.format_message(), _usage_hint(error), _USAGE, as_json=as_json)
    except click.ClickException as error:
        return _show("error", error.format_message(), "", _ERROR, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return _show(
            "interrupted",
            _("Interrupted."),
            _("What was done is recorded; the same command continues where this one stopped."),
            _INTERRUPTED,
            as_json=as_json,
        )
    except DcmvaultError as error:
        if _debugging():
            traceback.print_exc()
        return _show(error.code, error.message, error.hint, error.exit_status, as_json=as_json)
    except SystemExit:
        if _COMPLETION in os.environ:
            raise
        # The reader of our output went away (a closed pipe); there is nobody to tell.
        _silence_stdout()
        return _ERROR
    except Exception as error:  # noqa: BLE001 - the outermost frame: people get a sentence
        return _show_unexpected(error, as_json=as_json)
    return status if isinstance(status, int) else 0


def _show_unexpected(error: Exception, *, as_json: bool) -> int:
    if _debugging():
        traceback.print_exc()
    if current_log() is None:
        with suppress(OSError):
            start_log(state_folder())
    _log.error("unexpected %s", type(error).__name__, exc_info=error)
    return _show(
        "unexpected",
        _("Something unexpected happened (%s); this is a defect of dcmvault.")
        % type(error).__name__,
        _("The log has the details, without patient data: %s") % (current_log() or "-"),
        _ERROR,
        as_json=as_json,
    )


def _show(code: str, message: str, hint: str, status: int, *, as_json: bool) -> int:
    if as_json:
        error = {"code": code, "message": message, "hint": hint}
        print_json({"error": error, "exit_status": status})
    else:
        tell_error(message, hint)
    return status


def _usage_hint(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "dcmvault"
    return _("`%s --help` explains it.") % command


def _debugging() -> bool:
    return os.environ.get("DCMVAULT_DEBUG", "") not in {"", "0"}


def _silence_stdout() -> None:
    """Point stdout at nothing, so that closing it cannot complain about a closed pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
