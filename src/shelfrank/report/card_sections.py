"""The sections of a model card, the same for the page and for Markdown."""

import importlib.metadata
import json
import platform
from collections.abc import Sequence

from shelfrank.core.artifact import MANIFEST
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report import card_words as words
from shelfrank.report.blocks import (
    Block,
    Cell,
    Code,
    Columns,
    Definitions,
    Details,
    Figure,
    Figures,
    Listing,
    Missing,
    Row,
    Section,
    Table,
    Tabs,
    Text,
)
from shelfrank.report.card_commands import commands
from shelfrank.report.card_facts import Facts
from shelfrank.report.charts import curve_chart, reliability_chart
from shelfrank.report.comparison import Epoch, Segment, figure_of
from shelfrank.report.formats import brief, compact, count, duration, listed, number, percent, signed, task_title
from shelfrank.report.measured import Interval, Measure
from shelfrank.report.sections.calibration import summary
from shelfrank.report.sections.data import data_section
from shelfrank.report.sections.learning import curve_caption
from shelfrank.report.sections.provenance import DEFINITIONS
from shelfrank.report.sections.ranker_rows import MARKS, NOTE_TONES
from shelfrank.report.sections.segments import SEGMENTATIONS

MOST_EPOCHS = 30
"""With more, the table of the curve holds the first, the kept and the last one."""
PACKAGES = ("numpy", "torch", "xgboost-cpu", "xgboost", "lightgbm", "transformers")


def card_sections(facts: Facts, license_name: str) -> list[Section]:
    """What it is, learned from and is for, how good it is on whom, its limits, and how to make it again."""
    return [
        _model(facts, license_name),
        _use(facts),
        _data(facts),
        _metrics(facts),
        _segments(facts),
        _calibration(facts),
        _learning(facts),
        Section("limits", "Limits", [Listing("What the figures do not show", words.limits(facts))]),
        Section("fairness", "Fairness", [Listing("How it treats customers", words.fairness(facts))]),
        _reproduce(facts),
    ]


def _model(facts: Facts, license_name: str) -> Section:
    info = facts.run.manifest.info
    facts_of_it = [
        ("Run", facts.run.path.name),
        ("Ranker", f"{facts.run.label} ({facts.run.name})"),
        ("Tasks", listed([words.spoken(task) for task in facts.scored_tasks])),
        ("Weights", words.weights(facts)),
        ("Parameters", _parameters(facts)),
        ("Seed", str(facts.run.config.seed)),
        ("Training", f"{duration(info['cost']['wall_s'])} on {count(info['rows'])} rows"),
        ("Fingerprint", facts.run.manifest.fingerprint),
        ("Licence", license_name),
    ]
    blocks: list[Block] = [Listing("Architecture", words.architecture(facts)), Definitions(facts_of_it)]
    if facts.ranker.choices:
        blocks.append(Listing("What training chose by itself", facts.ranker.choices))
    return Section("model", "The model", blocks)


def _parameters(facts: Facts) -> str:
    params = facts.ranker.params
    if params is None or params.trainable is None or params.total is None:
        return "not counted" if facts.evaluation.report["learned"] else "none"
    parts = listed([f"{name.replace('_', ' ')} {compact(n)}" for name, n in params.parts.items()])
    return f"{count(params.trainable)} trainable ({parts}), {count(params.total - params.trainable)} frozen"


def _use(facts: Facts) -> Section:
    parts: list[list[Block]] = [
        [Listing("For", words.intended_use(facts))],
        [Listing("Not for", words.out_of_scope(facts))],
    ]
    return Section("use", "Intended use", [Columns(parts)])


def _data(facts: Facts) -> Section:
    manifest = facts.prepared.manifest
    split = manifest.inputs["config"]["split"]
    by = "time, the latest searches for the test" if split["by"] == "time" else "a fixed hash of the search's id"
    known = [
        ("Source", _source(facts)),
        ("Log fingerprint", str(manifest.inputs["log"])),
        ("Data fingerprint", manifest.fingerprint),
        (
            "Split by",
            f"{by}: {percent(split['train'], 0)} training, {percent(split['valid'], 0)} validation, the rest test",
        ),
    ]
    if facts.log is not None:
        known += [(f"Note on {name}", str(note)) for name, note in sorted(facts.log.info["notes"].items()) if note]
    section = data_section(facts.known)
    return Section("data", "Data", [Definitions(known), *section.blocks], "What it learned from and was measured on.")


def _source(facts: Facts) -> str:
    if facts.log is None:
        return "not known, the log is no longer at hand"
    source = str(facts.log.inputs.get("source", "not recorded"))
    return f"{facts.known.title}, imported as {source}" if not facts.simulated else f"{facts.known.title}, simulated"


def _metrics(facts: Facts) -> Section:
    rows = [
        Row(
            measure.label,
            [
                cell
                for task in facts.known.tasks
                for cell in _figure_cells(
                    facts,
                    facts.ranker.get(measure, task),
                    facts.known.rankers[0].get(measure, task),
                    facts.known.difference(facts.ranker, measure, task),
                )
            ],
        )
        for measure in (
            Measure("auc"),
            *(Measure(family, k) for family in ("mrr", "ndcg") for k in facts.known.ks),
        )
    ]
    blocks: list[Block] = [_table("Ranking quality by task", "Measure", rows, facts, _how_to_read(facts))]
    if facts.ranker.pd:
        degrees = [
            Row(
                f"PD@{k}",
                [
                    Cell(number(degree.value), _interval_note(degree)),
                    Cell(count(degree.n)),
                    Cell(count(degree.left_out)),
                ],
            )
            for k, degree in facts.ranker.pd.items()
        ]
        legend = (
            "Share of the first products that stay among the first without the customer's own features; at 1 nothing "
            "depends on the customer. Pages of at most that many products are left out."
        )
        blocks.append(
            Table("Personalization Degree", "Measure", ["Value", "Pages", "Left out"], degrees, legend=legend)
        )
    meant = [item for item in DEFINITIONS if item[0] not in ("Position bias",)]
    blocks.append(Details("What the measures mean", [Definitions(meant)]))
    return Section(
        "metrics", "Metrics", blocks, f"On the {facts.split_name} split, with {_confidence(facts)}intervals."
    )


def _segments(facts: Facts) -> Section:
    measure = Measure("mrr", max(facts.known.ks))
    items: list[tuple[str, list[Block]]] = []
    for name, about in SEGMENTATIONS.items():
        segments = facts.known.segments.get(name)
        if not segments:
            continue
        rows = [
            _segment_row(facts, part, known, about.meanings.get(part, ""), measure) for part, known in segments.items()
        ]
        blocks: list[Block] = [
            _table(f"{measure.label} by {about.title.lower()}", "Part", rows, facts, about.legend, counted=True)
        ]
        if name == "product_coldness":
            blocks.append(_products(facts))
        items.append((about.title, blocks))
    intro = f"{measure.label} on parts of the searches. {_how_to_read(facts)}"
    return Section("segments", "Metrics by segment", [Tabs("segments", "Searches by", items)], intro)


def _segment_row(facts: Facts, part: str, segment: Segment, meaning: str, measure: Measure) -> Row:
    cells = [Cell(count(segment.searches))]
    for task in facts.known.tasks:
        cells.append(Cell(count(segment.with_positive.get(task))))
        cells += _figure_cells(
            facts,
            figure_of(segment.rankers, facts.ranker, measure, task),
            figure_of(segment.rankers, facts.known.rankers[0], measure, task),
            figure_of(segment.differences, facts.ranker, measure, task),
        )
    return Row(part.capitalize(), cells, meaning)


def _products(facts: Facts) -> Table:
    rows = []
    for name, found in facts.auc_of_products.items():
        cells = [Cell(count(found["rows"]))]
        for task in facts.known.tasks:
            figure = found["auc"][task]
            interval = None if figure is None else Interval.model_validate(figure)
            cells += [
                Cell(count(found["positives"][task])),
                Cell(number(interval.value if interval else None), _interval_note(interval)),
            ]
        rows.append(Row(name.capitalize(), cells))
    groups = [("", 1), *((task_title(task), 2) for task in facts.known.tasks)]
    return Table(
        "AUC over the rows of warm and cold products",
        "Products",
        ["Rows", *["Positives", "AUC"] * len(facts.known.tasks)],
        rows,
        groups,
        "Cold: the training split has never shown the product. Each AUC compares rows of its own kind only.",
    )


def _table(caption: str, head: str, rows: Sequence[Row], facts: Facts, legend: str, counted: bool = False) -> Table:
    """A table of `_figure_cells` by task; `counted` ones begin with searches, and each task with those that count."""
    each = ["Value", "Shown order", "Difference"] if facts.has_reference else ["Value"]
    each = [*(["Count"] if counted else []), *each]
    groups = [(task_title(task), len(each)) for task in facts.known.tasks]
    before, width = (["Searches"], [("", 1)]) if counted else ([], [])
    return Table(caption, head, [*before, *each * len(facts.known.tasks)], rows, [*width, *groups], legend)


def _figure_cells(
    facts: Facts, own: Interval | None, shown: Interval | None, difference: Interval | None
) -> list[Cell]:
    cells = [Cell(number(own.value if own else None), _interval_note(own))]
    if facts.has_reference:
        sign = (difference.sign or 0) if difference else 0
        words_of_it = signed(difference.value if difference else None)
        cells.append(Cell(number(shown.value if shown else None), _interval_note(shown)))
        cells.append(Cell(MARKS.get(sign, "") + words_of_it, _interval_note(difference, NOTE_TONES.get(sign, ""))))
    return cells


def _interval_note(interval: Interval | None, tone: str = "") -> list[tuple[str, str]]:
    if interval is None or interval.low is None or interval.high is None:
        return []
    ends = brief(interval) if interval.low >= 0 else f"{number(interval.low)} to {number(interval.high)}"
    return [(ends, tone)]


def _confidence(facts: Facts) -> str:
    return "" if facts.known.confidence is None else f"{facts.known.confidence * 100:g} % "


def _how_to_read(facts: Facts) -> str:
    if not facts.has_reference:
        return "Beside each value stands its interval."
    return (
        "Beside each value stands its interval; the difference to the order that the shop showed is paired, on the "
        f"same searches: ▲ or ▼ where its interval excludes 0 and at least {MIN_SEARCHES} searches count."
    )


def _calibration(facts: Facts) -> Section:
    figures, rows = [], []
    for index, (task, bins) in enumerate(facts.ranker.calibration.items()):
        title = task_title(task)
        chart = reliability_chart(f"calibration-{index}", f"{facts.ranker.title}, {title}", bins)
        figures.append(Figure(title, chart, summary(bins)))
        rows += [
            Row(title, [Cell(number(b.predicted, 4)), Cell(number(b.observed, 4)), Cell(count(b.rows))]) for b in bins
        ]
    if not figures:
        missing = "Its scores are no probabilities, so there is nothing to calibrate."
        return Section("calibration", "Calibration", [Missing(missing)])
    table = Table("Rows by rising prediction", "Task", ["Predicted", "Observed", "Rows"], rows)
    caption = (
        "Predicted / observed: above 1 the model expects too many. Mean gap: between prediction and observed rate, "
        "over bins of about equally many rows; rows of equal prediction share a bin."
    )
    blocks: list[Block] = [Figures(figures, caption), Details("The bins in numbers", [table])]
    return Section("calibration", "Calibration", blocks, "Whether predicted probabilities are met by what happens.")


def _learning(facts: Facts) -> Section:
    epochs = [e for e in facts.ranker.curves if e.train_loss is not None or e.valid_loss is not None]
    if not epochs:
        return Section("learning", "Learning curve", [Missing("It records no losses, since it does not learn.")])
    figure = Figure(
        "Loss by epoch",
        curve_chart("curve", f"Loss by epoch, {facts.ranker.title}", epochs),
        curve_caption(facts.ranker),
    )
    table = Table(
        "Losses" if len(epochs) <= MOST_EPOCHS else "Losses of the first, the kept and the last epoch",
        "Epoch",
        ["Training loss", "Validation loss"],
        [
            Row(str(e.epoch), [Cell(number(e.train_loss, 4)), Cell(number(e.valid_loss, 4))], "kept" if e.best else "")
            for e in _told_epochs(epochs)
        ],
    )
    return Section("learning", "Learning curve", [Figures([figure]), Details("The curve in numbers", [table])])


def _told_epochs(epochs: Sequence[Epoch]) -> list[Epoch]:
    if len(epochs) <= MOST_EPOCHS:
        return list(epochs)
    return [epoch for epoch in epochs if epoch.best or epoch in (epochs[0], epochs[-1])]


def _reproduce(facts: Facts) -> Section:
    path = facts.run.path / MANIFEST
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    known = [
        ("Trained with", f"shelfrank {json.loads(path.read_text(encoding='utf-8'))['shelfrank']}"),
        ("Where this card was written", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    blocks: list[Block] = [
        Text("What the commands do not set is left at the defaults of the version that trained it."),
        Code(commands(facts)),
        Definitions(known),
    ]
    return Section("reproduce", "How to reproduce", blocks)
