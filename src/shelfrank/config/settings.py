"""The settings of a config class: every key with its type, default and meaning, and the nearest key to a wrong one."""

import difflib
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel

_ENTRY = re.compile(r"    (\w+): (.+)")
_CLOSE = 0.7
_SURE = 0.85
_UNBOUNDED = 1e9
"""An upper bound of at least this much only keeps libraries from overflowing."""


@dataclass(frozen=True)
class Setting:
    """One key of a config class.

    Attributes:
        path: The key, as for `--set`.
        values: Its type and range, in words; empty for a section.
        default: Its default as plain data; None for a section.
        meaning: Its description, on one line.
        section: The class that holds the keys below it; None for a key with a value.
        optional: Whether it may be null.
    """

    path: str
    values: str
    default: Any
    meaning: str
    section: type[BaseModel] | None = None
    optional: bool = False


@cache
def settings_of(model: type[BaseModel], prefix: str = "") -> tuple[Setting, ...]:
    """Lists the keys of a config class and of its sections, each section before its own keys.

    Args:
        model: The config class.
        prefix: Path of the class within another, with a trailing dot.

    Returns:
        The settings; those below a section that is null by default have the section's own defaults.
    """
    # A config class inherits the keys of another, which says what they mean.
    meanings = {key: words for each in reversed(model.__mro__) for key, words in attribute_meanings(each).items()}
    schema = model.model_json_schema()
    found: list[Setting] = []
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        meaning = meanings.get(name) or field.description or ("" if section is None else _summary(section))
        meaning, path = re.sub(r"\bNone\b", "null", meaning), f"{prefix}{name}"
        optional = NoneType in get_args(field.annotation)
        if section is None:
            kind = _type_words(schema["properties"][name], schema.get("$defs", {}))
            default = json.loads(json.dumps(_plain(field.default)))
            found.append(Setting(path, kind, default, meaning, optional=optional))
        else:
            found.append(Setting(path, "", None, meaning, section, optional))
            found += settings_of(section, f"{path}.")
    return tuple(found)


def attribute_meanings(model: type) -> dict[str, str]:
    """Parses the `Attributes:` section of a class's docstring.

    Args:
        model: The class.

    Returns:
        Each attribute's text on one line.
    """
    _, _, section = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry:
            found[entry[1]] = [entry[2]]
        elif line.startswith(" " * 8) and found:
            found[next(reversed(found))].append(line.strip())
        else:
            break
    return {name: " ".join(lines) for name, lines in found.items()}


def select(settings: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Selects keys of nested settings, in their order.

    Args:
        settings: Nested settings.
        paths: Dotted paths; the path of a section selects all keys below it.

    Returns:
        The settings of these paths.

    Example:
        >>> select({"seed": 0, "train": {"epochs": 3, "threads": 1}}, ["train.threads"])
        {'train': {'threads': 1}}
    """
    whole, below = set(), {}
    for path in paths:
        name, _, rest = path.partition(".")
        if rest:
            below.setdefault(name, []).append(rest)
        else:
            whole.add(name)
    return {
        name: value if name in whole else select(value, below[name])
        for name, value in settings.items()
        if name in whole or name in below
    }


def key_hint(model: type[BaseModel], path: str, value: Any) -> str:
    """Suggests known keys for an unknown one.

    Args:
        model: The config class.
        path: The unknown key.
        value: Its value; the keys of a mapping are compared too.

    Returns:
        The nearest keys, or all keys of its section if none is near.
    """
    known = [setting.path for setting in settings_of(model)]
    if path in known:
        section, _, name = path.rpartition(".")
        return f"since keys are nested; write {name} under {section}"
    full_paths = [path]
    while isinstance(value, Mapping) and value:
        key, value = next(iter(value.items()))
        full_paths.append(f"{full_paths[-1]}.{key}")
    for full_path in reversed(full_paths):
        near = _nearest(full_path, known)
        if near:
            return f"did you mean {_or(near)}?"
    parent, _, _ = path.rpartition(".")
    return f"choose one of {', '.join(other for other in known if other.rpartition('.')[0] == parent)}"


def _nearest(path: str, known: list[str]) -> list[str]:
    """The known paths with the same last part, or else the one with the most similar spelling.

    A key that is not in the section it was written in is searched elsewhere only where the section is unknown too, or
    at the top, and only if it is spelled almost alike: `split.test` has nothing to do with `neural.text`.
    """
    parent, _, leaf = path.rpartition(".")
    same = [other for other in known if other.rpartition(".")[2] == leaf]
    if same:
        return difflib.get_close_matches(path, same, n=1, cutoff=_SURE) or same
    siblings = [other for other in known if other.rpartition(".")[0] == parent]
    elsewhere = [] if parent and siblings else known
    for candidates, cutoff in ((siblings, _CLOSE), (elsewhere, _SURE)):
        by_leaf: dict[str, list[str]] = {}
        for other in candidates:
            by_leaf.setdefault(other.rpartition(".")[2], []).append(other)
        near = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=cutoff)
        if near:
            return difflib.get_close_matches(path, by_leaf[near[0]], n=1, cutoff=0)
    return []


def _or(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _section(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _summary(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\n")[0]


def _plain(value: Any) -> Any:
    """A default as plain data: tuples become lists."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _type_words(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        return _type_words(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return ", or ".join(_type_words(option, definitions) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return _or(schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if kind in {"integer", "number"}:
        return ("whole number" if kind == "integer" else "number") + _range_words(schema)
    if kind == "array":
        items = schema.get("prefixItems")
        if items:
            return f"list of {len(items)}: {_type_words(items[0], definitions)}"
        non_empty = " (not empty)" if schema.get("minItems") else ""
        return f"list{non_empty}: {_type_words(schema['items'], definitions)}"
    if kind == "object":
        keys = ", ".join(schema.get("propertyNames", {}).get("enum", ["any name"]))
        return f"mapping of {keys} to {_type_words(schema['additionalProperties'], definitions)}"
    return {"boolean": "true or false", "string": "text", "null": "null"}[kind]


def _range_words(schema: Mapping[str, Any]) -> str:
    """The bounds of a number."""
    upper = [f"below {schema['exclusiveMaximum']:g}"] if "exclusiveMaximum" in schema else []
    if schema.get("maximum", _UNBOUNDED) < _UNBOUNDED:
        upper.append(f"to {schema['maximum']:.10g}" if "minimum" in schema else f"up to {schema['maximum']:.10g}")
    lower = [f"above {schema['exclusiveMinimum']:g}"] if "exclusiveMinimum" in schema else []
    if "minimum" in schema:
        lower.append(f"from {schema['minimum']:g}" if upper else f"of {schema['minimum']:g} or more")
    return "".join(f" {words}" for words in (*lower, *upper))
