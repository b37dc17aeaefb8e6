"""The checker of signatures for `pytest --jaxtyping-packages=shelfrank,type_checker.beartype`.

jaxtyping binds the arguments of every call and checks them twice, so that the names of axes agree. Most functions have
no array in their signature and gain nothing by it, so they are checked by beartype alone, which takes a small part of
the time. jaxtyping imports this module when it meets the first function, and only that one is checked the long way.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import beartype as library
import jaxtyping

beartype = library.beartype(conf=library.BeartypeConf(is_pep484_tower=True))
"""Lets an int stand where a float is declared, as type checkers do."""

_jaxtyped = jaxtyping.jaxtyped


def _checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """The decorator that jaxtyping's import hook puts on every function and class."""
    with_shapes = _jaxtyped(typechecker=typechecker)

    def decorate(function: Any) -> Any:
        if inspect.isclass(function):
            if not dataclasses.is_dataclass(function) or "__init__" not in vars(function):
                return function
            if _needs_shapes(function.__init__):
                return with_shapes(function)
            function.__init__ = beartype(function.__init__)
            return function
        return with_shapes(function) if _needs_shapes(function) else beartype(function)

    return decorate


def _needs_shapes(function: Callable[..., Any]) -> bool:
    return any(_has_array(hint) for hint in function.__annotations__.values())


def _has_array(hint: Any) -> bool:
    """Whether a hint has an array in it, or is a string, which jaxtyping skips where its name is not known yet."""
    if isinstance(hint, list):
        return any(map(_has_array, hint))
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or isinstance(hint, str) or any(map(_has_array, typing.get_args(hint)))


jaxtyping.jaxtyped = _checked
