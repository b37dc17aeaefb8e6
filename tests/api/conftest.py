"""The steps that the API's tests share."""

import pytest
from small_steps import Steps


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Every step run once; tests must only read what it wrote."""
    return Steps(tmp_path_factory.mktemp("api"))
