from typing import Any

import pytest
from comparison_example import click_only_comparison, full_comparison


@pytest.fixture
def full() -> dict[str, Any]:
    return full_comparison()


@pytest.fixture
def click_only() -> dict[str, Any]:
    return click_only_comparison()
