"""What a model card states: facts of the manifests, and figures measured on the evaluated split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from shelfrank.config import EvaluateConfig
from shelfrank.core.artifact import Manifest
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.data_facts import data_facts, log_manifest
from shelfrank.evaluate.differences import ranker_differences
from shelfrank.evaluate.evaluation import Evaluation, figures
from shelfrank.evaluate.segmentations import cold_rows, segmentations
from shelfrank.evaluate.segments import auc_of_rows, segment_figures
from shelfrank.metrics import left_out_searches
from shelfrank.rankers.run import Run, problem
from shelfrank.rankers.simple import ShownOrder
from shelfrank.report.comparison import Comparison, Ranker, read_comparison

SHOWN = "shown_order"


@dataclass(frozen=True)
class Facts:
    """Everything that a card states, nothing of it in words.

    Attributes:
        run: The run.
        evaluation: Its evaluation.
        prepared: The data.
        log: The manifest of the log that the data was prepared from; None where it is no longer at hand.
        split_name: The evaluated split.
        known: The run's figures beside those of the order shown, as a report reads them.
        ranker: The run among them.
        auc_of_products: For `warm` and `cold` rows, by `evaluate.segments.auc_of_rows`.
    """

    run: Run
    evaluation: Evaluation
    prepared: PreparedData
    log: Manifest | None
    split_name: str
    known: Comparison
    ranker: Ranker
    auc_of_products: dict[str, dict[str, Any]]

    @property
    def has_reference(self) -> bool:
        """Whether the figures stand beside those of the order shown."""
        return self.known.baseline is not None

    @property
    def position_note(self) -> str | None:
        """What the log says of positions that nobody was shown; None where they are those of the shop's pages."""
        return None if self.log is None else self.log.info["notes"].get("position")

    @property
    def simulated(self) -> bool | None:
        """Whether the log was simulated; None where that is not known."""
        return None if self.log is None else self.log.inputs.get("source") == "storefront"

    @property
    def scored_tasks(self) -> list[str]:
        """The tasks that the ranker was made to predict."""
        return [task for task, figure in self.evaluation.report["auc"].items() if figure is not None]


def gather(run: Run, evaluation: Evaluation) -> Facts:
    """Reads and measures everything that a card of a run states.

    Args:
        run: The run.
        evaluation: An evaluation of it.

    Returns:
        The facts.

    Raises:
        UserError: Where the evaluation is of another run, or the data is no longer what was evaluated.
    """
    if evaluation.manifest.inputs["run"] != run.manifest.fingerprint:
        raise UserError(f"{evaluation.path} must be an evaluation of {run.path}, but it is of another run")
    prepared = run.prepared()
    split_name = str(evaluation.manifest.inputs["split"])
    split, train = prepared.split(split_name), prepared.split("train")
    config = EvaluateConfig.model_validate(evaluation.manifest.inputs["config"])
    log = log_manifest(prepared)
    own = {**evaluation.report, "name": run.path.name if run.path.name != SHOWN else f"{SHOWN} (run)"}
    tasks, fused = np.asarray(evaluation.array("tasks")), {own["name"]: np.asarray(evaluation.array("fused"))}
    rankers, differences = [own], {}
    made_up = log is not None and "position" in log.info["notes"]
    if run.name != SHOWN and not made_up:
        reference, shown_tasks, scores = _shown_order(run, prepared, split, config)
        rankers.insert(0, reference)
        fused[SHOWN] = scores
        differences[own["name"]] = ranker_differences(
            [fused[own["name"]], scores],
            [tasks, shown_tasks],
            [task for task, figure in own["auc"].items() if figure is not None],
            split,
            config,
        )
    baseline = SHOWN if SHOWN in fused else None
    scored = [task for task, figure in evaluation.report["auc"].items() if figure is not None]
    cold = cold_rows(split, train)
    info = prepared.manifest.info
    known = read_comparison(
        {
            "title": info["log_name"],
            "tasks": list(prepared.tasks),
            "ks": list(config.ks),
            "confidence": config.confidence,
            "data": data_facts(prepared),
            "baseline": baseline,
            "counts": _counts(split),
            "rankers": rankers,
            "differences": differences,
            "segments": segment_figures(
                # A log that has changed since has the kinds of other searches; the data's own folder has none.
                segmentations(Path(info["log"]) if log else prepared.path, prepared, split_name),
                fused,
                split,
                config,
                baseline,
            ),
        }
    )
    return Facts(
        run=run,
        evaluation=evaluation,
        prepared=prepared,
        log=log,
        split_name=split_name,
        known=known,
        ranker=known.rankers[-1],
        auc_of_products={
            name: auc_of_rows(rows, tasks, split, config, scored) for name, rows in (("warm", ~cold), ("cold", cold))
        },
    )


def _shown_order(
    run: Run, prepared: PreparedData, split: Split, config: EvaluateConfig
) -> tuple[dict[str, Any], Float32[np.ndarray, "rows n_tasks"], Float32[np.ndarray, " rows"]]:
    """The figures of the order shown, and its scores by task and of the page; a card needs no run of it."""
    shown = ShownOrder(problem(prepared, run.config))
    tasks = shown.score(split)
    fused = np.ascontiguousarray(tasks[:, 0])
    measured = figures(split, tasks, fused, shown, config)
    return {"name": SHOWN, "label": "Shown order", "learned": False, **measured}, tasks, fused


def _counts(split: Split) -> dict[str, Any]:
    left_out = {
        task: left_out_searches(np.ascontiguousarray(split.labels[:, index]), split.search_offsets)
        for index, task in enumerate(split.tasks)
    }
    return {
        "searches": split.n_searches,
        "of_one_product": int((np.diff(split.search_offsets) == 1).sum()),
        "with_positive": {task: split.n_searches - sum(counts.values()) for task, counts in left_out.items()},
        "missing_label": {task: counts.get("label missing", 0) for task, counts in left_out.items()},
    }
