"""The checker of signatures for `pytest --jaxtyping-packages=shelfrank,type_checker.beartype`.

jaxtyping binds the arguments of every call and checks them twice, so that the names of axes agree. Most functions have
no array in their signature and gain nothing by it, so they are checked by beartype alone, which takes a small part of
the time. A function's check is compiled at its first call, because a test calls few of those that it imports.
jaxtyping imports this module when it meets the first function, and only that one is checked the long way.
"""

import dataclasses
import functools
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
            # An `__init__` that is written out has been decorated as a function.
            if not hasattr(function.__init__, "__wrapped__"):
                function.__init__ = decorate(function.__init__)
            return function
        if any(isinstance(hint, str) for hint in function.__annotations__.values()):
            # Later, the hint would name a class that jaxtyping now leaves out.
            return with_shapes(function)
        return _at_first_call(function, with_shapes if _needs_shapes(function) else beartype)

    return decorate


def _at_first_call(function: Callable[..., Any], check: Callable[..., Any]) -> Callable[..., Any]:
    checked = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        if checked is None:
            checked = check(function)
        return checked(*args, **kwargs)

    return call


def _needs_shapes(function: Callable[..., Any]) -> bool:
    return any(_has_array(hint) for hint in function.__annotations__.values())


def _has_array(hint: Any) -> bool:
    """Whether a hint has an array in it, or is a string, which jaxtyping skips where its name is not known yet."""
    if isinstance(hint, list):
        return any(map(_has_array, hint))
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or isinstance(hint, str) or any(map(_has_array, typing.get_args(hint)))


jaxtyping.jaxtyped = _checked
