"""The checker of signatures for `pytest --jaxtyping-packages=shelfrank,type_checker.beartype`.

jaxtyping binds the arguments of every call and has them checked twice, and most functions have no array whose axes it
could compare: that was most of the time of many tests. So each function is wrapped once by beartype, those with an
array within a scope in which the names of axes must agree. The check is compiled at the first call, because a test
calls few of the functions that it imports. jaxtyping imports this module when it meets the first function, which alone
is checked the long way.
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

    def decorate(thing: Any) -> Any:
        if not inspect.isclass(thing):
            return _wrapped(thing, typechecker)
        own = vars(thing).get("__init__") if dataclasses.is_dataclass(thing) else None
        # One that is written out has been wrapped as a function.
        if own is not None and not hasattr(own, "__wrapped__"):
            thing.__init__ = _wrapped(own, typechecker)
        return thing

    return decorate


def _wrapped(function: Callable[..., Any], typechecker: Callable[..., Any]) -> Callable[..., Any]:
    hints = function.__annotations__.values()
    if any(map(_has_string, hints)):
        # jaxtyping skips hints whose names are not known yet.
        return _jaxtyped(function, typechecker=typechecker)
    has_array = any(map(_has_array, hints))
    checked = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        if checked is None:
            checked = beartype(function)
        if not has_array:
            return checked(*args, **kwargs)
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        with _jaxtyped("context"):
            return checked(*args, **kwargs)

    return call


def _has_string(hint: Any) -> bool:
    return isinstance(hint, str) or any(map(_has_string, _parts(hint)))


def _has_array(hint: Any) -> bool:
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(map(_has_array, _parts(hint)))


def _parts(hint: Any) -> typing.Iterable[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return ()
    # The arguments of a callable are a list.
    return hint if isinstance(hint, list) else typing.get_args(hint)


jaxtyping.jaxtyped = _checked
