"""The pipeline from Python: each step is a function, each result an object that the next step takes.

    import shelfrank as sr

    log = sr.simulate(out="logs/shop", searches=3000)                 # or
    log = sr.import_log("custom", "mapping.yaml", out="logs/shop")    # or
    log = sr.SearchLog.from_frames(
        impressions=clicks, products=catalogue, out="logs/shop",
        columns={"impressions": {"page": "search_id", "at": "timestamp"}},
        features={"brand": {"side": "product", "kind": "categorical"}},
    )
    data = sr.prepare(log, out="prepared", history={"windows_days": [1, 7]})
    evaluations = []
    for ranker in ("shown_order", "lambdamart", "mmoe"):
        run = sr.train(data, ranker=ranker, out=f"runs/{ranker}", seed=0)
        evaluations.append(sr.evaluate(run, out=f"evals/{ranker}"))
    comparison = sr.compare(evaluations, out="comparison", baseline="shown_order")
    comparison.table()         # a pandas frame: figures, intervals, paired differences
    comparison.per_search()    # a pandas frame: every search's metrics, to slice as you like
    bundle = sr.export(run, out="bundle")
    bundle.rank(query="red sofa", candidates=["p1", "p2"], customer="c7").results

A step takes a path or the object that an earlier step returned. It writes one folder, `.path`, and keeps a finished one
of the same inputs: then `.changed` is False. `validate`, `explain` and `describe` write nothing and return what they
found. As on the command line, which calls these functions, a run names its data by the path that was given.

Settings are nested keywords, the same keys as in the command line's `--set` and `--config`; the classes in
`shelfrank.config` list them. A wrong argument, key or value is a `UserError`: one sentence that names its path.
"""

from shelfrank.api.arguments import Location
from shelfrank.api.artifacts import (
    Agreement,
    Artifact,
    ModelCard,
    PreparedData,
    Run,
    SemanticModel,
    SemanticScores,
    Tuning,
)
from shelfrank.api.bundles import Bundle, BundleVersion, bundle_versions, export, rollback
from shelfrank.api.data import prepare, relevance_agreement, sampling_lines, score_semantic, train_semantic
from shelfrank.api.experiments import CensusComparison, Reproduction, compare_census, reproduce, run_demo
from shelfrank.api.figures import Comparison, Evaluation, compare, evaluate
from shelfrank.api.logs import SearchLog, import_log, simulate, validate
from shelfrank.api.runs import describe, explain, model_card, rankers, track, train
from shelfrank.api.serving import serve
from shelfrank.api.tuning import tune, tune_fusion
from shelfrank.core.errors import UserError

__all__ = [
    "Agreement",
    "Artifact",
    "Bundle",
    "BundleVersion",
    "CensusComparison",
    "Comparison",
    "Evaluation",
    "Location",
    "ModelCard",
    "PreparedData",
    "Reproduction",
    "Run",
    "SearchLog",
    "SemanticModel",
    "SemanticScores",
    "Tuning",
    "UserError",
    "bundle_versions",
    "compare",
    "compare_census",
    "describe",
    "evaluate",
    "explain",
    "export",
    "import_log",
    "model_card",
    "prepare",
    "rankers",
    "relevance_agreement",
    "reproduce",
    "rollback",
    "run_demo",
    "sampling_lines",
    "score_semantic",
    "serve",
    "simulate",
    "track",
    "train",
    "train_semantic",
    "tune",
    "tune_fusion",
    "validate",
]
