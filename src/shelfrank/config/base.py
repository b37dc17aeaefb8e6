"""Types that all parts of the configuration share, and the merge of presets, files and overrides."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shelfrank.config.settings import key_hint
from shelfrank.core.errors import UserError
from shelfrank.core.schema import load_yaml, one_sentence

Model = TypeVar("Model", bound=BaseModel)

MAX_COUNT = 2**31 - 1
"""Highest count that every library accepts."""
MAX_ROUNDS = 100_000
MAX_THREADS = 1024

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""A number of rows, searches and the like."""
Rounds = Annotated[int, Field(ge=1, le=MAX_ROUNDS)]
"""Numbers of epochs, trees and trials, and the patience in them."""
Threads = Annotated[int, Field(ge=1, le=MAX_THREADS)]
Seed = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""A relative weight; only ratios matter."""
WeightByTask = dict[Literal["click", "add_to_cart", "purchase"], Weight]
"""Weights of some tasks; see `TaskWeights`."""
Share = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[int, Field(ge=1, le=16_384)]
"""Units of a layer."""
Resamples = Annotated[int, Field(ge=2, le=1_000_000)]
Cutoff = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""Products from the top of a page."""


class Strict(BaseModel):
    """A part of the tree: unknown keys are errors, numbers are finite, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def resolve(
    model: type[Model],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    base: dict[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """Builds a part of the tree from a preset, a YAML file, nested settings and `a.b=c` overrides; later ones win.

    Args:
        model: The part to build.
        file: YAML with any of its keys.
        overrides: Assignments of the command line's `--set`; values are YAML.
        base: Values of a preset.
        settings: Nested values from Python, such as `{"train": {"epochs": 3}}`.

    Returns:
        The validated part.

    Raises:
        UserError: Where a key is unknown or a value has the wrong type; the text names the path and the nearest known
            key.
    """
    from_file = {} if file is None else _read_settings(file)
    given = merge(settings or {}, assignments(overrides))
    data = merge(merge(dict(base or {}), from_file), given)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        places = {"config": given} if given or file is None else {}
        places |= {} if file is None else {str(file): from_file}
        raise UserError(one_sentence(partial(_place, places), error, partial(key_hint, model))) from error


def assignments(overrides: Sequence[str]) -> dict[str, Any]:
    """Reads assignments as the command line's `--set` takes them.

    Args:
        overrides: Assignments, a later one winning; values are YAML.

    Returns:
        Nested settings.

    Raises:
        UserError: Where one is no assignment, its value is no YAML, or two contradict each other.

    Example:
        >>> assignments(["train.epochs=3", "seed=1"])
        {'train': {'epochs': 3}, 'seed': 1}
    """
    data: dict[str, Any] = {}
    for item in overrides:
        path, equals, value = item.partition("=")
        if not equals or not path.strip():
            raise UserError(f"--set must look like a.b=value, but it is {item!r}")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {path} must have a YAML value, but it is {value!r}") from error
        for part in reversed(path.strip().split(".")):
            parsed = {part: parsed}
        data = merge(data, parsed)
    return data


def _read_settings(file: Path) -> dict[str, Any]:
    loaded = load_yaml(file)
    if not isinstance(loaded, dict):
        raise UserError(f"{file} must hold keys and values, but it holds {type(loaded).__name__}")
    return loaded


def _place(places: Mapping[str, Mapping[str, Any]], path: Sequence[Any]) -> str:
    """Where a setting was given: the first place that has it, or else the most of its path."""

    def depth(settings: Any) -> int:
        for found, part in enumerate(path):
            if not isinstance(settings, Mapping) or part not in settings:
                return found
            settings = settings[part]
        return len(path)

    return max(places, key=lambda place: depth(places[place]))


def merge(base: Mapping[str, Any], top: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Merges later values over earlier ones, key by key; task weights are replaced as a whole.

    Args:
        base: The earlier values.
        top: The later values, which win.
        path: Prefix of the keys in an error.

    Returns:
        The merged values.

    Raises:
        UserError: Where a later value sets keys below an earlier value that is not a mapping.
    """
    merged = dict(base)
    for key, given in top.items():
        # Only the set fields of a config object count; its defaults must not replace a ranker's preset.
        value = given.model_dump(mode="json", exclude_unset=True) if isinstance(given, BaseModel) else given
        earlier, where = merged.get(key), f"{path}{key}"
        replaces = key in {"task_weights", "score_weights"}
        if not isinstance(value, Mapping) or earlier is None or replaces:
            merged[key] = value
        elif isinstance(earlier, Mapping):
            merged[key] = merge(earlier, value, f"{where}.")
        else:
            raise UserError(
                f"{where} must hold keys and values, since {where}.{next(iter(value), '')} is set, but it was set to "
                f"{earlier!r} before; remove one of the two"
            )
    return merged
