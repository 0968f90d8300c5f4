"""`dcmvault node`: try the way to a destination, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dcmvault.app.node import echo, probe
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.output import mark, print_json, say
from dcmvault.cli.session import current_settings
from dcmvault.cli.words import probe_step_word
from dcmvault.errors import DestinationUnreachableError
from dcmvault.i18n import format_duration, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.probe import ProbeStep
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "node", text=_("Try the way to a destination."), members=[_echo_command(), _probe_command()]
    )


def _echo_command() -> click.Command:
    return ExampleCommand(
        "echo",
        callback=_echo,
        text=_(
            "Try a destination step by step: name, connection, TLS, association and C-ECHO for "
            "a PACS, a test write for a folder. Exit status: 5 if a step fails."
        ),
        params=[click.Argument(["address"], metavar="ADDRESS|NAME"), json_option()],
        examples=[
            (_("A PACS by its address"), "dcmvault node echo dicom://ORTHANC@pacs:4242"),
            (_("A destination by its configured name"), "dcmvault node echo pacs"),
        ],
    )


def _probe_command() -> click.Command:
    return ExampleCommand(
        "probe",
        callback=_probe,
        text=_(
            "Try a destination step by step, then find out what it offers and how fast it is: "
            "round trip, kinds of images, transfer syntaxes, query, storage commitment. "
            "Exit status: 5 if a step fails."
        ),
        params=[
            click.Argument(["address"], metavar="ADDRESS|NAME"),
            click.Option(
                ["--bandwidth"],
                is_flag=True,
                help=_("Send a test image of 32 MB (patient ID DCMVAULT-TEST), which stays there."),
            ),
            json_option(),
        ],
        examples=[
            (_("What a PACS offers"), "dcmvault node probe dicom://ORTHANC@pacs:4242"),
            (_("How fast it takes images"), "dcmvault node probe pacs --bandwidth"),
        ],
    )


def _probe(address: str, bandwidth: bool, as_json: bool) -> int:
    return _show(address, probe(current_settings(), address, stores=bandwidth), as_json=as_json)


def _echo(address: str, as_json: bool) -> int:
    return _show(address, echo(current_settings(), address), as_json=as_json)


def _show(address: str, steps: Sequence[ProbeStep], *, as_json: bool) -> int:
    fine = all(step.ok for step in steps)
    status = 0 if fine else DestinationUnreachableError.exit_status
    if as_json:
        print_json(
            {
                "address": address,
                "ok": fine,
                "steps": [_step_object(step) for step in steps],
                "exit_status": status,
            }
        )
        return status
    names = [probe_step_word(step.name) for step in steps]
    width = max(map(len, names), default=0)
    for name, step in zip(names, steps, strict=True):
        took = format_duration(step.duration_s) if step.duration_s >= 0.05 else ""
        line = f"{mark(step.ok)} {name.ljust(width)}  {visible(sentence(step.detail))}"
        say(f"{line}  ({took})" if took else line)
        if step.hint:
            say(f"  → {visible(sentence(step.hint))}")
    say(_("%s answers.") % visible(address) if fine else _("%s does not work.") % visible(address))
    return status


def _step_object(step: ProbeStep) -> dict[str, object]:
    return {
        "name": step.name,
        "ok": step.ok,
        "detail": step.detail,
        "hint": step.hint,
        "duration_s": round(step.duration_s, 6),
    }
