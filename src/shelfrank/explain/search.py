"""Explains a search: which features put its first products where the run ranks them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from shelfrank.core.errors import UserError, unknown_name
from shelfrank.data.prepared import MISSING_SUFFIX, ROW_ARRAYS, SPLITS, PreparedData, Split
from shelfrank.explain.explanation import Explanation
from shelfrank.explain.rows import Baseline, explain
from shelfrank.features.encoder import Encoder
from shelfrank.features.understanding import UNDERSTANDING, QueryReading, QueryUnderstanding
from shelfrank.metrics import served_order
from shelfrank.metrics.order import fuse
from shelfrank.rankers.run import Run

Value = str | float | bool | None
N_SHOWN = 6
"""Features per product in the text."""


@dataclass(frozen=True)
class ExplainedProduct:
    """One product of a page.

    Attributes:
        rank: Its place by the run's score, from 1; of equal scores, the one that was shown higher comes first.
        position: The place at which it was shown, from 1.
        product_id: The product.
        title: Its title; None where it has none.
        score: What the page is sorted by.
        values: Raw value of each feature that the ranker sees; None for unknown, rare or missing ones.
        explanation: The features' contributions.
    """

    rank: int
    position: int
    product_id: str
    title: str | None
    score: float
    values: Mapping[str, Value]
    explanation: Explanation

    def as_dict(self) -> dict[str, Any]:
        """Plain data, every task's features the strongest first."""
        why = self.explanation
        return {
            "rank": self.rank,
            "position": self.position,
            "product_id": self.product_id,
            "title": self.title,
            "score": self.score,
            "method": why.method.value,
            "tasks": {
                task: {
                    "logit": float(why.logits[index]),
                    "baseline_logit": float(why.baseline_logits[index]),
                    "gap": float(why.gaps[index]),
                    "gates": None if why.gates is None else why.gates[index].tolist(),
                    "contributions": [
                        {**found._asdict(), "side": found.side.value, "value": self.values.get(found.feature)}
                        for found in why.strongest(task)
                    ],
                }
                for index, task in enumerate(why.tasks)
            },
            "attention": None
            if why.attention is None
            else dict(zip(why.features, why.attention.tolist(), strict=True)),
        }

    def lines(self, task: str) -> list[str]:
        """The same as text, for one task."""
        why, index = self.explanation, self.explanation.tasks.index(task)
        found = why.strongest(task)
        logit, baseline = why.logits[index], why.baseline_logits[index]
        what = "score" if why.one_score else "logit"
        lines = [f"{self.rank}. {self.product_id} {self.title or ''}  {what} {logit:.2f}, baseline {baseline:.2f}"]
        lines += [
            f"   {logits:+.3f}  {feature}{_spoken(self.values, feature)} ({side.value})"
            for feature, side, logits in found[:N_SHOWN]
        ]
        if rest := found[N_SHOWN:]:
            lines.append(f"   {sum(each.logits for each in rest):+.3f}  all others ({len(rest)})")
        if why.gates is not None:
            lines.append(f"   gates: {' '.join(f'{weight:.2f}' for weight in why.gates[index])}")
        if why.attention is not None:
            most = np.argsort(-why.attention, kind="stable")[:N_SHOWN]
            lines.append(f"   attention: {', '.join(f'{why.features[i]} {why.attention[i]:.3f}' for i in most)}")
        return lines


@dataclass(frozen=True)
class ExplainedSearch:
    """The first products of a page.

    Attributes:
        search_id: The search.
        query: What was typed.
        customer_id: The customer; None for an anonymous visitor.
        ranker: The run's name in tables.
        baseline: What contributions are measured from.
        products: The products by the run's score.
        reading: How the query is read; None where the data was prepared without query understanding.
    """

    search_id: str
    query: str
    customer_id: str | None
    ranker: str
    baseline: Baseline
    products: tuple[ExplainedProduct, ...]
    reading: QueryReading | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **vars(self),
            "products": [product.as_dict() for product in self.products],
            "reading": None if self.reading is None else self.reading.as_dict(),
        }

    def lines(self, task: str | None) -> list[str]:
        """The same as text, for one task; None takes the first that the ranker predicts."""
        tasks = self.products[0].explanation.tasks
        if task is not None and task not in tasks:
            raise unknown_name("task", task, tasks)
        shown = task or tasks[0]
        measured = {"mean": "the training mean", "neutral": "the same page for a neutral customer"}[self.baseline]
        head = f"{self.search_id}: {self.query!r} for {self.customer_id or 'an anonymous visitor'}, by {self.ranker}"
        why = self.products[0].explanation
        explained = "score that orders every task" if why.one_score else f"logit of {shown}"
        read = [] if self.reading is None else [f"the query is read as: {str(self.reading) or 'no word'}"]
        lines = [head, *read, f"contributions to the {explained}, from {measured} ({why.method.label}):"]
        return lines + [line for product in self.products for line in product.lines(shown)]


def explain_search(
    run_path: Path, search_id: str, split_name: str = "test", top: int = 8, baseline: Baseline = "mean"
) -> ExplainedSearch:
    """Explains the products that a run puts first on one page.

    Args:
        run_path: A finished run.
        search_id: A search of the split.
        split_name: The split that has it.
        top: Most products.
        baseline: See `explain`.

    Returns:
        The products by the run's fused score, each with its explanation.

    Raises:
        UserError: Where the run or its data cannot be read, the split has no such search, or the ranker scores by no
            features.
    """
    if split_name not in SPLITS:
        raise unknown_name("split", split_name, SPLITS)
    run = Run.open(run_path)
    prepared = run.prepared()
    index, customer_id = find_search(prepared, split_name, search_id)
    page = run.select(prepared.split(split_name).searches(np.array([index])))
    ranker = run.ranker(prepared)
    scores = fuse(ranker.score(page), run.config.fusion_weights(prepared.tasks).shares)
    first = served_order(scores, page.search_offsets, page.position)[:top]
    rows = take(page, first)
    values = raw_values(Encoder.load(prepared.path / "encoder.json"), rows)
    products = prepared.products().take(rows.product_idx).to_pylist()
    explained = (
        ExplainedProduct(
            rank=place + 1,
            position=int(rows.position[place]),
            product_id=product["product_id"],
            title=product.get("title"),
            score=float(scores[first[place]]),
            values=values[place],
            explanation=explanation,
        )
        for place, (product, explanation) in enumerate(zip(products, explain(ranker, rows, baseline), strict=True))
    )
    query = prepared.queries()["query"][int(page.query_idx[0])].as_py()
    reading = read_query(prepared.path / UNDERSTANDING, query)
    return ExplainedSearch(search_id, query, customer_id, run.label, baseline, tuple(explained), reading)


def find_search(prepared: PreparedData, split_name: str, search_id: str) -> tuple[int, str | None]:
    """Index and customer of a search in a split; an unknown search is a `UserError`."""
    searches = prepared.searches(split_name)
    index = searches["search_id"].index(search_id).as_py()
    if index < 0:
        raise UserError(
            f"the {split_name} split of {prepared.path} must have the search that is explained, but it has no "
            f"{search_id!r}; name one of its searches.parquet, or another split"
        )
    return index, searches["customer_id"][index].as_py()


def read_query(folder: Path, query: str) -> QueryReading | None:
    """How a query is read by the query understanding of a folder; None where there is none."""
    return QueryUnderstanding.load(folder).read([query]).reading(0) if folder.is_dir() else None


def take(page: Split, rows: Int64[np.ndarray, " rows"]) -> Split:
    """Some rows of a page, in the given order."""
    picked = {name: getattr(page, name)[rows] for name in ROW_ARRAYS}
    return replace(page, search_offsets=np.array([0, len(rows)]), **picked)


def raw_values(encoder: Encoder, rows: Split) -> list[dict[str, Value]]:
    """Each row's features as they were before they were encoded, beside the flags of missing ones."""
    numbers = {encoding.name: encoding for encoding in encoder.numerical}
    categories = {encoding.name: encoding for encoding in encoder.categorical}
    found: dict[str, list[Value]] = {}
    for column, encoded in zip(rows.numerical_columns, rows.numerical.T, strict=True):
        if column.name in numbers:
            found[column.name] = numbers[column.name].inverse(encoded).tolist()
            continue
        missing = encoded > 0
        flagged = column.name.removesuffix(MISSING_SUFFIX)
        if flagged in found:
            found[flagged] = [None if lacks else value for lacks, value in zip(missing, found[flagged], strict=True)]
        found[column.name] = missing.tolist()
    for column, codes in zip(rows.categorical_columns, rows.categorical.T, strict=True):
        found[column.name] = list(categories[column.name].inverse(codes))
    return [{name: values[row] for name, values in found.items()} for row in range(rows.n_rows)]


def _spoken(values: Mapping[str, Value], feature: str) -> str:
    if feature not in values:
        return ""
    match values[feature]:
        case None:
            return " unknown"
        case bool(flag):
            return " = yes" if flag else " = no"
        case float(number):
            return f" = {number:.4g}"
        case category:
            return f" = {category}"
