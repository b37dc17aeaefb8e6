"""What callers give to the API, checked in one place: a wrong argument is one sentence, never a traceback."""

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError

from shelfrank.core.artifact import target
from shelfrank.core.errors import UserError, os_sentence, unknown_name

P = ParamSpec("P")
R = TypeVar("R")

MAX_DEPTH = 20
"""Levels of nested settings in which NumPy's values are looked for."""
_KINDS: Mapping[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "True or False",
    "mapping_type": "a dictionary",
    "dict_type": "a dictionary",
    "is_instance_of": "a list",
    "sequence_str": "a list",
    "list_type": "a list",
}
"""By pydantic's type of error, what an argument must be."""
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Checks the arguments of a function by their annotations before it runs.

    NumPy's numbers and arrays are taken as Python's. What the system says of files becomes a `UserError` too.

    Args:
        function: A function of the API whose parameters are annotated.

    Returns:
        The function, which raises a `UserError` for wrong arguments.
    """
    signature = inspect.signature(function)
    checks: dict[str, Callable[[Any], Any]] = {}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        of_class = next(iter(signature.parameters), "") == "cls"
        name = f"{getattr(args[0], '__name__', '')}.{function.__name__}" if of_class else function.__qualname__
        bound = _bind(name, signature, args, kwargs)
        for parameter, given in bound.arguments.items():
            annotation = signature.parameters[parameter].annotation
            if parameter in ("self", "cls"):
                continue
            value = plain(given)
            if signature.parameters[parameter].kind is not inspect.Parameter.VAR_KEYWORD and annotation is not Any:
                if parameter not in checks:
                    checks[parameter] = TypeAdapter(annotation, config=_STRICT).validate_python
                value = _validated(name, parameter, checks[parameter], value)
            if parameter == "out" and isinstance(value, str | os.PathLike):
                # Steps put checkpoints and drafts beside it, under its name.
                value = target(Path(value))
            bound.arguments[parameter] = value
        try:
            return function(*bound.args, **bound.kwargs)
        except OSError as error:
            raise UserError(os_sentence(error)) from error

    # What `help` shows: types as callers know them, without what checks them.
    shown = get_type_hints(SimpleNamespace(__annotations__=_parameter_types(signature)))
    parameters = [
        each.replace(annotation=shown.get(name, each.annotation)) for name, each in signature.parameters.items()
    ]
    call.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return call


def _parameter_types(signature: inspect.Signature) -> dict[str, Any]:
    return {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not inspect.Parameter.empty and name != "cls"
    }


def plain(value: Any, depth: int = 0) -> Any:
    """A value as plain Python data, also within lists and dictionaries.

    Args:
        value: Any value.
        depth: Levels of lists and dictionaries around it.

    Returns:
        Numbers, texts and arrays of NumPy as Python's; None for a missing value of pandas; a path within a list or
        dictionary as text; anything else as it is.
    """
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        if value.dtype.kind == "M":
            value = value.astype("datetime64[us]")
        return plain(value.tolist(), depth)
    if kind.__name__ in ("NAType", "NaTType"):
        return None
    if depth == MAX_DEPTH:
        return value
    if depth and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: plain(inner, depth + 1) for key, inner in value.items()}
    if kind in (list, tuple):
        return kind(plain(inner, depth + 1) for inner in value)
    return value


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, or the NaN that pandas has in its place."""
    return value is None or (isinstance(value, float) and value != value)


def optional_path(path: str | os.PathLike[str] | None) -> Path | None:
    """A path that may be left out, as the steps below the API take it."""
    return None if path is None else Path(path)


def _location(given: Any) -> Any:
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path or any("\ud800" <= each <= "\udfff" for each in path):
        raise ValueError("a path or the result of a step")
    return given


def _id(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError("an id")
    return str(given)


def _visitor(given: Any) -> Any:
    if is_missing(given):
        return None
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError("an id, or None")
    return given


def _listed(given: Any) -> list[Any]:
    if isinstance(given, str | bytes | Mapping | os.PathLike) or hasattr(given, "columns"):
        raise ValueError("a list")
    if not isinstance(given, Iterable):
        raise ValueError("a list")
    return plain(list(given))


def _names(given: Any) -> Any:
    return [given] if isinstance(given, str) else _listed(given)


Location = Annotated[str | os.PathLike[str], PlainValidator(_location)]
"""A path, or the result of a step."""
Locations = Annotated[Sequence[Location], BeforeValidator(_listed)]
Ids = Annotated[Iterable[Any], PlainValidator(_listed)]
SearchId = Annotated[str | int, PlainValidator(_id)]
VisitorId = Annotated[str | int | float | None, PlainValidator(_visitor)]
Names = Annotated[Sequence[str], BeforeValidator(_names)]
"""Names, or one alone."""
Ordinal = Annotated[int, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["fp32", "int8"]
Preset = Literal["default", "paper"]


def _bind(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        others = [each.name for each in signature.parameters.values() if each.kind is inspect.Parameter.VAR_KEYWORD]
        known = [each for each in signature.parameters if each not in ("self", "cls", *others)]
        unknown = next((each for each in kwargs if each not in known), None)
        is_misspelt = unknown is not None and bool(difflib.get_close_matches(unknown, known, n=1))
        if unknown is not None and (is_misspelt or not others):
            raise unknown_name(f"argument of {name}", unknown, known) from error
        raise UserError(f"{name}: {error}; it takes {', '.join(known)}") from error


def _validated(name: str, parameter: str, check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        raise _refusal(name, parameter, error.errors(include_url=False)[0]) from error


def _refusal(name: str, parameter: str, item: Mapping[str, Any]) -> UserError:
    """The error for one of pydantic's."""
    given = item["input"]
    place = ".".join([parameter, *(str(part) for part in item["loc"] if part != "[key]")])
    if item["type"] != "literal_error":
        return UserError(f"{name}: {place} must be {_words(item)}, but it is {spoken(given)}")
    known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
    if isinstance(given, str):
        return unknown_name(place, given, known)
    return UserError(f"{name}: {place} must be {' or '.join(map(repr, known))}, but it is {spoken(given)}")


def _words(item: Mapping[str, Any]) -> str:
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "greater_than_equal":
        return f"{item['ctx']['ge']:g} or more"
    if item["type"] == "less_than_equal":
        return f"{item['ctx']['le']:g} or less"
    return _KINDS.get(item["type"], item["msg"].removeprefix("Input should be "))


def spoken(given: Any) -> str:
    """A wrong argument in an error: a short value as it is, of any other its type."""
    if given is None or (isinstance(given, str | int | float | bytes | os.PathLike) and len(repr(given)) <= 80):
        return repr(str(given)) if isinstance(given, os.PathLike) else repr(given)
    return f"of type {type(given).__name__}"
