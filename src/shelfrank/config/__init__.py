"""The configuration as one tree; the resolved tree is stored with everything that it determines."""

from shelfrank.config.base import Strict, merge, resolve
from shelfrank.config.evaluate import EvaluateConfig
from shelfrank.config.neural import (
    DCNV2Config,
    FTTransformerConfig,
    MLPConfig,
    MMoEConfig,
    NeuralConfig,
    TabNetConfig,
    TextConfig,
)
from shelfrank.config.prepare import (
    EngineConfig,
    HistoryConfig,
    PrepareConfig,
    SparkConfig,
    SplitConfig,
    UnderstandingConfig,
)
from shelfrank.config.rankers import (
    BlendConfig,
    CatBoostConfig,
    ExperimentConfig,
    LambdaMARTConfig,
    TrainConfig,
    XGBoostConfig,
    XGBoostRankingConfig,
)
from shelfrank.config.relevance import AgreementConfig, RelevanceConfig
from shelfrank.config.sampling import SamplingConfig
from shelfrank.config.semantic import SemanticConfig, SemanticTrainConfig
from shelfrank.config.task_weights import TaskWeights
from shelfrank.config.tune import TuneConfig

__all__ = [
    "AgreementConfig",
    "BlendConfig",
    "CatBoostConfig",
    "DCNV2Config",
    "EngineConfig",
    "EvaluateConfig",
    "ExperimentConfig",
    "FTTransformerConfig",
    "HistoryConfig",
    "LambdaMARTConfig",
    "MLPConfig",
    "MMoEConfig",
    "NeuralConfig",
    "PrepareConfig",
    "RelevanceConfig",
    "SamplingConfig",
    "SemanticConfig",
    "SemanticTrainConfig",
    "SparkConfig",
    "SplitConfig",
    "Strict",
    "TabNetConfig",
    "TaskWeights",
    "TextConfig",
    "TrainConfig",
    "TuneConfig",
    "UnderstandingConfig",
    "XGBoostConfig",
    "XGBoostRankingConfig",
    "merge",
    "resolve",
]
