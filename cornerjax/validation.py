"""Options are dataclasses; this walks through any of them and says in one sentence what cannot be used.

What a field accepts stands in its annotation: its type, a `Literal`, and inside `Annotated` the limits made below.
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from cornerjax.errors import InputError
from cornerjax.text import short

T = TypeVar("T")


class Accepted(NamedTuple):
    """A limit on a value, beside its type."""

    words: str
    test: Callable[[Any], bool]


def at_least(least: float | int) -> Accepted:
    return Accepted(f"{least} or more", lambda value: value >= least)


def between(least: float | int, most: float | int) -> Accepted:
    return Accepted(f"{least} to {most}", lambda value: least <= value <= most)


def more_than(bound: float | int) -> Accepted:
    return Accepted(f"more than {bound}", lambda value: value > bound)


def at_most(most: float | int) -> Accepted:
    return Accepted(f"{most} or less", lambda value: value <= most)


def less_than(bound: float | int) -> Accepted:
    return Accepted(f"less than {bound}", lambda value: value < bound)


def some(most: int) -> Accepted:
    return Accepted(f"one to {most} numbers", lambda value: 0 < len(value) <= most)


ODD = Accepted("an odd number from 1 to 255", lambda value: 1 <= value <= 255 and value % 2 == 1)
CODE = "code"  # marks a str that may name a function, as package.module:function, which is then imported

# Limits above are far from what is of use: what lies beyond would only take memory and time without end.
Natural = Annotated[int, between(0, 10**9)]
Count = Annotated[int, between(1, 10**9)]
Few = Annotated[int, between(1, 16)]  # as of stacks
Pixels = Annotated[int, between(1, 2**15)]  # a side
Channels = Annotated[int, between(1, 2**14)]
Rows = Annotated[int, between(1, 2**17)]  # of an array, as objects of an image
Positive = Annotated[float, more_than(0), at_most(10**9)]
NotNegative = Annotated[float, between(0, 10**9)]
Share = Annotated[float, between(0, 1)]
Decay = Annotated[float, at_least(0), less_than(1)]  # of a running mean
Part = Annotated[float, more_than(0), less_than(1)]
Scale = Annotated[float, between(0.01, 100)]  # of an image
Name = Annotated[str, Accepted("a name of up to 100 letters", lambda name: len(name) <= 100 and name.isprintable())]
Odd = Annotated[int, ODD]  # the side of a window or kernel


def hints(cls: type) -> dict[str, Any]:
    """The annotations of a dataclass's fields, with what `Annotated` adds."""
    every = typing.get_type_hints(cls, include_extras=True)
    return {field.name: every[field.name] for field in dataclasses.fields(cls)}


def validated(value: Any, kind: Any, name: str) -> Any:
    """The value as its annotation wants it: lists, which JSON has, become tuples, and integers floats.

    Args:
        kind: the annotation. In the place of a dataclass a dict of its fields is accepted, too; one of several
            dataclasses is named by the dict's "type".
        name: of the option, for the message.
    Raises: InputError: naming the option, its value and what is accepted.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = validated(value, args[0], name)
        for limit in args[1:]:
            if isinstance(limit, Accepted) and not limit.test(value):
                words = " and ".join(one.words for one in args[1:] if isinstance(one, Accepted))
                raise InputError(f"{name} is {short(value)}; accepted is {words}")
        return value
    if origin is Literal:
        if type(value) not in map(type, args) or value not in args:
            raise InputError(f"{name} is {short(value)}; accepted are {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        return _tuple(value, args, name)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, args, name)
    if dataclasses.is_dataclass(kind):
        return _options(value, kind, name)
    return _scalar(value, kind, name)


def _scalar(value: Any, kind: Any, name: str) -> Any:
    given = value
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 1e300 else math.inf
    if type(value) is not kind:
        words = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}[kind]
        raise InputError(f"{name} is {short(value)}; accepted is {words}")
    if kind is str and not _is_text(value):
        raise InputError(f"{name} is {short(value)}; accepted is text that a file could be named by")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{name} is {short(given)}; accepted are finite numbers")
    return value


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # half of a character
        return False


def _tuple(value: Any, args: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name} is {short(value)}; accepted is a list")
    if args[-1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise InputError(f"{name} is {short(value)}; accepted is a list of {len(args)}")
    return tuple(validated(one, kind, f"{name}[{i}]") for i, (one, kind) in enumerate(zip(value, args, strict=True)))


def _one_of(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    if type(None) in kinds:
        others = tuple(kind for kind in kinds if kind is not type(None))
        return None if value is None else validated(value, typing.Union[others], name)  # noqa: UP007
    by_name = {kind.__name__: kind for kind in kinds}
    if isinstance(value, Mapping):
        kind = by_name.get(str(value.get("type")))
        value = {key: of_key for key, of_key in value.items() if key != "type"}
    else:
        kind = by_name.get(type(value).__name__)
    if kind is None:
        raise InputError(f"{name} is of no known type; accepted are {', '.join(by_name)}")
    return validated(value, kind, name)


def _options(value: Any, kind: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return filled(kind, value, name)
    if not isinstance(value, kind):
        raise InputError(f"{name} is {short(value)}; accepted is a {kind.__name__}")
    for field, of_field in hints(type(value)).items():
        validated(getattr(value, field), of_field, _dotted(name, field))
    return value


def filled(kind: type[T], content: Mapping[str, Any], name: str = "") -> T:
    """A dataclass with the content of a JSON object, which has a value for every field.

    Raises: InputError: a field is unknown or missing, or its value cannot be used.
    """
    kinds = hints(kind)
    if unknown := sorted(set(content) - set(kinds)):
        raise InputError(f"there is no {_dotted(name, short(unknown[0])[1:-1])}; known are {', '.join(kinds)}")
    if missing := [field for field in kinds if field not in content]:
        raise InputError(f"{_dotted(name, missing[0])} is missing")
    return kind(**{field: validated(content[field], kinds[field], _dotted(name, field)) for field in kinds})


def replaced(options: T, changes: Mapping[str, Any], name: str = "") -> T:
    """Options with some fields changed, as on the command line: {"flip": True, "saccade.max_crops": 8}.

    Args:
        options: a dataclass; the changes of a part of it may also stand in a dict of their own.
        name: of the options, for messages.
    Raises: InputError: there is no such field, or its value cannot be used.
    """
    kinds = hints(type(options))
    for key, value in changes.items():
        field, _, rest = key.partition(".")
        if field not in kinds:
            raise InputError(f"there is no option {_dotted(name, field)}; there are: {', '.join(kinds)}")
        part, of_field = getattr(options, field), _dotted(name, field)
        value = {rest: value} if rest else value
        if dataclasses.is_dataclass(part) and isinstance(value, Mapping) and "type" not in value:
            value = replaced(part, value, of_field)
        else:
            value = validated(value, kinds[field], of_field)
        options = dataclasses.replace(options, **{field: value})  # type: ignore[type-var]
    return options


def as_dict(options: Any) -> dict[str, Any]:
    """Nested dicts of a dataclass's fields; where a field may be one of several dataclasses, "type" says which."""
    made: dict[str, Any] = {}
    for field, kind in hints(type(options)).items():
        value = getattr(options, field)
        if dataclasses.is_dataclass(value):
            several = get_origin(kind) in (typing.Union, types.UnionType)
            made[field] = ({"type": type(value).__name__} if several else {}) | as_dict(value)
        else:
            made[field] = value
    return made


def flat(options: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a dataclass and of its parts by dotted names, as as_dict has them."""
    return _flat(as_dict(options), prefix)


def _flat(fields: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def code_of(options: Any) -> dict[str, str]:
    """The fields that name a function to be imported, by dotted names."""
    found: dict[str, str] = {}
    for field, kind in hints(type(options)).items():
        value = getattr(options, field)
        if dataclasses.is_dataclass(value):
            found |= {f"{field}.{name}": code for name, code in code_of(value).items()}
        elif CODE in get_args(kind)[1:] and ":" in value:
            found[field] = value
    return found


def _dotted(name: str, field: str) -> str:
    return f"{name}.{field}" if name else field
