"""Rankers: one file each, named in `RANKERS`.

The names are loaded when they are first used, so that a serving process that scores trees (`rankers.trees`) loads no
torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shelfrank.rankers.registry import RANKERS, RankerSpec, ranker_spec, read_settings

__all__ = ["RANKERS", "RankerSpec", "ranker_spec", "read_settings"]


def __getattr__(name: str) -> Any:
    """Loads a name of the interface."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shelfrank.rankers import registry

    return getattr(registry, name)
