"""What a model card states: facts of manifests and settings, and figures as `compare` computes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shelfrank.config import EvaluateConfig, PrepareConfig, RelevanceConfig
from shelfrank.core.artifact import MANIFEST, Manifest
from shelfrank.core.errors import UserError
from shelfrank.core.schema import TASKS, Schema, Side
from shelfrank.data.prepared import PreparedData
from shelfrank.evaluate.compare import compare_with_shown_order
from shelfrank.evaluate.data_facts import log_manifest
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.evaluate.segmentations import cold_rows
from shelfrank.evaluate.segments import auc_of_rows
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import Run, resolve_experiment
from shelfrank.report.comparison import Comparison, Epoch, Ranker, read_comparison
from shelfrank.report.estimates import Estimate, Measure
from shelfrank.report.formats import count, listed, number, task_name
from shelfrank.report.sections.calibration import predicted_over_observed
from shelfrank.simulator.config import StorefrontConfig

FEW_SEARCHES = 100
"""Fewer searches than this behind a figure are called out: the interval of an MRR is then about ±0.07 or wider."""
WELL_CALIBRATED = (0.8, 1.25)
"""Predicted over observed events between these is not called out."""
OF_FEATURE = "__"
"""Separates a feature's name from the suffix of a column computed from it, such as `age__missing`."""
MAX_EPOCHS = 30
"""With more, the table of the curve holds the first, the kept and the last one."""


class MeasureColumns(NamedTuple):
    """Names of the columns that the ranker may read."""

    numbers: list[str]
    categories: list[str]


@dataclass(frozen=True)
class Facts:
    """Everything that a card states; its template has the words.

    Attributes:
        run: The run.
        evaluation: Its evaluation.
        prepared: The data.
        log: The manifest of the log that the data was prepared from; None where it is no longer at hand.
        split_name: The evaluated split.
        known: The run's comparison with the shown order.
        ranker: The run among its rankers.
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
    def title(self) -> str:
        """The card's heading."""
        return f"{self.run.label} on {self.known.title}"

    @property
    def conclusion(self) -> str:
        """The result against the shown order by the headline measure; its values alone where there is none."""
        measure = self.known.headline
        phrases = {
            1: "better than the shown order on {}",
            0: "inconclusive against the shown order on {}",
            -1: "worse than the shown order on {}",
            None: "{}",
        }
        groups: dict[int | None, list[str]] = {sign: [] for sign in phrases}
        for task in self.known.tasks:
            own = self.ranker.get(measure, task)
            if own is None:
                continue
            difference = self.known.difference(self.ranker, measure, task)
            base = self.known.rankers[0].get(measure, task)
            beside = "" if difference is None else f" against {number(base.value if base else None)}"
            groups[None if difference is None else difference.sign].append(
                f"{task_name(task)} ({number(own.value)}{beside})"
            )
        told = [phrases[sign].format(listed(tasks)) for sign, tasks in groups.items() if tasks]
        return f"{measure.label}: {'; '.join(told)}." if told else f"No {measure.label} is known."

    @property
    def position_note(self) -> str | None:
        """The log's note on positions that were never shown; None where they are those of the shop's pages."""
        return None if self.log is None else self.log.info["notes"].get("position")

    @property
    def log_notes(self) -> list[tuple[str, str]]:
        """The log's notes by their topic."""
        return [] if self.log is None else [(name, str(note)) for name, note in self.log.info["notes"].items() if note]

    @property
    def simulated(self) -> bool | None:
        """Whether the log was simulated; None where that is not known."""
        return None if self.log is None else self.log.inputs.get("source") == "storefront"

    @property
    def source(self) -> str:
        """Where the log came from."""
        if self.log is None:
            return "unknown, the log is no longer available"
        source = self.log.inputs.get("source", "not recorded")
        return f"{self.known.title}, {'simulated' if self.simulated else f'imported as {source}'}"

    @property
    def confidence(self) -> str:
        """The intervals' confidence; empty where it is not known."""
        return "" if self.known.confidence is None else f"{self.known.confidence * 100:g} %"

    @property
    def measures(self) -> list[Measure]:
        """Every measure of the card's table."""
        return [Measure("auc"), *(Measure(family, k) for family in ("mrr", "ndcg") for k in self.known.ks)]

    @property
    def segment_measure(self) -> Measure:
        """The measure of the segments."""
        return Measure("mrr", max(self.known.ks))

    @property
    def is_network(self) -> bool:
        """Whether the model is one of the composed networks, or has one as a part."""
        spec = ranker_spec(self.run.name)
        return spec.build is NeuralRanker or (spec.blends and self.ranker.params is not None)

    @property
    def columns(self) -> MeasureColumns:
        """The columns that the ranker may read."""
        config = self.run.config
        return MeasureColumns(
            *(
                [c.name for c in some if c.side not in config.exclude_sides and c.name not in config.exclude_features]
                for some in (self.prepared.numerical_columns, self.prepared.categorical_columns)
            )
        )

    @property
    def customer_features(self) -> tuple[list[str], list[str]]:
        """The customer's features that it reads: those that the log declares, and those computed from behaviour."""
        columns = (*self.prepared.numerical_columns, *self.prepared.categorical_columns)
        of_customer = {column.name for column in columns if column.side is Side.CUSTOMER}
        read = [name for names in self.columns for name in names if name in of_customer]
        features = dict.fromkeys(name.split(OF_FEATURE)[0] for name in read)
        schema = Schema.load(self.prepared.path / "schema.yaml")
        declared = {feature.name for feature in schema.select(side=Side.CUSTOMER)}
        return [name for name in features if name in declared], [name for name in features if name not in declared]

    @property
    def excluded(self) -> list[str]:
        """What was left out on purpose."""
        return [f"all {side.value} features" for side in self.run.config.exclude_sides] + [
            *self.run.config.exclude_features
        ]

    @property
    def scored_tasks(self) -> list[str]:
        """The tasks that the ranker predicts."""
        return [task for task, figure in self.evaluation.report["auc"].items() if figure is not None]

    @property
    def unscored_tasks(self) -> list[str]:
        """The other tasks of the data."""
        return [task for task in self.prepared.tasks if task not in self.scored_tasks]

    @property
    def absent_tasks(self) -> list[str]:
        """Tasks that the log has no labels of."""
        return [task for task in TASKS if task not in self.prepared.tasks]

    @property
    def trained_between(self) -> tuple[str, str] | None:
        """The first and the last training search; None where they are not known."""
        train = self.known.data.splits.get("train")
        return (train.first, train.last) if train and train.first and train.last else None

    @property
    def cold_share(self) -> float | None:
        """Share of the evaluated rows whose product the training split never showed."""
        cold, warm = (self.auc_of_products[name]["rows"] for name in ("cold", "warm"))
        return cold / (cold + warm) if cold + warm else None

    @property
    def miscalibrated(self) -> list[str]:
        """Tasks of which far more or fewer events were expected than happened, with the ratio."""
        ratios = {task: predicted_over_observed(bins) for task, bins in self.ranker.calibration.items()}
        return [
            f"{number(ratio, 2)} for {task_name(task)}"
            for task, ratio in ratios.items()
            if ratio is None or not WELL_CALIBRATED[0] <= ratio <= WELL_CALIBRATED[1]
        ]

    @property
    def epochs(self) -> list[Epoch]:
        """The points of the learning curve, of a long one the first, the kept and the last."""
        epochs = [e for e in self.ranker.curves if e.train_loss is not None or e.valid_loss is not None]
        if len(epochs) <= MAX_EPOCHS:
            return epochs
        return [epoch for epoch in epochs if epoch.best or epoch in (epochs[0], epochs[-1])]

    @property
    def trained_with(self) -> str:
        """The version that trained the run."""
        return json.loads((self.run.path / MANIFEST).read_text(encoding="utf-8"))["shelfrank"]

    @property
    def commands(self) -> str:
        """The commands that make the run and its evaluation again."""
        return commands(self)

    def small_segments(self, name: str) -> tuple[list[str], list[str]]:
        """The segments of a segmentation on which few searches count, with how many, and those that have none."""
        segments = self.known.segments.get(name, {})
        few = [
            f"{part} ({', '.join(tasks)})"
            for part, segment in segments.items()
            if segment.searches and (tasks := few_searches(segment.with_positive))
        ]
        return few, [part for part, segment in segments.items() if segment.searches == 0]


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
    known = read_comparison(compare_with_shown_order(run, evaluation))
    split_name = str(evaluation.manifest.inputs["split"])
    config = EvaluateConfig.model_validate(evaluation.manifest.inputs["config"])
    prepared = run.prepared()
    prepared = prepared if config.only is None else prepared.only(split_name, config.only)
    split = prepared.split(split_name)
    cold = cold_rows(split, prepared.split("train"))
    scored = [task for task, figure in evaluation.report["auc"].items() if figure is not None]
    auc_of_products = {
        name: auc_of_rows(rows, evaluation.scored.tasks, split, config, scored)
        for name, rows in (("warm", ~cold), ("cold", cold))
    }
    for found in auc_of_products.values():
        found["auc"] = {task: figure and Estimate.model_validate(figure) for task, figure in found["auc"].items()}
    return Facts(
        run, evaluation, prepared, log_manifest(prepared), split_name, known, known.rankers[-1], auc_of_products
    )


def few_searches(by_task: Mapping[str, int]) -> list[str]:
    """Tasks for which few searches count, with how many."""
    return [f"{task_name(task)} {count(n)}" for task, n in by_task.items() if n < FEW_SEARCHES]


def commands(facts: Facts) -> str:
    """The commands that make the run and its evaluation again, with every setting that is not the default."""
    inputs = facts.prepared.manifest.inputs
    lines = []
    source = facts.log.inputs.get("source") if facts.log else None
    if facts.log and facts.simulated:
        changed = _changed(StorefrontConfig().model_dump(mode="json"), facts.log.inputs["config"])
        lines.append(_command("simulate", changed))
    elif source:
        lines.append(_command(f"import {source} PATH"))
    semantic = ["--semantic scores"] if inputs.get("semantic_scores") else []
    if semantic:
        lines.append("# the semantic scores of this log, written by: shelfrank semantic score log --out scores")
    defaults = PrepareConfig().model_dump(mode="json", exclude={"engine", "semantic_scores"})
    labels: list[str] = []
    if inputs["config"].get("relevance") is not None:
        # Switched on, then what is not the default among its settings.
        labels.append("--set 'relevance={}'")
        defaults["relevance"] = RelevanceConfig().model_dump(mode="json")
    lines.append(_command("prepare log", [*semantic, *labels, *_changed(defaults, inputs["config"])], "prepared"))
    run = facts.run
    preset = resolve_experiment(run.name, None, [], None).model_dump(mode="json")
    trained = _changed(preset, run.manifest.inputs["config"])
    lines.append(_command(f"train prepared --ranker {run.name}", trained, "run"))
    split = [] if facts.split_name == "test" else [f"--split {facts.split_name}"]
    measured = _changed(EvaluateConfig().model_dump(mode="json"), facts.evaluation.manifest.inputs["config"])
    lines.append(_command("evaluate run", [*split, *measured], "evaluation"))
    lines.append(_command("card run evaluation", out="card"))
    return "\n".join(lines)


def _command(words: str, options: Sequence[str] = (), out: str = "log") -> str:
    return " \\\n  ".join([f"shelfrank {words} --out {out}", *options])


def _changed(defaults: Mapping[str, Any], settings: Mapping[str, Any], before: str = "") -> list[str]:
    """Assignments of what is not the default, as `--set` takes them."""
    options = []
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            options += _changed(default, value, f"{before}{name}.")
        elif value != default:
            # One line of YAML, which single quotes can hold.
            told = json.dumps(value, ensure_ascii=False).replace("'", "'\\''")
            options.append(f"--set '{before}{name}={told}'")
    return options
