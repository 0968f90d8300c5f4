"""`dcmvault rules`: which studies matter more than others, why, and what was learned."""

from __future__ import annotations

import click

from dcmvault.app import rules
from dcmvault.app.classifying import rules_in_force
from dcmvault.cli.building import ExampleCommand, FamilyGroup, json_option
from dcmvault.cli.classification_views import (
    classification_lines,
    classification_object,
    conditions_words,
    effect_object,
    effect_word,
    feature_object,
    learned_words,
)
from dcmvault.cli.output import print_json, say, table
from dcmvault.cli.session import current_settings, opened
from dcmvault.cli.words import priority_word
from dcmvault.errors import UsageError
from dcmvault.i18n import format_number, ngettext
from dcmvault.i18n import gettext as _
from dcmvault.model.classification import StudyFacts
from dcmvault.model.learning import Learned
from dcmvault.reports.escaping import visible


def command() -> click.Command:
    """Build the group in the language in use."""
    return FamilyGroup(
        "rules",
        text=_(
            "Which studies matter more than others: the rules, what they say, what was learned."
        ),
        members=[
            ExampleCommand(
                "list",
                callback=_list,
                text=_(
                    "List the rules in force, in their order: those of the configuration, then "
                    "dcmvault's own. The first with a priority that fires decides; raises add up."
                ),
                params=[json_option()],
                examples=[(_("All of them"), "dcmvault rules list")],
            ),
            _test_command(),
            ExampleCommand(
                "learned",
                callback=_learned,
                text=_(
                    "Show what was learned from studies that people moved in a queue, or "
                    "restored: what it changes, and the counts behind it."
                ),
                params=[json_option()],
                examples=[(_("What it changes"), "dcmvault rules learned")],
            ),
            ExampleCommand(
                "reset",
                callback=_reset,
                text=_("Forget what was learned. Rules stay as they are."),
                params=[
                    click.Option(["--yes"], is_flag=True, help=_("Do not ask.")),
                    json_option(),
                ],
                examples=[(_("Begin anew"), "dcmvault rules reset --yes")],
            ),
        ],
    )


def _test_command() -> click.Command:
    several = {
        "modality": _("Modality, such as CT; may be repeated."),
        "description": _("Study or series description; may be repeated."),
        "body_part": _("Body part examined; may be repeated."),
        "ae_title": _("AE title of who sent it; may be repeated."),
        "station": _("Station name; may be repeated."),
    }
    return ExampleCommand(
        "test",
        callback=_test,
        text=_(
            "Say what the rules make of a STUDY (its Study Instance UID) in the catalogue, or of "
            "one that the options describe."
        ),
        params=[
            click.Argument(["study"], metavar="[STUDY]", required=False, default=""),
            *(
                click.Option([f"--{name.replace('_', '-')}", name], multiple=True, help=text)
                for name, text in several.items()
            ),
            click.Option(["--institution"], default="", help=_("Institution name.")),
            click.Option(["--date"], default="", help=_("Study date, such as 20260131.")),
            click.Option(["--time"], default="", help=_("Study time, such as 0830.")),
            json_option(),
        ],
        examples=[
            (_("A study that was backed up"), "dcmvault rules test 1.2.3"),
            (
                _("One that need not exist"),
                'dcmvault rules test --modality MR --description "Crânio - AVC"',
            ),
        ],
    )


def _list(as_json: bool) -> int:
    settings = current_settings()
    found = rules_in_force(settings)
    if as_json:
        print_json(
            {
                "rules": [
                    {
                        "name": rule.name,
                        "built_in": rule.built_in,
                        **effect_object(rule),
                        "conditions": {
                            name: value
                            for name in rule.conditions.__slots__
                            if (value := getattr(rule.conditions, name)) not in ((), 0, None)
                        },
                    }
                    for rule in found
                ],
                "otherwise": settings.classification.otherwise,
                "learn": settings.classification.learn,
                "exit_status": 0,
            }
        )
        return 0
    rows = [
        [
            visible(rule.name),
            effect_word(rule),
            _("built in") if rule.built_in else _("yours"),
            conditions_words(rule.conditions),
        ]
        for rule in found
    ]
    say(table([_("Rule"), _("Priority"), _("Origin"), _("When")], rows, right=frozenset()))
    otherwise = settings.classification.otherwise_priority
    say(_("Otherwise: %s.") % priority_word(otherwise))
    return 0


def _test(
    study: str,
    modality: tuple[str, ...],
    description: tuple[str, ...],
    body_part: tuple[str, ...],
    ae_title: tuple[str, ...],
    station: tuple[str, ...],
    institution: str,
    date: str,
    time: str,
    as_json: bool,
) -> int:
    described = any((modality, description, body_part, ae_title, station, institution, date, time))
    if bool(study) == described:
        raise UsageError(
            _("Name a study, or describe one."),
            hint=_("For example: dcmvault rules test --modality CT"),
        )
    with opened(current_settings()) as session:
        if study:
            found = rules.classify_known(session.workplace, study)
        else:
            facts = StudyFacts(
                "",
                frozenset(modality),
                description,
                frozenset(body_part),
                frozenset(ae_title),
                frozenset(station),
                institution,
                date,
                time,
            )
            found = rules.classify_described(session.workplace, facts)
    if as_json:
        print_json({**classification_object(found), "exit_status": 0})
        return 0
    say(click.style(priority_word(found.priority), bold=True))
    for line in classification_lines(found):
        say(f"  {line}")
    return 0


def _learned(as_json: bool) -> int:
    settings = current_settings()
    with opened(settings) as session:
        found = rules.learned(session.workplace)
    learns = settings.classification.learn
    if as_json:
        print_json(
            {
                "learn": learns,
                "studies": found.studies,
                "needed": found.needed,
                "is_enough": found.is_enough,
                "first_at": found.first_at.isoformat() if found.first_at else None,
                "last_at": found.last_at.isoformat() if found.last_at else None,
                "features": [feature_object(feature) for feature in found.features],
                "exit_status": 0,
            }
        )
        return 0
    if not learns:
        say(_("Learning is switched off: [classification] learn = false."))
    _say_learned(found)
    return 0


def _say_learned(found: Learned) -> None:
    studies = ngettext(
        "People moved or restored %s study.", "People moved or restored %s studies.", found.studies
    )
    say(studies % format_number(found.studies))
    if not found.is_enough:
        say(
            _(
                "That is too little history: from %s studies on, something is learned. It changes "
                "nothing."
            )
            % format_number(found.needed)
        )
    adjusting = [feature for feature in found.features if feature.adjustment]
    if found.is_enough and not adjusting:
        say(_("They have nothing in common that other studies have not: it changes nothing."))
    for feature in adjusting:
        say(f"{feature.adjustment:+d}  {learned_words(feature)}")
    others = [feature for feature in found.features if not feature.adjustment]
    if others:
        say(_("What changes nothing:"))
    for feature in others:
        say(f"    {learned_words(feature)}")


def _reset(yes: bool, as_json: bool) -> int:
    if not yes:
        if as_json:
            raise UsageError(_("Nobody can be asked here."), hint=_("Add --yes."))
        click.confirm(_("Forget what was learned?"), abort=True)
    with opened(current_settings()) as session:
        forgotten = session.workplace.catalogue.lessons.forget_lessons()
    if as_json:
        print_json({"forgotten": forgotten, "exit_status": 0})
        return 0
    text = ngettext(
        "What %s study taught is forgotten.", "What %s studies taught is forgotten.", forgotten
    )
    say(text % format_number(forgotten))
    return 0
