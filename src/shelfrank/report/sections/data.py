"""The data: the paper's Table 1 for each split, positives by task, and what was left out."""

from shelfrank.report.blocks import Block, Cell, Columns, Details, Listing, Missing, Row, Section, Table, Text
from shelfrank.report.comparison import Comparison, Data, EvaluatedCounts, SplitSize, Understanding
from shelfrank.report.formats import UNKNOWN, count, day, listed, percent, plural, task_title

SPLIT_TITLES = {"train": "Training", "valid": "Validation", "test": "Test"}


def data_section(comparison: Comparison) -> Section:
    """Sizes of the splits, positives and rates per task, features, and left-out rows by reason."""
    data = comparison.data
    blocks: list[Block] = []
    beside: list[Block] = [_evaluated(comparison)]
    if data.splits:
        blocks.append(_sizes(data.splits))
        blocks.append(Columns([[_positives(data.splits, comparison.tasks)], beside]))
    else:
        blocks += [Missing("Sizes of the splits are not part of this comparison."), *beside]
    notes: list[Block] = [Listing("Notes", data.notes)] if data.notes else []
    if data.features:
        sides = [f"{count(n)} {side}" for side, n in data.features.items()]
        features = f"{plural(sum(data.features.values()), 'feature', 'features')} by side: {listed(sides)}."
        notes.insert(0, Listing("Features", [features]))
    blocks.append(Columns([_left_out(data), notes]))
    if data.understanding is not None:
        blocks.append(_understanding(data.understanding))
    return Section("data", "Data", blocks, "What the rankers were trained and evaluated on.")


def _title(split: str) -> str:
    return SPLIT_TITLES.get(split, split)


def _sizes(splits: dict[str, SplitSize]) -> Table:
    rows = [
        Row(
            _title(name),
            [
                *(Cell(count(n)) for n in (split.queries, split.products, split.customers, split.impressions)),
                Cell(count(split.searches)),
                Cell(day(split.first)),
                Cell(day(split.last)),
            ],
        )
        for name, split in splits.items()
    ]
    columns = ["Queries", "Products", "Customers", "Impressions", "Searches", "First", "Last"]
    legend = (
        "The first four columns are those of the paper's Table 1. Queries and products are distinct ones of "
        "the split; a search is one results page, an impression one product on it."
    )
    return Table("Size of the splits", "Split", columns, rows, legend=legend)


def _positives(splits: dict[str, SplitSize], tasks: list[str]) -> Table:
    rows = []
    for name, split in splits.items():
        cells = []
        for task in tasks:
            cells += [Cell(count(split.positives.get(task))), Cell(percent(split.rate(task), 2))]
        rows.append(Row(_title(name), cells))
    groups = [(task_title(task), 2) for task in tasks]
    return Table(
        "Positives by task",
        "Split",
        ["Positives", "Rate"] * len(tasks),
        rows,
        groups,
        "Rate: per impression.",
    )


def _evaluated(comparison: Comparison) -> Block:
    counts = comparison.counts
    if counts.searches is None and not counts.with_positive:
        return Missing("How many searches were evaluated is not part of this comparison.")
    rows = []
    for task in comparison.tasks:
        positive = counts.with_positive.get(task)
        share = positive / counts.searches if positive is not None and counts.searches else None
        missing = counts.missing_label.get(task)
        rows.append(
            Row(
                task_title(task),
                [
                    Cell(count(counts.searches)),
                    Cell(count(positive)),
                    Cell(percent(share)),
                    Cell(count(missing)),
                ],
            )
        )
    columns = ["Searches", "With a positive", "Share", "Label missing"]
    legend = (
        "MRR and NDCG of a task are means over the searches with a positive for it; "
        "the others are left out and counted here."
    )
    if counts.of_one_product:
        searches = plural(counts.of_one_product, "search shows", "searches show")
        legend += f" {searches} one product only, where MRR and NDCG are always 1."
    return Table("Evaluated searches by task", "Task", columns, rows, legend=legend)


def _left_out(data: Data) -> list[Block]:
    """What the import and the preparation left out of the log, and which features; "nothing" only where it is all."""
    counted = {"at import": data.left_out_at_import, "in preparation": data.left_out}
    rows = [
        Row(reason.replace("_", " ") or UNKNOWN, [Cell(when, numeric=False), Cell(count(n))])
        for when, left_out in counted.items()
        for reason, n in (left_out or {}).items()
        if n
    ]
    blocks: list[Block] = []
    if rows:
        blocks.append(Table("Rows left out of the log, by reason", "Reason", ["When", "Count"], rows))
    if features := data.left_out_features:
        named = [Row(name, [Cell(why, numeric=False)]) for name, why in features.items()]
        table = Table("Features left out, by name", "Feature", ["Reason"], named)
        blocks.append(Details(f"{plural(len(features), 'feature', 'features')} left out", [table]))
    unknown = [f"what was left out {when}" for when, left_out in counted.items() if left_out is None]
    if data.left_out_features is None:
        unknown.append("which features were left out")
    if unknown:
        blocks.append(Missing(f"Not recorded in this comparison: {listed(unknown)}."))
    return blocks or [Text("Nothing was left out.")]


def _understanding(read: Understanding) -> Block:
    """The largest slots and the words that nothing is known of."""
    slots = [
        Row(
            slot.category or UNKNOWN,
            [
                Cell("product type" if slot.is_type else "other", numeric=False),
                Cell(count(slot.n_products)),
                Cell(count(slot.n_terms)),
                Cell(", ".join(slot.terms), numeric=False),
            ],
        )
        for slot in read.slots
    ]
    words = sorted(read.unknown.items(), key=lambda item: (-item[1], item[0]))
    unknown = [Row(word, [Cell(count(searches))]) for word, searches in words]
    blocks: list[Block] = [
        Text(
            f"The catalogue gave {count(read.n_terms)} terms, {count(read.n_types)} of them product types. "
            f"{count(read.n_respelled)} searches had a word that was respelled."
        )
    ]
    if slots:
        columns = ["What", "Products", "Terms", "Most frequent"]
        legend = "A product has at most one term of each slot, so that another one in the query is a conflict."
        blocks.append(Table("Largest slots that were found in titles", "Category", columns, slots, legend=legend))
    if unknown:
        shown = f"{len(unknown)} of {count(read.n_unknown)}" if (read.n_unknown or 0) > len(unknown) else "all"
        legend = f"{shown} words; no product has them and no spelling of a known word is near."
        blocks.append(Table("Words of queries that are not understood", "Word", ["Searches"], unknown, legend=legend))
    return Details("How queries were read", blocks)


ONLY = {"last_of_session": "the last of each session", "randomised": "those whose page was shown in random order"}
"""By the mark of `evaluate.only`, which searches these are."""


def evaluated_on(counts: EvaluatedCounts) -> str:
    """Which searches the figures are on, in words; empty where they are all of one split."""
    words = ""
    if counts.only is not None:
        words = f"{count(counts.searches)} of {plural(counts.of or 0, 'search', 'searches')}"
        words += f" ({ONLY.get(counts.only, counts.only)})"
    if counts.folds:
        words = words or plural(counts.searches or 0, "search", "searches")
        words += f" in {len(counts.folds)} test windows"
    return words


def data_line(comparison: Comparison) -> str:
    """What data the comparison rests on, in one sentence; empty where nothing of it is known."""
    train, test = (comparison.data.splits.get(name) for name in ("train", "test"))
    searches = comparison.counts.searches or (test.searches if test else None)
    parts = []
    if searches is not None:
        customers = f" of {count(test.customers)} customers" if test and test.customers is not None else ""
        evaluated = evaluated_on(comparison.counts) or plural(searches, "search", "searches") + customers
        parts.append(f"evaluated on {evaluated}")
    if train and train.impressions is not None:
        parts.append(f"trained on {plural(train.impressions, 'impression', 'impressions')}")
    if not parts:
        return ""
    name = comparison.data.name or comparison.title
    sentence = f"{plural(len(comparison.rankers), 'ranker', 'rankers')} on {name}, {listed(parts)}"
    if test and test.first and test.last:
        sentence += f"; test searches from {test.first[:10]} to {test.last[:10]}"
    return sentence + "."
