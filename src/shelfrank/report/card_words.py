"""The sentences of a model card: each follows from a manifest, a setting or a figure, and none says more."""

from collections.abc import Iterator, Mapping, Sequence

from shelfrank.config import NeuralConfig
from shelfrank.core.schema import TASKS, Schema, Side
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.report.card_facts import Facts
from shelfrank.report.comparison import Segment
from shelfrank.report.formats import count, day, listed, number, percent, plural
from shelfrank.report.sections.segments import SEGMENTATIONS

FEW_SEARCHES = 100
"""Fewer searches than this behind a figure are called out: the interval of an MRR is then about ±0.07 or wider."""
FEW = "few"
"""Stands for the sign of a difference that rests on fewer searches than a statement takes."""
WELL_CALIBRATED = (0.8, 1.25)
"""Predicted over observed events between these is not called out."""
OF_FEATURE = "__"
"""What parts a feature's name from that of a column made of it, such as `age__missing`."""


def architecture(facts: Facts) -> list[str]:
    """How the model is built, part by part."""
    run, config = facts.run, facts.run.config
    if ranker_spec(run.name).build is NeuralRanker:
        return list(_network(facts, config.neural))
    tasks = listed([spoken(task) for task in facts.scored_tasks])
    known = {
        "xgboost": f"Gradient-boosted trees (XGBoost), of depth {config.xgboost.max_depth} at most, that learn "
        f"{tasks}; their probability orders the page.",
        "lambdamart": f"Gradient-boosted trees (LightGBM's LambdaMART), of {config.lambdamart.n_leaves} leaves at "
        "most, that learn to order each page by its rows' deepest outcome.",
        "popularity": "Nothing is learned: the products' smoothed rates of each outcome so far order the page.",
        "shown_order": "Nothing is learned: the shop's own order.",
    }
    return [known.get(run.name, run.label)]


def _network(facts: Facts, neural: NeuralConfig) -> Iterator[str]:
    numbers, categories = columns(facts)
    yield (
        f"Inputs: {plural(len(numbers), 'number', 'numbers')} and {plural(len(categories), 'category', 'categories')}, "
        f"each category embedded in {neural.d_embedding} numbers."
    )
    text = neural.text
    if text.matching != "none":
        how = {"cross": "multiplied number by number", "dot": "compared by their dot product"}[text.matching]
        yield (
            f"Text: {text.model} reads the query and the product, the last {text.trained_layers} of its layers "
            f"trained; the two vectors are {how}."
        )
    yield {
        "none": "Shared bottom: none, the inputs are handed on.",
        "mlp": f"Shared bottom: dense layers of widths {_widths(neural.mlp.layers)}.",
        "dcn_v2": f"Shared bottom: DCN-V2 with {plural(neural.dcn_v2.n_cross_layers, 'cross layer', 'cross layers')} "
        f"and deep layers of widths {_widths(neural.dcn_v2.deep_layers)}.",
        "ft_transformer": f"Shared bottom: FT-Transformer with {neural.ft_transformer.n_blocks} blocks of "
        f"{neural.ft_transformer.n_heads} heads.",
        "tabnet": f"Shared bottom: TabNet with {neural.tabnet.n_steps} decision steps.",
    }[neural.bottom]
    if neural.head == "mmoe":
        yield (
            f"Head: multi-gate mixture of {neural.mmoe.n_experts} experts of widths "
            f"{_widths(neural.mmoe.expert_layers)}, one gate per task."
        )
    tasks = listed([spoken(task) for task in facts.scored_tasks])
    hidden = f"hidden layers of widths {_widths(neural.tower_layers)}" if neural.tower_layers else "no hidden layer"
    if neural.single_task is None:
        yield f"Towers: one per task ({tasks}), with {hidden}."
        if facts.run.config.relevance_weight > 0 and facts.prepared.relevance_classes:
            yield (
                f"Beside the tasks it learns a relevance label of {facts.prepared.relevance_classes} classes with "
                f"weight {facts.run.config.relevance_weight:g}, which never enters the score."
            )
    else:
        yield f"Tower: one, for {tasks} alone, with {hidden}."


def weights(facts: Facts) -> str:
    """How the page's order is made of the tasks' scores."""
    if facts.ranker.task_weights:
        loss, order = facts.ranker.task_weights, facts.ranker.order_weights
        if loss == order:
            return f"{_weighted(loss)}; the same weights make the page's order of the tasks' probabilities"
        return f"{_weighted(loss)} in the loss, {_weighted(order)} in the order"
    return "none, one score orders the page"


def conclusion(facts: Facts) -> str:
    """How the model stands to the order shown, by its headline measure; its values alone where there is none."""
    measure = facts.known.headline
    groups: dict[int | str | None, list[str]] = {}
    for task in facts.known.tasks:
        own, shown = (ranker.get(measure, task) for ranker in (facts.ranker, facts.known.rankers[0]))
        if own is None:
            continue
        difference = facts.known.difference(facts.ranker, measure, task)
        sign = None if difference is None else FEW if difference.too_few else difference.sign
        beside = "" if difference is None else f" against {number(shown.value if shown else None)}"
        groups.setdefault(sign, []).append(f"{spoken(task)} ({number(own.value)}{beside})")
    phrases: dict[int | str | None, str] = {
        1: "Above the order shown",
        0: "Not shown to differ from the order shown",
        -1: "Below the order shown",
        FEW: "On too few searches to tell it from the order shown",
        None: "Measured",
    }
    told = [
        f"{phrase}{',' if sign == FEW else ' on'} {listed(groups[sign])}"
        for sign, phrase in phrases.items()
        if sign in groups
    ]
    return f"{'. '.join(told)}, by {measure.label}." if told else f"No {measure.label} is known."


def intended_use(facts: Facts) -> list[str]:
    """What the model is for, as far as what it was trained on says so."""
    numbers, categories = columns(facts)
    uses = [
        f"Ordering the products that a search found, page by page, for {facts.known.title} or a shop whose log is "
        "prepared in the same way.",
    ]
    if facts.evaluation.report["uses_features"]:
        uses.append(
            f"Every product needs its {count(len(numbers) + len(categories))} feature columns as they were known "
            "before the search; the data's encoder.json says how raw values become these."
        )
    if facts.simulated:
        uses.append("Trying the software: the log was simulated, so this model has never seen a customer.")
    return uses


def out_of_scope(facts: Facts) -> list[str]:
    """What the model must not be used for, each with its reason."""
    report = facts.evaluation.report
    reasons = [
        "Finding products: it learned from products that a search had already found, and orders no others.",
        "Another shop's queries, products or customers without training anew: vocabularies and statistics are this "
        "log's.",
        "Any decision about a person, such as prices or credit.",
    ]
    if report["calibration"] is None:
        reasons.append("Reading its scores as probabilities: only their order within a page has a meaning.")
    elif off := _off(facts):
        reasons.append(f"Reading its scores as probabilities: predicted over observed events is {listed(off)}.")
    elif facts.known.data.sampling is not None:
        reasons.append(
            "Reading its scores as probabilities of the log: training rows were sampled, which moved the share of "
            "positives."
        )
    if facts.simulated:
        reasons.append("Any live shop: the log was simulated.")
    return reasons


def _off(facts: Facts) -> list[str]:
    """Tasks of which far more or fewer events were expected than happened, with the ratio."""
    found = []
    for task, bins in facts.ranker.calibration.items():
        known = [(b.predicted, b.observed, b.rows) for b in bins if b.rows]
        expected, happened = (sum((pair[i] or 0) * (pair[2] or 0) for pair in known) for i in (0, 1))
        if not happened or not WELL_CALIBRATED[0] <= expected / happened <= WELL_CALIBRATED[1]:
            found.append(f"{number(expected / happened if happened else None, 2)} for {spoken(task)}")
    return found


def limits(facts: Facts) -> list[str]:
    """What the figures do not show, each derived from what is known of the data and the measuring."""
    return [
        *_of_the_split(facts),
        *_small_numbers(facts),
        *_of_the_labels(facts),
        *_of_the_training(facts),
        *_not_measured(facts),
    ]


def _of_the_split(facts: Facts) -> Iterator[str]:
    if facts.split_name == "train":
        yield "These figures are of the training split, from which it learned; they say nothing of new searches."
    if facts.split_name == "valid":
        yield "These figures are of the validation split, which decided when training stopped, and flatter it."
    if facts.simulated:
        yield "The log was simulated. Real customers, queries and products differ in ways that no figure here shows."
    if facts.simulated is None:
        yield "The log is no longer at hand, so its source and notes are not part of this card."
    train = facts.known.data.splits.get("train")
    if train and train.first and train.last:
        yield (
            f"It learned from searches between {day(train.first)} and {day(train.last)}; seasons and assortments of "
            "other times were not seen."
        )


def _small_numbers(facts: Facts) -> Iterator[str]:
    few = {t: n for t, n in facts.known.counts.with_positive.items() if n < FEW_SEARCHES}
    if few:
        told = listed([f"{spoken(task)} ({count(n)})" for task, n in few.items()])
        yield f"Fewer than {FEW_SEARCHES} searches count for: {told}. Their intervals are wide."
    for name, words in SEGMENTATIONS.items():
        segments = facts.known.segments.get(name, {})
        empty = [segment for segment, known in segments.items() if known.searches == 0]
        small = [told for segment, known in segments.items() if (told := _few(segment, known))]
        if small:
            yield f"{words.title}: fewer than {FEW_SEARCHES} searches count in {'; '.join(small)}."
        if empty:
            yield f"{words.title}: no search was measured in {listed(empty)}."


def _few(name: str, segment: Segment) -> str:
    few = {t: n for t, n in segment.with_positive.items() if n < FEW_SEARCHES}
    if not segment.searches or not few:
        return ""
    return f"{name} ({', '.join(f'{spoken(task)} {count(n)}' for task, n in few.items())})"


def _of_the_labels(facts: Facts) -> Iterator[str]:
    if facts.position_note:
        yield f"There is no shown order to compare with; the log says of its positions: {facts.position_note}."
    else:
        yield (
            "Labels were collected under the order that the shop showed, and nothing corrects for it: products shown "
            "further up had more chances of being seen, so figures favour orders close to the shop's."
        )
    absent = [task for task in TASKS if task not in facts.prepared.tasks]
    if absent:
        yield f"The log has no labels of {listed([spoken(task) for task in absent])}."
    unscored = [task for task in facts.prepared.tasks if task not in facts.scored_tasks]
    if unscored:
        yield (
            f"It was not made to predict {listed([spoken(task) for task in unscored])}: MRR and NDCG of "
            f"{'it' if len(unscored) == 1 else 'them'} are those of an order made for other tasks."
        )
    missing = {task: n for task, n in facts.known.counts.missing_label.items() if n}
    if missing:
        told = listed([f"{count(n)} of {spoken(task)}" for task, n in missing.items()])
        yield f"Searches with a missing label do not count: {told}."


def _of_the_training(facts: Facts) -> Iterator[str]:
    cold = facts.auc_of_products["cold"]["rows"]
    total = cold + facts.auc_of_products["warm"]["rows"]
    yield (
        f"Cold start: {percent(cold / total if total else None)} of the measured rows are of products that the "
        "training split has never shown. The AUC over these rows stands under Metrics by segment."
    )
    if facts.known.data.sampling is not None:
        yield "Training rows were sampled: queries, customers and products of rows that were not kept count as unseen."
    if facts.evaluation.report["learned"]:
        yield "It was trained once, with one seed; how much the figures move from seed to seed was not measured."
    if facts.run.config.exclude_sides or facts.run.config.exclude_features:
        left = [side.value for side in facts.run.config.exclude_sides]
        named = [*(f"all {side} features" for side in left), *facts.run.config.exclude_features]
        yield f"Left out on purpose: {listed(named)}."


def _not_measured(facts: Facts) -> Iterator[str]:
    yield (
        "Not measured: what customers do when they see this order (no online test), searches whose page was not "
        "logged, and how fast the model answers in a service."
    )


def fairness(facts: Facts) -> list[str]:
    """Which features of the customer the ranker reads, and what is known of how it treats them."""
    if facts.run.name == "popularity":
        return ["It reads the products' rates alone, so it treats all customers alike."]
    if not facts.evaluation.report["uses_features"]:
        return ["It reads no features, so it treats all customers alike."]
    read = _customer_features(facts)
    if not read:
        sentences = ["It reads no feature of the customer, so it orders a page alike for all customers."]
    else:
        schema = Schema.load(facts.prepared.path / "schema.yaml")
        declared = {feature.name for feature in schema.select(side=Side.CUSTOMER)}
        told, made = [n for n in read if n in declared], [n for n in read if n not in declared]
        sentences = [f"It reads {plural(len(read), 'feature', 'features')} of the customer."]
        if told:
            sentences.append(f"{count(len(told))} declared by the log: {listed(told)}.")
        if made:
            sentences.append(f"{count(len(made))} computed from earlier searches and events: {listed(made)}.")
    for k, degree in facts.ranker.pd.items():
        sentences.append(
            f"PD@{k} is {number(degree.value)}: of the first {k} products, so large a share stays there when all "
            "features of the customer are set to neutral values."
        )
    sentences.append(
        "Whether groups of customers, by age or income or any other trait, get equally good pages was not measured; "
        "nor whether products of some sellers or brands are put back."
    )
    return sentences


def _customer_features(facts: Facts) -> list[str]:
    numbers, categories = columns(facts)
    sides = {c.name: c.side for c in (*facts.prepared.numerical_columns, *facts.prepared.categorical_columns)}
    names = [name for name in (*numbers, *categories) if sides[name] is Side.CUSTOMER]
    return list(dict.fromkeys(name.split(OF_FEATURE)[0] for name in names))


def columns(facts: Facts) -> tuple[list[str], list[str]]:
    """The numbers and the categories that the ranker may read."""
    config, prepared = facts.run.config, facts.prepared
    numbers, categories = (
        [c.name for c in some if c.side not in config.exclude_sides and c.name not in config.exclude_features]
        for some in (prepared.numerical_columns, prepared.categorical_columns)
    )
    return numbers, categories


def _weighted(by_task: Mapping[str, float]) -> str:
    return ", ".join(f"{spoken(task)} {number(weight, 2)}" for task, weight in by_task.items())


def _widths(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers)) or "none"


def spoken(task: str) -> str:
    """A task's name within a sentence."""
    return task.replace("_", " ")
