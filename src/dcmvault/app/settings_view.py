"""The configuration as sections with fields, and what somebody typed into them as edits."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from dcmvault.config.editing import AddTable, Edit, PutTables, RemoveKey, SetKey
from dcmvault.config.effective import AGEING, effective
from dcmvault.config.places import config_path
from dcmvault.config.plans import LEVEL_WORDS
from dcmvault.config.saving import read_configuration
from dcmvault.config.secret_files import keep_secret
from dcmvault.config.settings import Settings
from dcmvault.config.toml_text import read_toml
from dcmvault.config.toml_values import TomlValue, toml_value
from dcmvault.errors import UsageError
from dcmvault.i18n import gettext as _

#: Families of tables: `[sources.NAME]`.
FAMILIES = ("sources", "destinations", "plans", "schedules", "windows", "notifications")
#: Single tables; "" has the keys above all tables.
TABLES = (
    "",
    "retry",
    "bandwidth",
    "web",
    "monitoring",
    "listener",
    "serve",
    "safe_to_delete",
    "classification",
    "audit",
)
_ROOT_KEYS = ("language", "privacy", "database")
#: Options whose value is a reference to a secret.
_SECRETS = frozenset(
    {
        *("password", "passphrase", "token", "access_key", "secret_key", "ssh_password"),
        *("tls_key_passphrase", "oauth2_client_secret"),
    }
)


#: Fields that name tables, and of which family.
_REFERENCES = {
    "plans": {"sources": "sources", "destinations": "destinations"},
    "schedules": {"plan": "plans", "window": "windows"},
}


class FieldKind(StrEnum):
    """How a value is typed."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    #: A reference; the secret itself can be typed, too.
    SECRET = "secret"  # noqa: S105 - a word
    #: A list or a table, as the configuration writes it on one line.
    TOML = "toml"


@dataclass(frozen=True, slots=True)
class FieldView:
    """One key: its value in force, and how it is typed."""

    key: str
    kind: FieldKind
    #: As it is typed.
    value: str
    #: Whether the file says it; else it is the default.
    is_written: bool
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SectionView:
    """One table with its fields; what is written in the file stands first."""

    path: tuple[str, ...]
    fields: tuple[FieldView, ...]

    @property
    def name(self) -> str:
        """The path as the file has it."""
        return ".".join(self.path)


def families(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Return the names of tables by their family."""
    return {family: tuple(getattr(settings, family)) for family in FAMILIES}


def section_view(home: Path, settings: Settings, path: tuple[str, ...]) -> SectionView:
    """Return a table; UsageError where there is none."""
    values, model = _values(settings, path)
    written = _written(home, path)
    fields = [
        _field(key, value, model, is_written=key in written)
        for key, value in values.items()
        if key != "kind"
    ]
    return SectionView(path, tuple(sorted(fields, key=lambda one: not one.is_written)))


def typed_edits(
    home: Path, settings: Settings, path: tuple[str, ...], typed: Mapping[str, str]
) -> list[Edit]:
    """Return the edits for what was typed into a table's fields; those left as they were are none.

    UsageError names the field that cannot be read. A secret that was typed (`KEY-secret`) is kept
    in a file, and referred to.
    """
    edits: list[Edit] = []
    for field in section_view(home, settings, path).fields:
        if secret := typed.get(f"{field.key}-secret", ""):
            reference = keep_secret(home, "-".join((*path, field.key)), secret)
            edits.append(SetKey((*path, field.key), reference))
            continue
        is_switch = field.kind is FieldKind.SWITCH
        if field.key not in typed and not (is_switch and f"{field.key}-shown" in typed):
            continue
        text = typed.get(field.key, "").strip()
        if is_switch:
            text = "true" if text else "false"
        if text == field.value:
            continue
        if not text:
            edits.append(RemoveKey((*path, field.key)))
        else:
            edits.append(SetKey((*path, field.key), _read(field, text)))
    return edits


def added_table(family: str, typed: Mapping[str, str]) -> list[Edit]:
    """Return the edits for a new table of a family; UsageError for what is missing."""
    name = typed.get("name", "").strip()
    if family not in FAMILIES or not name:
        raise UsageError(_("A new table needs a name."))
    values: dict[str, TomlValue] = {}
    if family in ("sources", "destinations"):
        values["address"] = typed.get("address", "").strip()
    elif family == "plans":
        for key in ("sources", "destinations"):
            values[key] = [one.strip() for one in typed.get(key, "").split(",") if one.strip()]
    elif family == "schedules":
        values["plan"] = typed.get("plan", "").strip()
        values["cron"] = typed.get("cron", "").strip()
    elif family == "notifications":
        values |= {"channel": "webhook", "url": typed.get("url", "").strip()}
    else:
        values["closed"] = [{"days": "mon-fri", "from": "08:00", "to": "18:00"}]
    return [AddTable((family, name), values)]


def removed_table(settings: Settings, path: tuple[str, ...]) -> list[Edit]:
    """Return the edits that take a table out; UsageError while something refers to it.

    A plan would take the name of a source that is gone for a folder.
    """
    users = [
        f"{family}.{name}"
        for family, fields in _REFERENCES.items()
        for name, section in getattr(settings, family).items()
        for field, meant in fields.items()
        if path == (meant, path[-1]) and path[-1] in _names_in(getattr(section, field))
    ]
    if users:
        raise UsageError(
            _("“%(name)s” is used by %(users)s.")
            % {"name": ".".join(path), "users": ", ".join(users)},
            hint=_("Change or remove that first."),
        )
    return [RemoveKey(path)]


def _names_in(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, tuple) else ()


def edits_as_data(edits: Sequence[Edit]) -> list[list[Any]]:
    """Return edits JSON-able, to be shown, and sent back to be saved."""
    data: list[list[Any]] = []
    for edit in edits:
        if isinstance(edit, SetKey):
            data.append(["set", list(edit.path), edit.value])
        elif isinstance(edit, PutTables):
            data.append(["put", list(edit.path), edit.text])
        elif isinstance(edit, AddTable):
            data.append(["add", list(edit.path), dict(edit.values)])
        else:
            data.append(["remove", list(edit.path)])
    return data


def edits_from_data(data: object) -> list[Edit]:
    """Read what `edits_as_data` wrote, which came from outside; UsageError for anything else."""
    try:
        return list(_edits(data))
    except (TypeError, ValueError, KeyError, AttributeError):
        raise UsageError(_("The change cannot be read: make it once more.")) from None


def _edits(data: object) -> Iterator[Edit]:
    if not isinstance(data, list) or len(data) > 500:
        raise ValueError
    for what, where, *values in data:
        path = tuple(where)
        if not path or not all(isinstance(one, str) and one for one in path):
            raise ValueError
        if what == "remove":
            yield RemoveKey(path)
        elif what == "set":
            yield SetKey(path, values[0])
        elif what == "put" and isinstance(values[0], str):
            yield PutTables(path, values[0])
        elif what == "add" and isinstance(values[0], dict):
            yield AddTable(path, values[0])
        else:
            raise ValueError


def _values(settings: Settings, path: tuple[str, ...]) -> tuple[Mapping[str, Any], type[BaseModel]]:
    in_force = effective(settings)
    if path == ():
        return {key: in_force[key] for key in _ROOT_KEYS}, Settings
    if path[0] in FAMILIES and len(path) == 2:
        tables = in_force[path[0]]
        assert isinstance(tables, dict)
        if path[1] not in tables:
            raise UsageError(_("There is no table “%s”.") % ".".join(path))
        section = getattr(settings, path[0])[path[1]]
        return tables[path[1]], type(getattr(section, "section", section))
    if len(path) == 1 and path[0] in TABLES:
        table = in_force[path[0]]
        assert isinstance(table, dict)
        return table, type(getattr(settings, path[0]))
    raise UsageError(_("There is no table “%s”.") % ".".join(path))


def _written(home: Path, path: tuple[str, ...]) -> Mapping[str, Any]:
    """Return what the file itself says of a table."""
    current = read_configuration(config_path(home))
    here: Any = read_toml(current.text) if current.digest else {}
    for part in path:
        here = here.get(part, {}) if isinstance(here, dict) else {}
    return here if isinstance(here, dict) else {}


def _field(key: str, value: Any, model: type[BaseModel], *, is_written: bool) -> FieldView:
    options = _options(key, model)
    if isinstance(value, bool):
        return FieldView(key, FieldKind.SWITCH, str(value).lower(), is_written)
    if isinstance(value, int | float):
        return FieldView(key, FieldKind.NUMBER, repr(value), is_written)
    if options:
        return FieldView(key, FieldKind.CHOICE, str(value or ""), is_written, options)
    if key in _SECRETS:
        return FieldView(key, FieldKind.SECRET, str(value or ""), is_written)
    if value is None or isinstance(value, str):
        return FieldView(key, FieldKind.TEXT, value or "", is_written)
    return FieldView(key, FieldKind.TOML, toml_value(_plain(value)), is_written)


def _plain(value: Any) -> Any:
    """Leave out what says nothing: TOML has no word for it."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _options(key: str, model: type[BaseModel]) -> tuple[str, ...]:
    if key == "level" and "section" not in model.model_fields:
        return ("", *LEVEL_WORDS)
    if key in AGEING or key not in model.model_fields:
        return ()
    annotation = model.model_fields[key].annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(one.value) for one in annotation)
    if get_origin(annotation) is Literal:
        return tuple(str(one) for one in get_args(annotation))
    if get_origin(annotation) is Union:
        return ()
    return ()


def _read(field: FieldView, text: str) -> TomlValue:
    if field.kind in (FieldKind.TEXT, FieldKind.CHOICE, FieldKind.SECRET):
        return text
    try:
        value: TomlValue = read_toml(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            _("“%(key)s” cannot be read: %(reason)s.") % {"key": field.key, "reason": error},
            hint=_("Texts stand in quotes, lists in [brackets], tables in braces."),
        ) from None
    return value
