"""`dcmvault manifest`: write down what a place holds, signed, and hold it against a place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dcmvault.app.manifest_chain import Chain, export_chain
from dcmvault.app.manifest_export import ExportReport, ExportRequest, export_manifests
from dcmvault.app.manifest_signing import signing_key
from dcmvault.app.manifest_validation import Signed, ValidationReport, validate_manifest
from dcmvault.app.manifest_witness import chain_of
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.counting import tell_count
from dcmvault.cli.output import mark, print_json, say, tell
from dcmvault.cli.session import begin_log, current_settings
from dcmvault.config.places import state_folder
from dcmvault.errors import StateError
from dcmvault.i18n import format_bytes, format_number, ngettext, sentence
from dcmvault.i18n import gettext as _
from dcmvault.model.manifest import Depth, ManifestProblem, Match
from dcmvault.reports.escaping import visible

#: Instances of each kind, and files, that a terminal is shown.
_SHOWN = 40
#: Links that a terminal is shown.
_LINKS_SHOWN = 10


def command() -> click.Command:
    """Build the family in the language in use."""
    return FamilyGroup(
        "manifest",
        text=_(
            "Write down what a source or destination holds of studies, as digests that are "
            "signed, and hold such a manifest against any place later."
        ),
        members=[_export_command(), _validate_command(), _chain_command()],
    )


def _export_command() -> click.Command:
    return ExampleCommand(
        "export",
        callback=_export,
        text=_(
            "Read a place, and write manifests of what it holds into a new folder.\n\n"
            "JSON has a document for each study with UIDs, sizes and digests, no names. The form "
            "for sha256sum has the names of files. Exit status: 3 if something that is there "
            "could not be read."
        ),
        params=[
            click.Option(
                ["--from", "place"],
                required=True,
                metavar="SOURCE|DESTINATION",
                help=_("What to read: a configured name, or an address."),
            ),
            click.Option(
                ["--out"],
                required=True,
                metavar="FOLDER",
                help=_("Where to write; the folder must be new or empty."),
            ),
            click.Option(
                ["--study", "studies"],
                multiple=True,
                metavar="UID",
                help=_("Only this study. May be given several times."),
            ),
            click.Option(
                ["--format", "format_"],
                type=click.Choice(["json", "sha256sum"]),
                default="json",
                show_default=True,
                help=_("A document for each study, or lines for sha256sum -c (of a folder)."),
            ),
            click.Option(
                ["--digests"],
                type=click.Choice([depth.value for depth in Depth]),
                default=Depth.PIXELS.value,
                show_default=True,
                help=_(
                    "What is computed: of the file alone (a vault need not be read for that), "
                    "also of the data set (a PACS can be compared), also of the decoded pixels "
                    "(a PACS that stores or sends in another transfer syntax, too)."
                ),
            ),
            json_option(),
        ],
        examples=[
            (
                _("Everything in a library"),
                "dcmvault manifest export --from horos --out manifests-2026",
            ),
            (
                _("To check a folder without dcmvault"),
                "dcmvault manifest export --from /backup --format sha256sum --out checksums",
            ),
        ],
    )


def _validate_command() -> click.Command:
    return ExampleCommand(
        "validate",
        callback=_validate,
        text=_(
            "Read at AGAINST (a folder, a vault or one of its snapshots, a PACS) every instance "
            "that MANIFEST names, and compare.\n\n"
            "A file digest decides; where bytes differ, as at a PACS that writes files anew, the "
            "canonical digest of the data set does. Exit status: 0 if every instance is there as "
            "it should be, 3 if one is missing, different or unreadable."
        ),
        params=[
            click.Argument(["manifest"], metavar="MANIFEST"),
            click.Argument(["against"], metavar="AGAINST"),
            json_option(),
        ],
        examples=[
            (
                _("Is everything at the PACS?"),
                "dcmvault manifest validate manifests-2026 pacs",
            ),
            (
                _("Is it in a snapshot of a vault?"),
                "dcmvault manifest validate manifests-2026 vault:/backup#latest",
            ),
        ],
    )


def _chain_command() -> click.Command:
    return ExampleCommand(
        "chain",
        callback=_chain,
        text=_(
            "Check the signed chain of runs: after each backup a link lists what its "
            "destinations hold, and names the link before. Exit status: 3 if it is broken."
        ),
        params=[
            click.Option(
                ["--out"],
                metavar="FOLDER",
                help=_("Copy the links, signatures and the public key into this folder."),
            ),
            json_option(),
        ],
        examples=[(_("For an auditor"), "dcmvault manifest chain --out for-the-auditor")],
    )


def _export(
    place: str, out: str, studies: tuple[str, ...], format_: str, digests: str, as_json: bool
) -> int:
    home = state_folder()
    begin_log(home)
    request = ExportRequest(
        place, Path(out).absolute(), studies, Depth(digests), checksums=format_ == "sha256sum"
    )
    report = export_manifests(current_settings(), home, request, tell_count())
    if as_json:
        print_json(
            {
                "from": report.place,
                "out": str(report.out),
                "studies": report.studies,
                "instances": report.instances,
                "bytes": report.bytes,
                "key": report.key,
                "problems": [_problem_object(one) for one in report.problems],
                "exit_status": report.exit_status,
            }
        )
    else:
        _say_export(report)
    return report.exit_status


def _say_export(report: ExportReport) -> None:
    studies = ngettext("%s study", "%s studies", report.studies) % format_number(report.studies)
    instances = ngettext("%s instance", "%s instances", report.instances)
    figures = f"{studies}, {instances % format_number(report.instances)}"
    say(f"{mark(not report.problems)} {figures}, {format_bytes(report.bytes)}")
    say("  " + _("written to %s") % visible(str(report.out)))
    say("  " + _("signed with the key %s") % report.key)
    _say_problems(report.problems)


def _say_problems(problems: Sequence[ManifestProblem]) -> None:
    for problem in problems[:_SHOWN]:
        what = visible(problem.locator) + ": " + visible(sentence(problem.message))
        say(f"  {mark(ok=False)} {what}")
    _say_left(len(problems) - _SHOWN)


def _say_left(count: int) -> None:
    if count > 0:
        more = ngettext("... and %s more: see --json.", "... and %s more: see --json.", count)
        say(f"    {more % format_number(count)}")


def _problem_object(problem: ManifestProblem) -> dict[str, object]:
    identity = problem.identity
    return {
        "code": problem.code,
        "message": problem.message,
        "sop_instance_uid": "" if identity is None else identity.sop_instance_uid,
        "file": problem.locator,
    }


def _validate(manifest: str, against: str, as_json: bool) -> int:
    home = state_folder()
    begin_log(home)
    path = Path(manifest).absolute()
    report = validate_manifest(current_settings(), home, path, against, tell_count())
    if as_json:
        print_json(_validation_object(report))
    else:
        _say_validation(report)
    return report.exit_status


def _validation_object(report: ValidationReport) -> dict[str, object]:
    return {
        "against": report.place,
        "signed": {"key": report.signed.key, "ours": report.signed.ours},
        "studies": report.studies,
        "counts": {match.value: count for match, count in report.counts.items()},
        "instances": [
            {
                "study_instance_uid": one.identity.study_instance_uid,
                "series_instance_uid": one.identity.series_instance_uid,
                "sop_instance_uid": one.identity.sop_instance_uid,
                "result": one.match.value,
                "decided_by": one.decided_by,
                "how": one.how,
            }
            for one in report.matches
        ],
        "problems": [_problem_object(one) for one in report.problems],
        "warnings": list(report.warnings),
        "exit_status": report.exit_status,
    }


def _say_validation(report: ValidationReport) -> None:
    say(click.style(visible(report.place), bold=True))
    say("  " + _signature_sentence(report.signed))
    counts = report.counts
    for match in Match:
        if counts[match]:
            good = match.is_as_it_should_be if match is not Match.EXTRA else None
            say(f"  {mark(good)} {format_number(counts[match])} {_match_label(match)}")
            _say_instances(report, match)
    _say_problems(report.problems)
    for warning in report.warnings:
        say("  " + visible(sentence(warning)))


def _say_instances(report: ValidationReport, match: Match) -> None:
    if match in (Match.IDENTICAL, Match.IDENTICAL_DATA_SET):
        return
    ones = [one for one in report.matches if one.match is match]
    for one in ones[:_SHOWN]:
        how = f": {sentence(one.how)}" if one.how else ""
        say(f"      {visible(one.identity.sop_instance_uid + how)}")
    _say_left(len(ones) - _SHOWN)


def _signature_sentence(signed: Signed) -> str:
    if not signed.key:
        return _("The manifest is not signed: nobody answers for it.")
    if signed.ours:
        return _("The manifest was signed here and is as it was written.")
    return _("The manifest is as it was signed with the key %s.") % signed.key


def _match_label(match: Match) -> str:
    labels = {
        Match.IDENTICAL: _("identical, by the SHA-256 of the file"),
        Match.IDENTICAL_DATA_SET: _("identical data set, by its canonical digest"),
        Match.DIFFERENT: _("different"),
        Match.UNREADABLE: _("unreadable"),
        Match.MISSING: _("missing"),
        Match.EXTRA: _("there, but not in the manifest"),
    }
    return labels[match]


def _chain(out: str | None, as_json: bool) -> int:
    home = state_folder()
    begin_log(home)
    chain = chain_of(home, current_settings())
    key = signing_key(home).fingerprint
    if out is not None:
        folder = Path(out).absolute()
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            export_chain(home, folder)
        except OSError as error:
            raise StateError(
                _("The chain of manifests cannot be copied."), hint=f"{folder}: {error.strerror}"
            ) from None
    exit_status = 3 if chain.faults else 0
    if as_json:
        print_json(_chain_object(chain, key, exit_status))
    else:
        _say_chain(chain, key)
        if out is not None:
            tell(_("Written: %s") % visible(out))
    return exit_status


def _chain_object(chain: Chain, key: str, exit_status: int) -> dict[str, object]:
    return {
        "key": key,
        "links": [
            {
                "sequence": one.sequence,
                "sha256": one.sha256,
                "previous": one.previous,
                "run": one.run_id,
                "made_at": one.made_at,
                "manifests": one.studies,
            }
            for one in chain.links
        ],
        "faults": list(chain.faults),
        "exit_status": exit_status,
    }


def _say_chain(chain: Chain, key: str) -> None:
    for link in chain.links[-_LINKS_SHOWN:]:
        manifests = ngettext("%s manifest", "%s manifests", link.studies)
        count = manifests % format_number(link.studies)
        say(f"  {link.sequence}  {link.made_at}  {visible(link.run_id)}  {count}  {link.sha256}")
    for fault in chain.faults:
        say(f"  {mark(ok=False)} {visible(sentence(fault))}")
    if not chain.links and not chain.faults:
        say(_("The chain has no link: no backup ended that had something to do, or all are gone."))
    elif not chain.faults:
        links = ngettext(
            "%s link, each signed and naming the one before.",
            "%s links, each signed and naming the one before.",
            len(chain.links),
        )
        say(f"{mark(ok=True)} {links % format_number(len(chain.links))}")
        if chain.newest is None:
            text = _("That newest links were cut off cannot be seen here: compare with an export.")
            say("  " + text)
    say("  " + _("signed with the key %s") % key)
