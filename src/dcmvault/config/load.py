"""Reads a configuration file; every error in it names its line and key, and what is meant."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dcmvault.config import secrets
from dcmvault.config.addresses import destination_section, did_you_mean, source_section
from dcmvault.config.audit_section import AuditSection
from dcmvault.config.bandwidth import BandwidthSection, BandwidthWindowSection
from dcmvault.config.channels import channel_class, unknown_plans
from dcmvault.config.classification_section import ClassificationSection, RuleSection
from dcmvault.config.deletion_section import DELETION_LEVELS, SafeToDeleteSection
from dcmvault.config.effective import AGEING, IN_ADDRESS
from dcmvault.config.hooks_section import HOOK_FAILURE_WORDS, HookSection, HooksSection
from dcmvault.config.lines import line_of
from dcmvault.config.listener_section import ListenerPeerSection, ListenerSection
from dcmvault.config.monitoring_section import MonitoringSection
from dcmvault.config.named_places import problems_of_names
from dcmvault.config.notifications_section import SEVERITY_WORDS, WEEKDAY_WORDS
from dcmvault.config.oidc_section import OidcSection
from dcmvault.config.options import Section
from dcmvault.config.peer_sections import OrthancCompanionSection
from dcmvault.config.plans import LEVEL_WORDS, PRIORITY_WORDS, STRATEGY_WORDS, PlanSection
from dcmvault.config.plugin_sections import PluginPlaceSection
from dcmvault.config.plugins import plugin_store
from dcmvault.config.routing_section import ROUTING_MODES, RoutingRuleSection, RoutingSection
from dcmvault.config.schedule_checks import TABLES_OF_TIME, problems_of_time
from dcmvault.config.sections import (
    RetrySection,
    VaultProfile,
    VaultSection,
)
from dcmvault.config.serving_section import ServePeerSection, ServeSection
from dcmvault.config.settings import Settings
from dcmvault.config.toml_text import read_toml
from dcmvault.config.web_section import WebSection
from dcmvault.config.week import WeekWindowSection
from dcmvault.errors import AddressError, ConfigurationError, DcmvaultError, PluginError
from dcmvault.i18n import gettext as _
from dcmvault.i18n import ngettext
from dcmvault.model.evidence import Level
from dcmvault.model.report import Privacy

#: Keys whose value is one of a few words.
_WORDS = {
    "language": ("en", "pt-BR"),
    "profile": get_args(VaultProfile),
    "checksums": ("always", "when_required"),
    "object_lock": ("governance", "compliance"),
    "sidecar": ("none", "series", "instances"),
    "level": LEVEL_WORDS,
    "strategy": STRATEGY_WORDS,
    "priority": PRIORITY_WORDS,
    "otherwise": PRIORITY_WORDS,
    "mode": ROUTING_MODES,
    "severity": SEVERITY_WORDS,
    "weekday": WEEKDAY_WORDS,
    "security": ("starttls", "tls", "none"),
    "report": ("attached", "none"),
    "on_failure": HOOK_FAILURE_WORDS,
}
#: Names stand where addresses stand, and must not look like one.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


_S = TypeVar("_S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Problem:
    path: tuple[str, ...]
    reason: str


def load_settings(path: Path) -> Settings:
    """Read a configuration file; one that does not exist means the defaults.

    ConfigurationError names every wrong line with its key, and the word that may be meant.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or _("not UTF-8 text")
        raise ConfigurationError(
            _("The configuration file cannot be read."), hint=f"{path}: {reason}"
        ) from None
    return settings_of(text, path)


def settings_of(text: str, path: Path) -> Settings:
    """Check the text of a configuration file that is called `path`, whether or not it lies there.

    ConfigurationError as `load_settings`.
    """
    try:
        table = read_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            _("%(file)s is not TOML: %(reason)s.") % {"file": path.name, "reason": error},
            hint=_("Texts stand in quotes, tables in [brackets]. The file: %s") % path,
        ) from None
    reader = _Reader()
    settings = reader.settings(table)
    if settings is None:
        raise _refusal(path, text, reader.problems)
    return settings


class _Reader:
    """Turns the tables of one file into Settings, and gathers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[_Problem] = []
        #: Keys that a table may have, by its path.
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {
            (): tuple(Settings.model_fields),
            ("retry",): tuple(RetrySection.model_fields),
            ("listener",): tuple(ListenerSection.model_fields),
            ("safe_to_delete",): tuple(SafeToDeleteSection.model_fields),
            ("serve",): tuple(ServeSection.model_fields),
            ("classification",): tuple(ClassificationSection.model_fields),
            ("web",): tuple(WebSection.model_fields),
            ("web", "oidc"): tuple(OidcSection.model_fields),
            ("hooks",): tuple(HooksSection.model_fields),
            **{
                ("hooks", when): tuple(HookSection.model_fields)
                for when in HooksSection.model_fields
            },
            ("monitoring",): tuple(MonitoringSection.model_fields),
            ("audit",): tuple(AuditSection.model_fields),
        }

    def settings(self, table: Mapping[str, object]) -> Settings | None:
        """Return the settings, or None when there are problems."""
        values = dict(table)
        self._check_database(values.get("database"))
        values["sources"] = self._tables(values.get("sources"), "sources", self._source)
        values["destinations"] = self._tables(
            values.get("destinations"), "destinations", self._destination
        )
        values["plans"] = self._tables(values.get("plans"), "plans", self._plan)
        for name, section in TABLES_OF_TIME.items():
            values[name] = self._tables(values.get(name), name, self._of_time(section))
        values["notifications"] = self._tables(
            values.get("notifications"), "notifications", self._channel
        )
        try:
            settings = Settings.model_validate(values)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                self._explain(detail)
            return None
        for path, reason in chain(
            problems_of_names(settings), problems_of_time(settings), unknown_plans(settings)
        ):
            self._add(path, reason)
        return None if self.problems else settings

    def _tables(
        self,
        value: object,
        name: str,
        expand: Callable[[tuple[str, ...], dict[str, object]], object],
    ) -> dict[str, object]:
        """Expand `[name.X]` tables; those with a wrong address are left out."""
        if value is None:
            return {}
        tables: dict[str, object] = {}
        if not isinstance(value, dict):
            self._add((name,), _("This must be a table, such as [%s.NAME].") % name)
            return {}
        for key, options in value.items():
            path = (name, key)
            if not _NAME.match(key):
                self._add(path, _("A name has letters, digits, “-” and “_” only."))
            elif not isinstance(options, dict):
                self._add(path, _("This must be a table, such as [%s.NAME].") % name)
            elif (expanded := expand(path, dict(options))) is not None:
                tables[key] = expanded
        return tables

    def _source(self, path: tuple[str, ...], options: dict[str, object]) -> object:
        plain = options.get("allow_plain_http") is True
        section = self._section(
            path, options, lambda text: source_section(text, allow_plain_http=plain)
        )
        return None if section is None else self._merged(path, options, section, ())

    def _destination(self, path: tuple[str, ...], options: dict[str, object]) -> object:
        plain = options.get("allow_plain_http") is True
        section = self._section(
            path, options, lambda text: destination_section(text, allow_plain_http=plain)
        )
        if section is None:
            return None
        asked = None
        level = options.pop("level", None)
        if level is not None:
            if level not in LEVEL_WORDS:
                self._add((*path, "level"), _one_of(LEVEL_WORDS, str(level)))
            else:
                asked = Level.from_word(str(level))
        ages = {name: options.pop(name) for name in AGEING if name in options}
        merged = self._merged(path, options, section, ("level", *AGEING))
        return merged and {"section": merged, "level": asked, **ages}

    def _plan(self, path: tuple[str, ...], options: dict[str, object]) -> object:
        self._known[path] = tuple(PlanSection.model_fields)
        self._known[*path, "routing"] = tuple(RoutingSection.model_fields)
        return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}

    def _of_time(
        self, section: type[Section]
    ) -> Callable[[tuple[str, ...], dict[str, object]], object]:
        def expand(path: tuple[str, ...], options: dict[str, object]) -> object:
            self._known[path] = tuple(section.model_fields)
            return options

        return expand

    def _channel(self, path: tuple[str, ...], options: dict[str, object]) -> object:
        """Check a channel by the class of its kind, which may be that of a plug-in."""
        try:
            kind = channel_class(options.get("channel"))
        except DcmvaultError as error:
            self._add((*path, "channel"), f"{error.message} {error.hint}".rstrip())
            return None
        return self._checked(path, kind, options)

    def _checked(
        self, path: tuple[str, ...], kind: type[_S], options: dict[str, object]
    ) -> _S | None:
        """Make a section of a table by itself; what is wrong with it is told at its place."""
        self._known[path] = tuple(kind.model_fields)
        try:
            return kind.model_validate(options)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                detail["loc"] = (*path, *detail["loc"])
                self._explain(detail)
        return None

    def _section(
        self, path: tuple[str, ...], options: dict[str, object], parse: Callable[[str], _S]
    ) -> _S | None:
        address = options.pop("address", None)
        if not isinstance(address, str):
            self._add((*path, "address"), _("An address is needed here, in quotes."))
            return None
        try:
            return parse(address)
        except (AddressError, PluginError) as error:
            self._add((*path, "address"), f"{error.message} {error.hint}".rstrip())
            return None

    def _merged(
        self,
        path: tuple[str, ...],
        options: dict[str, object],
        section: Section,
        extra: tuple[str, ...],
    ) -> object:
        """Put what the address gave beside the options of the table; None for a wrong plug-in's.

        A plug-in's options are checked by its own class, at once.
        """
        is_ours = not isinstance(section, PluginPlaceSection)
        in_address = IN_ADDRESS if is_ours else {*section.model_fields_set, "kind"}
        fields = [name for name in type(section).model_fields if name not in in_address]
        for key in [key for key in options if key in in_address]:
            self._add((*path, key), _("This is part of the address."))
            del options[key]
        given = section.model_dump(include=set(in_address)) | options
        merged = given if is_ours else self._checked(path, type(section), given)
        if isinstance(section, VaultSection) and isinstance(store := options.get("store"), dict):
            try:
                plugin_store(section.location, store)
            except (AddressError, PluginError) as error:
                self._add((*path, "store"), f"{error.message} {error.hint}".rstrip())
        self._known[path] = ("address", *extra, *fields)
        return merged

    def _check_database(self, value: object) -> None:
        if not isinstance(value, str) or not value or secrets.is_reference(value):
            return
        parts = urlsplit(value)
        if parts.scheme != "postgresql":
            self._add(
                ("database",),
                _("Write a postgresql:// URL, env:NAME or file:PATH, or nothing for SQLite."),
            )
        elif parts.password or "password" in dict(parse_qsl(parts.query)):
            self._add(
                ("database",),
                _("A password does not belong here: write env:NAME or file:PATH for the URL."),
            )

    def _explain(self, detail: ErrorDetails) -> None:
        path = _toml_path(detail["loc"])
        kind, limits = detail["type"], detail.get("ctx", {})
        if kind == "extra_forbidden":
            known = self._known.get(path[:-1]) or _known_of_lists(path)
            meant = did_you_mean(path[-1], known) or _("Known keys: %s.") % ", ".join(known)
            self._add(path, " ".join([_("There is no such key."), meant]))
        elif kind == "literal_error":
            is_deletion = path[0] == "safe_to_delete"
            known_words = DELETION_LEVELS if is_deletion else _WORDS.get(path[-1], ())
            # A plug-in's words are told by the schema.
            self._add(path, _one_of(known_words or (str(limits.get("expected", "")),)))
        elif kind == "enum":  # only `privacy` is one
            self._add(path, _one_of(tuple(Privacy)))
        else:
            self._add(path, _reason(kind, limits, path) or detail["msg"])

    def _add(self, path: tuple[str, ...], reason: str) -> None:
        self.problems.append(_Problem(path, reason))


def _toml_path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Leave out what the schema has and the file has not: `section`, and the tag of a union."""
    path = [str(part) for part in loc]
    if path[0] == "destinations" and path[2:3] == ["section"]:
        del path[2:4]
    elif path[0] == "sources":
        del path[2:3]
    return tuple(path)


def _known_of_lists(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of a table within a table: a bandwidth's limit, or a window of it ..."""
    section: type[BaseModel] = BandwidthSection
    if path[0] == "windows" and path[2] != "rates":
        section = WeekWindowSection
    elif path[0] == "windows" or path[-3:-2] == ("windows",):
        section = BandwidthWindowSection
    elif path[:2] == ("listener", "peers"):
        section = ListenerPeerSection
    elif path[-2:-1] == ("orthanc",):
        section = OrthancCompanionSection
    elif path[:2] == ("serve", "peers"):
        section = ServePeerSection
    elif path[0] == "rules":
        section = RuleSection
    elif path[-3:-1] and "routing" in path:
        section = RoutingRuleSection
    return tuple(field.alias or name for name, field in section.model_fields.items())


def _one_of(words: Sequence[str], given: str = "") -> str:
    sentence = _("Write one of: %s.") % ", ".join(words)
    return f"{sentence} {did_you_mean(given, words)}".rstrip()


def _reason(kind: str, limits: Mapping[str, object], loc: Sequence[str]) -> str:
    """Say in our words what the schema found; empty for what it says best itself."""
    match kind:
        case "greater_than_equal":
            return _("This must be at least %s.") % limits["ge"]
        case "greater_than":
            return _("This must be more than %s.") % limits["gt"]
        case "less_than_equal":
            return _("This must be at most %s.") % limits["le"]
        case "too_short":
            return _("At least one is needed here.")
        case "string_pattern_mismatch" if "ae_title" in " ".join(loc):
            return _("An AE title has 1 to 16 characters of ASCII, no backslash.")
        case "missing":
            return _("This key is needed.")
        case "value_error":
            return str(limits["error"])
        case _:
            return _what_type(kind, loc)


def _what_type(kind: str, loc: Sequence[str]) -> str:
    """Say which type a value must have; empty where that is not what is wrong."""
    match kind:
        case "int_type" | "int_parsing" | "int_from_float":
            return _("This must be a whole number.")
        case "float_type" | "float_parsing":
            return _("This must be a number.")
        case "bool_type" | "bool_parsing":
            return _("Write true or false.")
        case "string_type":
            return _("This must be a text, in quotes.")
        case "tuple_type" if (
            loc[0] in ("plans", "rules", "notifications", "hooks", "web") and loc[-1] != "rules"
        ):
            return _("This must be a list of texts, in [brackets].")
        case "tuple_type":
            return _("This must be a list of tables.")
        case "model_type" | "dict_type" | "mapping_type":
            return _("This must be a table.")
        case _:
            return ""


def _refusal(path: Path, text: str, problems: Sequence[_Problem]) -> ConfigurationError:
    """Build the one error that tells all problems in the order of the file."""
    placed = sorted(
        ((line_of(text, problem.path), problem) for problem in problems), key=lambda pair: pair[0]
    )
    lines = [
        _("%(file)s, line %(line)d, %(key)s: %(reason)s")
        % {"file": path.name, "line": line, "key": ".".join(problem.path), "reason": problem.reason}
        for line, problem in placed
    ]
    hint = ngettext("Mend this line in %s", "Mend these lines in %s", len(lines)) % path
    return ConfigurationError("\n".join(lines), hint=hint)
