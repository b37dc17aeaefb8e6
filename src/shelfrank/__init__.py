"""Personalized, multi-task product-search ranking from search logs.

`import shelfrank as sr` gives every step as a function; `shelfrank.api` shows how they follow one another. Nothing is
loaded before it is used.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shelfrank.api import (
        Agreement,
        Bundle,
        Comparison,
        Evaluation,
        ModelCard,
        PreparedData,
        Run,
        SearchLog,
        SemanticModel,
        SemanticScores,
        Tuning,
        UserError,
        compare,
        describe,
        evaluate,
        explain,
        export,
        import_log,
        model_card,
        prepare,
        relevance_agreement,
        score_semantic,
        simulate,
        track,
        train,
        train_semantic,
        tune,
        tune_fusion,
        validate,
    )

# Set before any numerical library is loaded. Threads that wait by spinning stall one another wherever another process
# wants a core: on two shared cores a training step took 20 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = [
    "Agreement",
    "Bundle",
    "Comparison",
    "Evaluation",
    "ModelCard",
    "PreparedData",
    "Run",
    "SearchLog",
    "SemanticModel",
    "SemanticScores",
    "Tuning",
    "UserError",
    "compare",
    "describe",
    "evaluate",
    "explain",
    "export",
    "import_log",
    "model_card",
    "prepare",
    "relevance_agreement",
    "score_semantic",
    "simulate",
    "track",
    "train",
    "train_semantic",
    "tune",
    "tune_fusion",
    "validate",
]


class _Package(ModuleType):
    """Keeps a step's name for its function where a subpackage has the same name.

    Importing `shelfrank.train.trainer` would otherwise replace the function `shelfrank.train` by the subpackage. The
    function stays and has the attributes of the subpackage, which is where `import shelfrank.train.trainer as x` looks.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _StepPackage
            _share(name)
        else:
            super().__setattr__(name, value)


class _StepPackage(ModuleType):
    """A subpackage that has the name of a step: each module that is imported from it becomes the function's, too."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        _share(self.__name__.rpartition(".")[2])


def _share(step: str) -> None:
    """Gives a step's function the attributes of the subpackage of its name, where both are loaded."""
    function, package = globals().get(step), sys.modules.get(f"{__name__}.{step}")
    if function is not None and package is not None:
        vars(function).update({name: value for name, value in vars(package).items() if not name.startswith("__")})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("shelfrank.api"), name)
    globals()[name] = value
    _share(name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
