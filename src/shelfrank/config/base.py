"""The base of every settings class, and how settings are merged from files and overrides."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shelfrank.config.settings import key_hint
from shelfrank.core.errors import UserError
from shelfrank.core.schema import load_yaml, one_sentence

Model = TypeVar("Model", bound=BaseModel)

MAX_COUNT = 2**31 - 1
"""Maximum count that every library accepts."""
MAX_ROUNDS = 100_000
MAX_THREADS = 1024

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""A number of rows, searches and the like."""
Rounds = Annotated[int, Field(ge=1, le=MAX_ROUNDS)]
"""Epochs, trees, trials, or a patience counted in them."""
Threads = Annotated[int, Field(ge=1, le=MAX_THREADS)]
Seed = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""A relative weight; only ratios of weights matter."""
Share = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[int, Field(ge=1, le=16_384)]
"""Units of a layer."""
Resamples = Annotated[int, Field(ge=2, le=1_000_000)]
Cutoff = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""Products from the top of a page."""


class Strict(BaseModel):
    """A part of the tree: unknown keys are errors, numbers are finite, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def resolve(
    model: type[Model],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    base: dict[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """Builds a part of the tree from a preset, a YAML file, nested settings and `a.b=c` overrides, later ones winning.

    Args:
        model: The part to build.
        file: YAML with any of its keys.
        overrides: Assignments as the command line's `--set` takes them; values are YAML.
        base: Values of a preset.
        settings: Nested values as Python callers give them, such as `{"train": {"epochs": 3}}`.

    Returns:
        The validated part.

    Raises:
        UserError: Where a key is unknown or a value has the wrong type; the text names the path, and the nearest key to
            an unknown one.
    """
    data: dict[str, Any] = dict(base or {})
    where = "config"
    if file is not None:
        loaded = load_yaml(file)
        if not isinstance(loaded, dict):
            raise UserError(f"{file} must hold keys and values, but it holds {type(loaded).__name__}")
        data = merge(data, loaded)
        where = str(file)
    data = merge(data, settings or {})
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
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(one_sentence(where, error, partial(key_hint, model))) from error


def normalised_weights(weights: dict[Any, float] | None, tasks: Sequence[str]) -> dict[str, float]:
    """Weights over the given tasks that sum to 1.

    Args:
        weights: Weights by task; None weighs all equally. A task that is not named weighs nothing.
        tasks: The tasks that the log has.

    Returns:
        A weight for each of `tasks`.

    Raises:
        UserError: Where a weight is negative, or none of the log's tasks has weight.

    Example:
        >>> normalised_weights({"click": 1, "purchase": 3}, ["click", "purchase"])
        {'click': 0.25, 'purchase': 0.75}
    """
    chosen = {task: 1.0 if weights is None else float(weights.get(task, 0.0)) for task in tasks}
    total = sum(chosen.values())
    if min(chosen.values(), default=0.0) < 0 or total <= 0:
        raise UserError(
            f"weights must be 0 or more with at least one above 0 among the log's tasks {', '.join(tasks)}, "
            f"but they are {weights}"
        )
    return {task: weight / total for task, weight in chosen.items()}


def merge(base: Mapping[str, Any], top: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """One part's values over another's, key by key; task weights are replaced whole.

    Args:
        base: The earlier values.
        top: The later values, which win.
        path: Prefix of the keys in an error.

    Returns:
        The merged values.

    Raises:
        UserError: Where keys are to be set in what an earlier value made no mapping; that value would be lost.
    """
    merged = dict(base)
    for key, given in top.items():
        # Of a config object only what was set counts, else its defaults would replace a ranker's preset.
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
