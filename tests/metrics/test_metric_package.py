import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

from shelfrank import metrics

MODULES = [module.name for module in pkgutil.iter_modules(metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"shelfrank.metrics.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_everything_exported_exists_and_is_listed_in_order() -> None:
    assert all(hasattr(metrics, name) for name in metrics.__all__)
    constants, classes = ["METRICS"], ["Difference", "Expected", "Interval"]
    functions = sorted(set(metrics.__all__) - {*constants, *classes})
    assert metrics.__all__ == [*constants, *classes, *functions]


def test_metrics_need_neither_models_nor_data() -> None:
    listing = "import sys, shelfrank.metrics; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout
    ours = {name for name in loaded.split() if name.startswith("shelfrank.")}
    assert {name for name in ours if not name.startswith("shelfrank.metrics")} == {
        "shelfrank.core",
        "shelfrank.core.errors",
    }
    assert not {"torch", "pandas", "sklearn"} & set(loaded.split())
