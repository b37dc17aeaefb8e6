"""Personalized, multi-task product-search ranking from search logs.

`import shelfrank as sr` gives every step as a function; `shelfrank.api` shows how they follow one another. Nothing is
loaded before it is used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shelfrank.api import (
        Bundle,
        Comparison,
        Evaluation,
        PreparedData,
        Run,
        SearchLog,
        UserError,
        compare,
        evaluate,
        explain,
        export,
        import_log,
        prepare,
        simulate,
        train,
        validate,
    )

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Comparison",
    "Evaluation",
    "PreparedData",
    "Run",
    "SearchLog",
    "UserError",
    "compare",
    "evaluate",
    "explain",
    "export",
    "import_log",
    "prepare",
    "simulate",
    "train",
    "validate",
]


class _Package(ModuleType):
    """Keeps a step's name for its function where a subpackage has the same name.

    Importing `shelfrank.train.trainer` would otherwise make the subpackage `shelfrank.train` of what was a function.
    `from shelfrank.train import trainer` imports from the subpackage all the same.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("shelfrank.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
