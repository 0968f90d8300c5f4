"""Write the reference of what is printed as JSON: python -m scripts.json_reference."""

from __future__ import annotations

import ast
import importlib
import inspect
import tomllib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import click
from pydantic import BaseModel

from dcmvault import i18n
from dcmvault.cli.root import command_group
from dcmvault.web import answers
from scripts.code_types import Scope, scope_of
from scripts.command_line import leaves
from scripts.json_shapes import (
    ANY,
    KEPT,
    Shape,
    constructed,
    local,
    of_type,
    passed,
    returned,
    shape,
)

#: An object with at least as many keys is recognised in one that has more.
_MANY = 8
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "json.md"
MEANINGS = Path(__file__).with_name("json_meanings.toml")
#: Where following calls ends: how progress and errors are shown has chapters of its own.
_ENDS = ("output", "main", "progress", "compare_progress", "phase_progress", "restore_progress")
#: What is told beside the answers of commands: chapter, title, the function that makes it, and
#: where it is not what that returns, the call to which it is given.
_TOLD = (
    ("commands", "Every command, of an error that ends it", "cli.main._show", "print_json"),
    (
        "progress",
        "Runs: `backup`, `run`, `verify`, restores to a PACS",
        "cli.progress.JsonLines.__call__",
        "dumps",
    ),
    ("progress", "`restore` into a folder", "cli.restore_progress._json_line", "dumps"),
    ("progress", "`compare`", "cli.compare_progress._json_line", "dumps"),
    (
        "progress",
        "`vault check`, `vault repair`, `vault prune`",
        "cli.phase_progress._json_line",
        "dumps",
    ),
    ("files", "`report --format json`, of a run", "reports.as_json.render", "dumps"),
    ("files", "`report --format json`, of a period", "reports.period_json.period_object", ""),
    ("files", "A study that the dashboard exports", "reports.studies_json._study", ""),
    (
        "files",
        "`compare --certificate FILE.json`, beside `compared`",
        "reports.comparison_json.write_certificate",
        "write_object",
    ),
    (
        "files",
        "`restore --certificate FILE.json`",
        "reports.restore_certificate._document",
        "",
    ),
    (
        "files",
        "`manifests.json`",
        "app.manifest_export._Writing.write_studies",
        "document_bytes",
    ),
    (
        "files",
        "The manifest of a study",
        "app.manifest_format.encode_study",
        "document_bytes",
    ),
    (
        "files",
        "A link of the chain of manifests",
        "app.manifest_chain._seal",
        "document_bytes",
    ),
    ("files", "A line of the audit journal", "audit.journal.Journal._write", "dumps"),
    ("told", "Standard input of `pre_run`", "app.around_runs.AroundRuns._said", ""),
    (
        "told",
        "Standard input of `per_study` and `post_run`",
        "app.around_runs.AroundRuns._closing",
        "said",
    ),
    ("told", "The body of a webhook", "reports.messages.write_message", "Message"),
    ("events", "`run`", "daemon.following.Following._look_at_runs", "announce"),
    ("events", "`lane`", "app.as_data.live_data", ""),
    ("events", "`alert`", "app.as_data.alert_event_data", ""),
)
#: Objects that are kept in an attribute until they are printed.
_KEPT_OBJECTS = ("cli.commands.ls._list_studies", "cli.commands.ls._list_study")


@cache
def roots() -> tuple[tuple[str, str, Shape], ...]:
    """Return chapter, title and shape of everything that is printed or written as JSON."""
    return tuple(_roots())


def _roots() -> Iterator[tuple[str, str, Shape]]:
    KEPT["summary"] = (lambda: _made("reports.summary.summary"),)
    KEPT["objects"] = tuple(partial(constructed, function_of(one)) for one in _KEPT_OBJECTS)
    for path, command in leaves(command_group(), ("dcmvault",)):
        if any("--json" in one.opts for one in command.params if isinstance(one, click.Option)):
            assert command.callback is not None
            name = " ".join(path)
            found = _printed(command.callback)
            if name == "dcmvault audit search":  # written a piece at a time
                found = {"": Shape(keys={"events": Shape(items=_line_of_the_journal())})}
            assert found, f"{name} prints nothing that can be followed"
            for place, one in found.items():
                words = meanings()["variants"].get(place, place)
                yield "commands", f"`{name}`" + (f", {words}" if len(found) > 1 else ""), one
    for chapter, title, function, to in _TOLD:
        yield chapter, title, _made(function, to)
    for model in vars(answers).values():
        if inspect.isclass(model) and issubclass(model, BaseModel) and model is not BaseModel:
            yield "api", f"`{model.__name__}`", of_type(model)


def function_of(name: str) -> Callable[..., object]:
    """Return a function or a method of ours by its name."""
    module, _dot, rest = name.partition(".")
    found: object = importlib.import_module(f"dcmvault.{module}")
    for part in rest.split("."):
        if inspect.ismodule(found) and not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    assert callable(found)
    return found


def _made(name: str, to: str = "") -> Shape:
    function = function_of(name)
    if to == "said":
        return local(function, to)
    found = passed(function, to) if to else returned(function)
    assert found is not None, name
    return found


def _line_of_the_journal() -> Shape:
    return _made("audit.journal.Journal._write", "dumps")


def _printed(callback: Callable[..., object]) -> dict[str, Shape]:
    """Return what a command prints, by event or by the function that does."""
    found: dict[str, Shape] = {}
    for scope in _followed(callback):
        for node in ast.walk(scope.function) if scope.function else ():
            for place, one in _prints(node, scope):
                found[place] = found[place].merged(one) if place in found else one
    return found


def _prints(node: ast.AST, scope: Scope) -> Iterator[tuple[str, Shape]]:
    match node:
        case ast.Call(func=ast.Name(id="print_json"), args=[value]):
            for branch in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
                one = shape(branch, scope)
                yield one.origin or _place(scope), one
        case ast.Call(func=ast.Name(id="write_object"), args=[_stream, head, last, items]):
            assert isinstance(last, ast.Constant)
            whole = shape(head, scope)
            assert whole.keys is not None
            yield _place(scope), Shape(keys={**whole.keys, str(last.value): shape(items, scope)})
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="self"), attr="_write"),
            args=[ast.Constant(value=str() as event), value],
        ):
            yield event, _event(shape(value, scope))
        case ast.Call(
            func=ast.Name(id="say"),
            args=[ast.Call(func=ast.Attribute(attr="dumps"), args=[value, *_rest])],
        ) if scope.function is not None and scope.function.name != "_write":
            whole = shape(value, scope)
            yield _name_of_event(value) or _place(scope), whole


def _place(scope: Scope) -> str:
    assert scope.function is not None
    return f"{scope.module.__name__}.{scope.function.name}".removeprefix("dcmvault.cli.")


def _event(values: Shape) -> Shape:
    return Shape(keys={"event": of_type(str), **(values.keys or {})}, some=values.some)


def _name_of_event(value: ast.expr) -> str:
    for key, said in (
        zip(value.keys, value.values, strict=True) if isinstance(value, ast.Dict) else ()
    ):
        if isinstance(key, ast.Constant) and key.value == "event":
            assert isinstance(said, ast.Constant)
            return str(said.value)
    return ""


def _followed(callback: Callable[..., object]) -> Iterator[Scope]:
    """Yield the inside of a command's function, and of what it calls in the command line."""
    waiting: list[Callable[..., object]] = [inspect.unwrap(callback)]
    seen: set[object] = set()
    while waiting:
        function = waiting.pop(0)
        if function in seen:
            continue
        seen.add(function)
        scope = scope_of(function)
        yield scope
        for node in ast.walk(scope.function) if scope.function else ():
            if isinstance(node, ast.Name):
                waiting += _ours(getattr(scope.module, node.id, None))
            elif isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for one in node.names:
                    waiting += _ours(getattr(module, one.name, None))


def _ours(found: object) -> list[Callable[..., object]]:
    module = getattr(found, "__module__", "")
    if not module.startswith("dcmvault.cli.") or module.rpartition(".")[2] in _ENDS:
        return []
    if inspect.isfunction(found):
        return [inspect.unwrap(found)]
    if inspect.isclass(found):
        methods = [getattr(one, "__func__", one) for one in vars(found).values()]
        written = [one for one in methods if inspect.isfunction(one)]
        return [one for one in written if one.__code__.co_filename == inspect.getsourcefile(found)]
    return []


@cache
def meanings() -> dict[str, dict[str, str]]:
    """Return what was written by hand."""
    return tomllib.loads(MEANINGS.read_text(encoding="utf-8"))


@cache
def _objects() -> dict[str, Shape]:
    """Return the objects that stand in several places, by title."""
    found = {}
    for function, title in meanings()["objects"].items():
        found[title] = _made(function)
    return found


def _as_object(one: Shape, but: str) -> tuple[str, Shape]:
    """Say of which object something has all keys, and what it has besides."""
    keys = set(one.keys or {})
    for title, known in _objects().items():
        names = set(known.keys or {})
        if title != but and (names == keys or (len(names) >= _MANY and names < keys)):
            rest = {key: value for key, value in (one.keys or {}).items() if key not in names}
            return title, Shape(keys=rest, some=one.some)
    return "", one


class Page:
    """The page while it is written: what has no meaning, and which meanings are used."""

    def __init__(self) -> None:
        self.unexplained: list[str] = []
        self.used: set[str] = set()

    def text(self) -> str:
        """Write it all."""
        i18n.use_language("en")
        words = meanings()
        lines = [*words["chapters"]["top"].splitlines()]
        tables: dict[str, dict[str, list[str]]] = {}
        for chapter, title, made in roots():
            table = "\n".join(self._table(made, title.replace("`", "")))
            tables.setdefault(chapter, {}).setdefault(table, []).append(title)
        for title, made in _objects().items():
            table = "\n".join(self._table(made, title))
            tables.setdefault("objects", {})[table] = [title]
        for chapter in ("commands", "objects", "progress", "files", "told", "api", "events"):
            lines += ["", *words["chapters"][chapter].splitlines()]
            for table, titles in tables[chapter].items():
                lines += ["", f"### {' · '.join(titles)}", "", *table.splitlines()]
        return "\n".join(lines) + "\n"

    def _table(self, made: Shape, title: str) -> Iterator[str]:
        base, rest = _as_object(made, title)
        if base:
            yield f"All of {_link(base)}" + (", and:" if rest.keys else ".")
            if not rest.keys:
                return
            yield ""
        yield "| key | kind | meaning |"
        yield "|---|---|---|"
        yield from self._rows(rest, "", title)

    def _rows(self, one: Shape, path: str, title: str) -> Iterator[str]:
        for key, value in (one.keys or {}).items():
            here = f"{path}.{key}" if path else key
            meaning, closed = self._meaning(here, value, title)
            kind = meanings()["kinds"].get(f"{title} > {here}") or self._kind(value, key)
            often = "; not always" if key in one.some else ""
            yield f"| `{here}` | {kind}{often} | {meaning} |"
            if not closed:
                yield from self._inside(value, here, title)

    def _inside(self, value: Shape, here: str, title: str) -> Iterator[str]:
        for part, mark in ((value, ""), (value.items, "[]"), (value.named, ".*")):
            if part is None or (part is not value and part.keys is None):
                if part is not None and part is not value:
                    yield from self._inside(part, here + mark, title)
                continue
            base, rest = _as_object(part, title) if part.keys else ("", part)
            if base and part is value and not rest.keys:
                continue
            yield from self._rows(rest, here + mark, title)

    def _kind(self, value: Shape, key: str) -> str:
        kinds = []
        if value.keys is not None:
            base, rest = _as_object(value, "")
            kinds.append(_link(base) + (" with more" if rest.keys else "") if base else "object")
        if value.items is not None:
            kinds.append(f"list: {self._kind(value.items, key)}")
        if value.named is not None:
            kinds.append(f"by name: {self._kind(value.named, key)}")
        told = meanings()["kinds"].get(key, ANY)
        known = [told if one == ANY else one for one in value.kinds]
        return " or ".join(dict.fromkeys([*kinds, *known])) or "list"

    def _meaning(self, path: str, value: Shape, title: str) -> tuple[str, bool]:
        """Look the longest end of a path up; a container's own words first."""
        plain = path.replace("[]", "").replace(".*", "")
        parts = plain.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts))]
        if _is_container(value):
            ends = [mark for end in ends for mark in (end + "{}", end + "!", end)]
        known = meanings()["meanings"]
        for end in [f"{title} > {plain}", *ends]:
            if end in known:
                self.used.add(end)
                return known[end], end.endswith("!")
        self.unexplained.append(f"{title} > {path}")
        return "", False


def _is_container(value: Shape) -> bool:
    parts = [value, value.items, value.named]
    return value.named is not None or any(
        part is not None and part.keys is not None for part in parts
    )


def _link(title: str) -> str:
    return (
        f"[{title[0].lower()}{title[1:]}](#{title.lower().replace(' ', '-').replace(chr(39), '')})"
    )


def main() -> None:
    """Write the page, or list what has no meaning yet."""
    page = Page()
    text = page.text()
    for one in dict.fromkeys(page.unexplained):
        print(f"no meaning: {one}")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
