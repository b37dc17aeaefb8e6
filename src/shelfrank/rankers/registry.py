"""Every ranker by its name, with the settings that define it and those it reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shelfrank.config import ExperimentConfig
from shelfrank.config.rankers import RankingTreesConfig
from shelfrank.config.settings import select
from shelfrank.core.errors import UserError, unknown_name
from shelfrank.rankers.base import Problem, Ranker
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.renamed import RENAMED, renamed
from shelfrank.rankers.simple import Popularity, ShownOrder
from shelfrank.text.encoder import encoder_label


@dataclass(frozen=True)
class RankerSpec:
    """A named ranker.

    Attributes:
        label: Its name in tables, with `text` for the text encoder; see `label_for`.
        build: Makes an unfitted one.
        preset: Settings that define it; the user's override them.
        reads: Paths of the settings that it reads, those of a section for all of its keys, or what says so of a config;
            None for a network, whose settings decide which others it reads.
        blends: Whether a network is a part of it, whose preset is its own.
    """

    label: str
    build: Callable[[Problem], Ranker]
    preset: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] | Callable[[ExperimentConfig], tuple[str, ...]] | None = None
    blends: bool = False

    def label_for(self, config: ExperimentConfig) -> str:
        """Its name in tables with the text encoder and parts of a config, such as `MMoE + DCN-V2 + MiniLM cross`."""
        label = self.label
        if self.blends:
            label = label.replace("network", RANKERS[config.blend.network].label)
        return label.replace(" + text ", f" + {encoder_label(config.neural.text.model)} ")

    def preset_for(self, config: ExperimentConfig) -> dict[str, Any]:
        """Settings that define a blend with this config: those of its network; another ranker is a `UserError`."""
        network = ranker_spec(config.blend.network)
        if network.build is not NeuralRanker:
            raise UserError(
                f"blend.network must be a network, such as mmoe_dcn_v2, but {config.blend.network} "
                f"({network.label}) is none"
            )
        return dict(network.preset)


# The boosting libraries load scikit-learn, pandas and SciPy where they are installed, which takes as long as everything
# else together. A process that trains or measures networks has no need of them.


def _xgboost(problem: Problem) -> Ranker:
    from shelfrank.rankers.xgboost import XGBoost

    return XGBoost(problem)


def _lambdamart(problem: Problem) -> Ranker:
    from shelfrank.rankers.lambdamart import LambdaMART

    return LambdaMART(problem)


def _xgboost_ranking(problem: Problem) -> Ranker:
    from shelfrank.rankers.xgboost_ranking import XGBoostRanking

    return XGBoostRanking(problem)


def _catboost(problem: Problem) -> Ranker:
    from shelfrank.rankers.catboost import CatBoost

    return CatBoost(problem)


def _blend(problem: Problem) -> Ranker:
    from shelfrank.rankers.blend import Blend

    return Blend(problem)


def _network(label: str, settings: Mapping[str, Any]) -> RankerSpec:
    return RankerSpec(label, NeuralRanker, {"neural": settings})


def _ranking_trees(label: str, build: Callable[[Problem], Ranker], section: str) -> RankerSpec:
    def reads(config: ExperimentConfig) -> tuple[str, ...]:
        settings: RankingTreesConfig = getattr(config, section)
        # One score of graded labels has nothing to weigh.
        weights = _WEIGHTS if settings.per_task else ()
        return (*weights, *_TREES, *(f"{section}.{key}" for key in settings.read_keys))

    return RankerSpec(label, build, reads=reads)


def _network_reads(config: ExperimentConfig) -> tuple[str, ...]:
    # A single task has one loss and one score, so that there is nothing to weigh.
    weights = (*_WEIGHTS, "relevance_weight") if config.neural.single_task is None else ()
    return ("seed", *weights, *_COLUMNS, "train", *(f"neural.{key}" for key in config.neural.read_keys))


def _blend_reads(config: ExperimentConfig) -> tuple[str, ...]:
    of_trees = (*_TREES, *(f"lambdamart.{key}" for key in config.lambdamart.read_keys))
    return (*_network_reads(config), *_WEIGHTS, *of_trees, "blend")


_COLUMNS = ("exclude_sides", "exclude_features")
_WEIGHTS = ("task_weights", "score_weights")
_TREES = ("seed", *_COLUMNS, "train.threads", "train.hide_share")
_DCN_V2 = {"bottom": "dcn_v2"}
_FTT = {"bottom": "ft_transformer", "d_embedding": 64}
_ALONE = {"head": "none", "tower_layers": []}
_REGULARISED = {
    "neural": {
        "bottom": "mlp",
        "mlp": {"layers": [128, 64]},
        **_ALONE,
        "dropout": 0.25,
        "clip": 5.0,
        "position_bias": {"n_positions": 50, "by": "device"},
        "entire_space": True,
        "calibrate": True,
    },
    "train": {
        "batch_searches": 256,
        "learning_rate": 1.5e-3,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "listwise_weight": 0.1,
        "epochs": 5,
        "patience": 5,
        "stop_by": "mrr",
    },
}
"""Chosen on the validation split of a simulated shop, by what customers would do and not by what was logged."""

RANKERS: dict[str, RankerSpec] = {
    "shown_order": RankerSpec("Shown order", ShownOrder, reads=_COLUMNS),
    "popularity": RankerSpec("Popularity", Popularity, reads=(*_WEIGHTS, *_COLUMNS)),
    "xgboost": RankerSpec("XGBoost (single task)", _xgboost, reads=(*_TREES, "xgboost")),
    "lambdamart": _ranking_trees("LambdaMART", _lambdamart, "lambdamart"),
    "xgboost_ranking": _ranking_trees("XGBoost (ranking)", _xgboost_ranking, "xgboost_ranking"),
    "catboost": _ranking_trees("CatBoost", _catboost, "catboost"),
    "dcn_v2_single": _network("DCN-V2 (single task)", {**_DCN_V2, **_ALONE, "single_task": "auto"}),
    "ftt_single": _network("FT-T (single task)", {**_FTT, **_ALONE, "single_task": "auto"}),
    "dcn_v2": _network("DCN-V2", {**_DCN_V2, **_ALONE}),
    "tabnet": _network("TabNet", {"bottom": "tabnet", **_ALONE}),
    "ftt": _network("FT-T", {**_FTT, **_ALONE}),
    "mmoe": _network("MMoE", {"bottom": "none"}),
    "mmoe_dcn_v2": _network("MMoE + DCN-V2", _DCN_V2),
    "mmoe_ftt": _network("MMoE + FT-T", _FTT),
    "mmoe_dcn_v2_text_cross": _network("MMoE + DCN-V2 + text cross", {**_DCN_V2, "text": {"matching": "cross"}}),
    "mmoe_dcn_v2_text_dot": _network("MMoE + DCN-V2 + text dot", {**_DCN_V2, "text": {"matching": "dot"}}),
    "mmoe_ftt_text_cross": _network("MMoE + FT-T + text cross", {**_FTT, "text": {"matching": "cross"}}),
    "network": RankerSpec("Network", NeuralRanker, _REGULARISED),
    "blend": RankerSpec("Blend (LambdaMART, network)", _blend, reads=_blend_reads, blends=True),
}
"""Every ranker by the name that the command line takes."""


def ranker_spec(name: str) -> RankerSpec:
    """The ranker of this name; an unknown or former one is a `UserError` with the known names or today's."""
    if name in RENAMED:
        raise renamed(name)
    if name not in RANKERS:
        raise unknown_name("ranker", name, RANKERS)
    return RANKERS[name]


def read_settings(name: str, config: ExperimentConfig) -> dict[str, Any]:
    """Selects the settings that a ranker reads.

    Args:
        name: A name in `RANKERS`.
        config: Its resolved config.

    Returns:
        The settings as plain data; every other one could have any value.

    Raises:
        UserError: Where the ranker is unknown.
    """
    reads = ranker_spec(name).reads
    reads = _network_reads if reads is None else reads
    return select(config.model_dump(mode="json"), reads(config) if callable(reads) else reads)
