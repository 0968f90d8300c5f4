"""Tell the type of an expression in the code from annotations; nothing is run but imports."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: its module, its function, and what names mean there."""

    module: types.ModuleType
    function: ast.FunctionDef | None
    hints: Mapping[str, object]
    #: What a caller gave for parameters.
    given: Mapping[str, tuple[ast.expr, Scope]] = field(default_factory=dict)
    #: What names of comprehensions run through.
    running: Mapping[str, object] = field(default_factory=dict)


@functools.cache
def tree_of(module: types.ModuleType) -> ast.Module:
    """Return a module's source, parsed."""
    return ast.parse(inspect.getsource(module))


def scope_of(function: Callable[..., object]) -> Scope:
    """Return the inside of a function or method."""
    function = inspect.unwrap(function)
    module = importlib.import_module(function.__module__)
    nodes: list[ast.stmt] = tree_of(module).body
    for name in function.__qualname__.split("."):
        found = [
            node
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
        ]
        nodes = found[0].body
    node = found[0]
    assert isinstance(node, ast.FunctionDef), function
    hints = dict(hints_of(function))
    owner = _owner(module, function.__qualname__)
    if owner is not None and node.args.args:
        hints.setdefault(node.args.args[0].arg, owner)
    return Scope(module, node, hints)


def _owner(module: types.ModuleType, name: str) -> type | None:
    found: object = getattr(module, name.split(".")[0], None)
    return found if isinstance(found, type) and "." in name else None


@functools.cache
def hints_of(of: Hashable) -> Mapping[str, object]:
    """Return the annotations of a function or class; none that exist for checking only."""
    try:
        return typing.get_type_hints(of)
    except (NameError, TypeError):  # a type that is imported for checking only
        return {}


def inside(generators: Sequence[ast.comprehension], scope: Scope) -> Scope:
    """Return what names mean in a comprehension."""
    for one in generators:
        running = {**scope.running, **_bound(one.target, item_of(type_of(one.iter, scope)))}
        scope = dataclasses.replace(scope, running=running)
    return scope


def _bound(target: ast.expr, hint: object) -> dict[str, object]:
    """Return what the names of a target run through."""
    if isinstance(target, ast.Name):
        return {target.id: hint}
    found: dict[str, object] = {}
    if isinstance(target, ast.Tuple):
        parts = typing.get_args(alternatives(hint)[0]) if hint else ()
        for number, element in enumerate(target.elts):
            found |= _bound(element, parts[number] if number < len(parts) else None)
    return found


def _names(target: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(target))


def assigned(name: str, scope: Scope) -> Iterator[ast.expr]:
    """Yield what is assigned to a local name."""
    for node in ast.walk(scope.function) if scope.function else ():
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if (
                found == name
            ):
                yield value


def type_of(node: ast.expr, scope: Scope) -> object:  # noqa: C901 - one case for each kind
    """Return the annotation of an expression; None where it is not known."""
    match node:
        case ast.Constant(value=None):
            return types.NoneType
        case ast.Constant():
            return type(node.value)
        case ast.JoinedStr():
            return str
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return bool
        case ast.BoolOp(op=ast.And()):
            return type_of(node.values[-1], scope)
        case ast.BinOp(op=ast.Mod(), left=ast.Constant(value=str())):
            return str
        case ast.BinOp():
            return type_of(node.left, scope) or type_of(node.right, scope)
        case ast.Name():
            return _type_of_name(node.id, scope)
        case ast.Attribute():
            return _attribute(type_of(node.value, scope), node.attr)
        case ast.Call():
            return _type_of_call(node, scope)
        case ast.Subscript(slice=ast.Slice()):
            return type_of(node.value, scope)
        case ast.Subscript():
            return item_of(type_of(node.value, scope))
        case ast.IfExp():
            return type_of(node.body, scope)
        case ast.BoolOp():
            return type_of(node.values[0], scope)
    return None


def _type_of_name(name: str, scope: Scope) -> object:
    if name in scope.running:
        return scope.running[name]
    if name in scope.hints:
        return scope.hints[name]
    for value in assigned(name, scope):
        return type_of(value, scope)
    for node in ast.walk(scope.function) if scope.function else ():
        match node:
            case ast.Assign(targets=[ast.Tuple() as target], value=value) if _names(target, name):
                found = _bound(target, type_of(value, scope))
            case ast.For(target=target, iter=value) if _names(target, name):
                found = _bound(target, item_of(type_of(value, scope)))
            case ast.withitem(context_expr=value, optional_vars=ast.Name(id=bound)) if (
                bound == name
            ):
                found = {name: item_of(type_of(value, scope))}
            case _:
                continue
        if name in found:
            return found[name]
    known = getattr(scope.module, name, None)
    if isinstance(known, type):
        return type[known]
    return type(known) if isinstance(known, str | int) else None


def _attribute(owner: object, name: str) -> object:
    for one in alternatives(owner):
        if name == "value" and isinstance(one, type) and issubclass(one, enum.Enum):
            return typing.Literal[tuple(member.value for member in one)]
        if name == "name" and isinstance(one, type) and issubclass(one, enum.Enum):
            return typing.Literal[tuple(member.name for member in one)]
        if isinstance(one, types.ModuleType):
            continue
        plain = typing.get_origin(one) or one
        if not isinstance(plain, type):
            continue
        if name in hints_of(plain):
            return hints_of(plain)[name]
        member = inspect.getattr_static(plain, name, None)
        if isinstance(member, property) and member.fget is not None:
            return hints_of(member.fget).get("return")
        if isinstance(member, functools.cached_property):
            return hints_of(member.func).get("return")
    return None


def alternatives(hint: object) -> list[object]:
    """List what a value may be beside None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for one in typing.get_args(hint) if one is not types.NoneType]
    return [getattr(hint, "__supertype__", hint)]


_BUILT_IN: Mapping[str, object] = {
    "len": int, "str": str, "int": int, "bool": bool, "sum": int, "any": bool, "all": bool,
    "float": float,
}  # fmt: skip


_METHODS: Mapping[str, object] = {
    "isoformat": datetime, "hex": str, "lower": str, "split": list[str], "total_seconds": float,
    "exists": bool, "removeprefix": str, "removesuffix": str, "strip": str, "join": str,
}  # fmt: skip


def _type_of_call(node: ast.Call, scope: Scope) -> object:
    if isinstance(node.func, ast.Name):
        if node.func.id in _BUILT_IN:
            return _BUILT_IN[node.func.id]
        if node.func.id in (
            "round",
            "list",
            "sorted",
            "tuple",
            "next",
            "max",
            "min",
            "islice",
            "reversed",
        ):
            found = type_of(node.args[0], scope)
            return item_of(found) if node.func.id == "next" else found or float
        if node.func.id == "enumerate":
            return list[tuple[int, item_of(type_of(node.args[0], scope))]]  # type: ignore[misc]
        found = getattr(scope.module, node.func.id, None)
        if isinstance(found, type):
            return found
        hint = hints_of(found).get("return") if callable(found) else None
        if hint is not None and _tells_time(node.func.id, hint):
            return datetime | None if types.NoneType in typing.get_args(hint) else datetime
        return hint
    if isinstance(node.func, ast.Attribute):
        module = getattr(scope.module, getattr(node.func.value, "id", ""), None)
        if isinstance(module, types.ModuleType):
            return hints_of(getattr(module, node.func.attr)).get("return")
        owner = type_of(node.func.value, scope)
        if node.func.attr in _METHODS:
            return _METHODS[node.func.attr]
        return _type_of_method(owner, node.func.attr)
    return None


def _tells_time(name: str, hint: object) -> bool:
    return name.lstrip("_") in ("time", "iso", "as_of") and str in (hint, *typing.get_args(hint))


def _type_of_method(owner: object, name: str) -> object:
    for one in alternatives(owner):
        arguments = typing.get_args(one)
        if name == "items" and len(arguments) == 2:
            return list[tuple[arguments]]  # type: ignore[valid-type]
        if name == "values" and len(arguments) == 2:
            return list[arguments[1]]  # type: ignore[valid-type]
        if name == "get" and len(arguments) == 2:
            return arguments[1]
        plain = arguments[0] if typing.get_origin(one) is type else typing.get_origin(one) or one
        if isinstance(plain, type):
            member = inspect.getattr_static(plain, name, None)
            member = getattr(member, "__func__", member)
            if member is not None:
                return hints_of(inspect.unwrap(member)).get("return")
    return None


def item_of(hint: object) -> object:
    """Return the type of what a collection holds: of a table, its values."""
    for one in alternatives(hint):
        arguments = typing.get_args(one)
        if typing.get_origin(one) in (dict, Mapping):
            return arguments[1] if len(arguments) > 1 else None
        if typing.get_origin(one) is type and issubclass(arguments[0], enum.Enum):
            return arguments[0]
        if arguments:
            return arguments[0]
    return None
