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


def _network(label: str, settings: Mapping[str, Any]) -> RankerSpec:
    return RankerSpec(label, NeuralRanker, {"neural": settings})


_DCN_V2 = {"bottom": "dcn_v2"}
_FTT = {"bottom": "ft_transformer", "d_embedding": 64}
_ALONE = {"head": "none", "tower_layers": []}

RANKERS: dict[str, RankerSpec] = {
    "shown_order": RankerSpec("Order shown", ShownOrder),
    "popularity": RankerSpec("Popularity", Popularity),
    "xgboost": RankerSpec("XGBoost (single task)", XGBoost),
    "lambdamart": RankerSpec("LambdaMART", LambdaMART),
    "dcn_v2_single": _network("DCN-V2 (single task)", {**_DCN_V2, **_ALONE, "single_task": "auto"}),
    "ftt_single": _network("FT-T (single task)", {**_FTT, **_ALONE, "single_task": "auto"}),
    "dcn_v2": _network("DCN-V2", {**_DCN_V2, **_ALONE}),
    "tabnet": _network("TabNet", {"bottom": "tabnet", **_ALONE}),
    "ftt": _network("FT-T", {**_FTT, **_ALONE}),
    "mmoe": _network("MMoE", {"bottom": "none"}),
    "mmoe_dcn_v2": _network("MMoE + DCN-V2", _DCN_V2),
    "mmoe_ftt": _network("MMoE + FT-T", _FTT),
    "mmoe_dcn_v2_tinybert_cross": _network(
        "MMoE + DCN-V2 + TinyBERT cross", {**_DCN_V2, "text": {"matching": "cross"}}
    ),
    "mmoe_dcn_v2_tinybert_dot": _network("MMoE + DCN-V2 + TinyBERT dot", {**_DCN_V2, "text": {"matching": "dot"}}),
    "mmoe_ftt_tinybert_cross": _network("MMoE + FT-T + TinyBERT cross", {**_FTT, "text": {"matching": "cross"}}),
}
"""Every ranker by the name that the command line takes."""


def ranker_spec(name: str) -> RankerSpec:
    """The ranker of this name; an unknown one is a `UserError` that lists the known ones."""
    if name not in RANKERS:
        raise unknown_name("ranker", name, RANKERS)
    return RANKERS[name]
