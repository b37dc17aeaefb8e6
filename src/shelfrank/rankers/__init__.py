"""Rankers: one file each, named in `RANKERS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shelfrank.errors import unknown_name
from shelfrank.rankers.base import Problem, Ranker
from shelfrank.rankers.lambdamart import LambdaMART
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.simple import Popularity, ShownOrder
from shelfrank.rankers.xgboost import XGBoost


@dataclass(frozen=True)
class RankerSpec:
    """A named ranker.

    Attributes:
        label: Its name in tables.
        build: Makes an unfitted one.
        preset: Settings that make it what it is; the user's come on top.
    """

    label: str
    build: Callable[[Problem], Ranker]
    preset: Mapping[str, Any] = field(default_factory=dict)


RANKERS: dict[str, RankerSpec] = {
    "shown_order": RankerSpec("Order shown", ShownOrder),
    "popularity": RankerSpec("Popularity", Popularity),
    "xgboost": RankerSpec("XGBoost (single task)", XGBoost),
    "lambdamart": RankerSpec("LambdaMART", LambdaMART),
    "mmoe": RankerSpec("MMoE", NeuralRanker, {"neural": {"bottom": "none"}}),
    "mmoe_dcn_v2": RankerSpec("MMoE + DCN-V2", NeuralRanker, {"neural": {"bottom": "dcn_v2"}}),
}
"""Every ranker by the name that the command line takes."""


def ranker_spec(name: str) -> RankerSpec:
    """The ranker of this name; an unknown one is a `UserError` that lists the known ones."""
    if name not in RANKERS:
        raise unknown_name("ranker", name, RANKERS)
    return RANKERS[name]
