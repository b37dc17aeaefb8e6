from collections.abc import Iterator

import jaxtyping
import pytest
from hypothesis import settings

# A deadline would fail examples on a busy machine, whatever the code does.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Lets wrong shapes reach our own checks where a run checks the signatures' shapes as well."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
