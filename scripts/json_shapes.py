"""Read from the code which keys an object of `--json` has, and of what kind their values are.

Nothing is run: the displays of dictionaries in functions are followed through calls, and what
stands in them is known by the annotations of what they are made from.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel

from scripts.code_types import Scope, assigned, hints_of, inside, scope_of, type_of

#: Attributes that keep an object that a function made, with what tells its shape.
KEPT: dict[str, tuple[Callable[[], Shape], ...]] = {}
_OPEN = (None, dict[str, object], Mapping[str, object])
NULL, TEXT, NUMBER, TIME, TRUTH, ANY = "null", "text", "number", "time", "true or false", "any"
#: More words than these are told by the meaning of a key.
_MOST_WORDS = 8


@dataclass
class Shape:
    """What stands in one place: kinds of plain values, an object, a list, or a table by names."""

    kinds: dict[str, None] = field(default_factory=dict)
    keys: dict[str, Shape] | None = None
    #: Keys that not every object has.
    some: set[str] = field(default_factory=set)
    items: Shape | None = None
    named: Shape | None = None
    #: The function that makes the object; `reports.summary.summary`.
    origin: str = ""

    def merged(self, other: Shape) -> Shape:
        """Return what is one or the other."""
        both = Shape({**self.kinds, **other.kinds})
        both.items = _either(self.items, other.items)
        both.named = _either(self.named, other.named)
        if self.keys is None or other.keys is None:
            one = self if self.keys is not None else other
            both.keys, both.some, both.origin = one.keys, one.some, one.origin
            return both
        both.origin = self.origin if self.origin == other.origin else ""
        both.keys = {
            key: self.keys[key].merged(other.keys[key])
            if key in self.keys and key in other.keys
            else (self.keys.get(key) or other.keys[key])
            for key in (*self.keys, *other.keys)
        }
        both.some = self.some | other.some | (self.keys.keys() ^ other.keys.keys())
        return both


def _either(one: Shape | None, other: Shape | None) -> Shape | None:
    return one.merged(other) if one and other else one or other


def shape(node: ast.expr, scope: Scope) -> Shape:  # noqa: C901 - one case for each kind
    """Return what an expression makes."""
    match node:
        case ast.Dict():
            return _display(node, scope)
        case ast.DictComp():
            return _comprehended(node, scope)
        case ast.ListComp() | ast.GeneratorExp():
            return Shape(items=shape(node.elt, inside(node.generators, scope)))
        case ast.List() | ast.Tuple():
            items = [shape(item, scope) for item in node.elts]
            return Shape(items=functools.reduce(Shape.merged, items) if items else None)
        case ast.IfExp():
            return shape(node.body, scope).merged(shape(node.orelse, scope))
        case ast.BoolOp(op=ast.Or()):
            return functools.reduce(Shape.merged, [shape(value, scope) for value in node.values])
        case ast.BinOp(op=ast.BitOr()):
            return _together(shape(node.left, scope), shape(node.right, scope))
        case ast.Starred():
            return shape(node.value, scope).items or Shape()
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int() | str() as at)):
            found = _named(name, scope)
            if found is not None and isinstance(at, str) and found.keys and at in found.keys:
                return found.keys[at]
            if found is not None and isinstance(at, int) and found.items is not None:
                return found.items
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice()) if (
            kept := _named(name, scope)
        ) is not None:
            return kept
        case ast.Name() if (found := _named(node.id, scope)) is not None:
            return found
        case ast.Call() if (found := _called(node, scope)) is not None:
            return found
        case ast.Attribute(attr=name) if name in KEPT and type_of(node, scope) in _OPEN:
            return functools.reduce(Shape.merged, [one() for one in KEPT[name]])
    return of_type(type_of(node, scope))


def _display(node: ast.Dict, scope: Scope) -> Shape:
    whole = Shape(keys={})
    for key, value in zip(node.keys, node.values, strict=True):
        found = shape(value, scope)
        if key is None:
            whole = _together(whole, found)
        elif isinstance(key, ast.Constant):
            whole = _together(whole, Shape(keys={str(key.value): found}))
        else:
            whole.named = _either(whole.named, found)
    if whole.named is not None and not whole.keys:
        whole.keys = None
    return whole


def _together(first: Shape, second: Shape) -> Shape:
    """Return one object with the keys of both."""
    keys = {**(first.keys or {}), **(second.keys or {})}
    some = (first.some - (second.keys or {}).keys()) | second.some
    return Shape(keys=keys, some=some, named=_either(first.named, second.named))


def _comprehended(node: ast.DictComp, scope: Scope) -> Shape:
    match node:
        case ast.DictComp(
            value=ast.Name(id=value_name),
            generators=[
                ast.comprehension(
                    target=ast.Tuple(elts=[_, ast.Name(id=second)]),
                    iter=ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr="items")),
                )
            ],
        ) if value_name == second and (sifted := _named(of, scope)) and sifted.keys:
            return dataclasses.replace(sifted, some=set(sifted.keys))
    value = shape(node.value, inside(node.generators, scope))
    words = _words(node.generators[0].iter, scope)
    if words and len(node.generators) == 1:
        words = [word for word in words if word not in _left_out(node.generators[0], scope)]
        match node.value:
            case ast.Subscript(value=ast.Name(id=name)) if (
                table := _named(name, scope)
            ) and table.keys:
                return Shape(keys={word: table.keys[word] for word in words})
        return Shape(keys=dict.fromkeys(words, value))
    return Shape(named=value)


def _left_out(running: ast.comprehension, scope: Scope) -> set[str]:
    """Return the words of members that `if one is not Kind.MEMBER` leaves out."""
    found = set()
    for test in running.ifs:
        match test:
            case ast.Compare(
                ops=[ast.IsNot()],
                comparators=[ast.Attribute(value=ast.Name(id=kind), attr=member)],
            ):
                found.add(str(getattr(scope.module, kind)[member].value))
    return found


def _words(node: ast.expr, scope: Scope) -> list[str]:
    """List what is run through, where it is known: a tuple of words, or an enumeration."""
    if isinstance(node, ast.Tuple | ast.List):
        return [str(item.value) for item in node.elts if isinstance(item, ast.Constant)]
    if isinstance(node, ast.Name):
        for value in assigned(node.id, scope):
            return _words(value, scope)
        known = getattr(scope.module, node.id, None)
        if isinstance(known, type) and issubclass(known, enum.Enum):
            return [str(one.value) for one in known if isinstance(one.value, str)]
        if isinstance(known, tuple) and all(isinstance(one, str) for one in known):
            return list(known)
    return []


def _named(name: str, scope: Scope) -> Shape | None:
    """Return what a local name or a parameter holds, with all that is put into it later."""
    if name in scope.running:
        return None
    if name in scope.given:
        return shape(*scope.given[name])
    found = [shape(value, scope) for value in assigned(name, scope)]
    if not found:
        return None
    whole = functools.reduce(Shape.merged, found)
    for node in ast.walk(scope.function) if scope.function else ():
        match node:
            case ast.Assign(
                targets=[
                    ast.Subscript(value=ast.Name(id=into), slice=ast.Constant(value=str() as key))
                ],
                value=value,
            ) if into == name:
                whole = _together(whole, Shape(keys={key: shape(value, scope)}, some={key}))
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=into), attr="append"), args=[value]
            ) if into == name:
                whole = whole.merged(Shape(items=shape(value, scope)))
            case ast.AugAssign(target=ast.Name(id=into), op=ast.BitOr(), value=value) if (
                into == name
            ):
                added = shape(value, scope)
                added.some |= set(added.keys or ())
                whole = _together(whole, added)
    return whole


def _called(node: ast.Call, scope: Scope) -> Shape | None:
    """Return what a call makes, if it makes an object or a list of objects."""
    if isinstance(node.func, ast.Name) and node.func.id in ("list", "sorted", "dict", "tuple"):
        return shape(node.args[0], scope) if node.args else None
    if isinstance(node.func, ast.Name) and node.func.id == "asdict":
        return of_type(type_of(node.args[0], scope), unfold=True)
    if isinstance(node.func, ast.Attribute) and node.func.attr == "_asdict":
        return of_type(type_of(node.func.value, scope), unfold=True)
    function = _function(node.func, scope)
    if function is None:
        return None
    return returned(function, _given(node, function, scope))


def _function(node: ast.expr, scope: Scope) -> Callable[..., object] | None:
    if isinstance(node, ast.Attribute):
        owner = type_of(node.value, scope)
        found = inspect.getattr_static(owner, node.attr, None) if isinstance(owner, type) else None
    elif isinstance(node, ast.Name):
        found = getattr(scope.module, node.id, None)
    else:
        return None
    ours = inspect.isfunction(found) and found.__module__.startswith("dcmvault.")
    return found if ours else None


def _given(
    node: ast.Call, function: Callable[..., object], scope: Scope
) -> dict[str, tuple[ast.expr, Scope]]:
    names = list(inspect.signature(function).parameters)
    names = names[isinstance(node.func, ast.Attribute) :]
    given = {
        name: (value, scope)
        for name, value in zip(names, node.args, strict=False)
        if not isinstance(value, ast.Starred)
    }
    return given | {word.arg: (word.value, scope) for word in node.keywords if word.arg}


def returned(
    function: Callable[..., object], given: Mapping[str, tuple[ast.expr, Scope]] | None = None
) -> Shape | None:
    """Return what a function makes, if that is an object, or a list of some."""
    hint = hints_of(inspect.unwrap(function)).get("return")
    if not _is_made_of_objects(hint):
        return None
    scope = dataclasses.replace(scope_of(function), given=given or {})
    assert scope.function is not None
    found = [
        shape(node.value, scope)
        for node in ast.walk(scope.function)
        if isinstance(node, ast.Return) and node.value is not None
    ]
    # What a question for people answers with in its other branch is an empty object.
    found = [one for one in found if one.keys != {}] or found
    if not found:
        return None
    whole = functools.reduce(Shape.merged, found)
    if whole.keys is not None:
        name = f"{function.__module__}.{function.__qualname__}".removeprefix("dcmvault.")
        whole = dataclasses.replace(whole, origin=name)
    return whole


def passed(function: Callable[..., object], to: str) -> Shape:
    """Return the first object that a function gives to a call of this name."""
    scope = scope_of(function)
    for node in ast.walk(scope.function or ast.Module([], [])):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name == to:
                for argument in node.args:
                    if (found := shape(argument, scope)).keys:
                        return found
    raise LookupError(f"{function.__qualname__} passes no object to {to}")


def local(function: Callable[..., object], name: str) -> Shape:
    """Return what a local name of a function holds."""
    return shape(ast.Name(name), scope_of(function))


def constructed(function: Callable[..., object]) -> Shape:
    """Return what a function gives first to the class of what it returns."""
    scope = scope_of(function)
    assert scope.function is not None
    (call,) = [
        node.value
        for node in ast.walk(scope.function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call)
    ]
    return shape(call.args[0], scope)


def _is_made_of_objects(hint: object) -> bool:
    origin = typing.get_origin(hint)
    if origin in (dict, Mapping):
        return True
    return any(_is_made_of_objects(part) for part in typing.get_args(hint))


def of_type(hint: object, *, unfold: bool = False) -> Shape:
    """Return what a value of this annotation is in JSON; data classes are unfolded if asked."""
    if hint is None or hint in (object, typing.Any):
        return Shape({ANY: None})
    if typing.get_origin(hint) is typing.ClassVar:
        return of_type(typing.get_args(hint)[0], unfold=unfold)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return functools.reduce(
            Shape.merged, [of_type(one, unfold=unfold) for one in typing.get_args(hint)]
        )
    hint = getattr(hint, "__supertype__", hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        words = [str(word) for word in arguments]
        text = " · ".join(f"`{word}`" for word in words if word)
        return Shape({text if len(words) <= _MOST_WORDS else TEXT: None})
    if origin in (dict, Mapping):
        return Shape(named=of_type(arguments[1], unfold=unfold))
    if arguments:
        return Shape(items=of_type(arguments[0], unfold=unfold))
    if isinstance(hint, type):
        if issubclass(hint, BaseModel):
            return _model(hint)
        names = (
            [one.name for one in dataclasses.fields(hint)]
            if (dataclasses.is_dataclass(hint))
            else list(getattr(hint, "_fields", ()))
        )
        if unfold and names:
            return Shape(
                keys={
                    one: of_type(hints_of(typing.cast(Hashable, hint)).get(one), unfold=True)
                    for one in names
                }
            )
        if issubclass(hint, enum.Enum) and issubclass(hint, str):
            return of_type(typing.Literal[tuple(one.value for one in hint)])
        for kind, word in _KINDS.items():
            if issubclass(hint, kind):
                return Shape({word: None})
    return Shape({ANY: None})


_KINDS = {
    types.NoneType: NULL, bool: TRUTH, int: NUMBER, float: NUMBER, datetime: TIME, str: TEXT,
}  # fmt: skip


def _model(model: type[BaseModel]) -> Shape:
    return Shape(
        keys={name: of_type(one.annotation) for name, one in model.model_fields.items()},
        origin=f"{model.__module__}.{model.__qualname__}".removeprefix("dcmvault."),
    )
