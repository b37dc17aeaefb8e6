"""What a report reads: the comparison of rankers as `compare` writes it to JSON, with every part optional."""

# ruff: noqa: RUF012 - pydantic copies the defaults of fields, which ruff cannot see through an imported base

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError, model_validator

from shelfrank.core.errors import UserError
from shelfrank.core.schema import one_sentence
from shelfrank.evaluate.truth import EXPECTED_FIGURES
from shelfrank.report.estimates import Bounds, ByTask, Counts, Estimate, Estimates, Measure, Numbers, Part, present

# XML allows no other control characters, and UTF-8 no lone surrogate; JSON can carry both.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class SplitSize(Part):
    """Size of a split."""

    searches: int | None = None
    impressions: int | None = None
    queries: int | None = None
    products: int | None = None
    customers: int | None = None
    positives: Counts = {}
    first: str | None = None
    last: str | None = None

    def rate(self, task: str) -> float | None:
        """Positives of a task per impression; None where they are not known."""
        positives = self.positives.get(task)
        return positives / self.impressions if positives is not None and self.impressions else None


class SampledRows(Part):
    """Rows of one or more bins, before and after."""

    products: int | None = None
    impressions: int | None = None
    positives: int | None = None
    asked_positive: int | None = None
    asked_negative: int | None = None
    taken_positive: int | None = None
    taken_negative: int | None = None
    short_positive: int | None = None
    short_negative: int | None = None
    n_bins: int | None = None
    n_short_bins: int | None = None

    @property
    def taken(self) -> int | None:
        """Rows that were kept."""
        if self.taken_positive is None or self.taken_negative is None:
            return None
        return self.taken_positive + self.taken_negative

    @property
    def asked(self) -> int | None:
        """Rows that were requested."""
        if self.asked_positive is None or self.asked_negative is None:
            return None
        return self.asked_positive + self.asked_negative

    @property
    def short(self) -> int:
        """Rows that were requested and did not exist."""
        return (self.short_positive or 0) + (self.short_negative or 0)

    @property
    def share_before(self) -> float | None:
        """Share of positive rows before."""
        return self.positives / self.impressions if self.positives is not None and self.impressions else None

    @property
    def share_after(self) -> float | None:
        """Share of positive rows among those that were kept."""
        return self.taken_positive / self.taken if self.taken_positive is not None and self.taken else None


class SampledBin(SampledRows):
    """Bins of one popularity, over all categories."""

    bin: int | None = None


class SampledCategory(SampledRows):
    """All bins of a category; None is that of the products that have none."""

    category: str | None = None


class SamplingSettings(Part):
    """The settings of the sampling."""

    alpha: float | None = None
    beta: float | None = None
    n_bins: int | None = None
    category: str | None = None
    unit: str | None = None
    seed: int | None = None


class Sampling(Part):
    """Which training rows were kept."""

    config: SamplingSettings = SamplingSettings()
    totals: SampledRows = SampledRows()
    by_bin: list[SampledBin] = []
    by_category: list[SampledCategory] = []


class Slot(Part):
    """Terms of which each product of a category has one at most."""

    category: str | None = None
    is_type: bool = False
    n_products: int | None = None
    n_terms: int | None = None
    terms: list[str] = []


class Understanding(Part):
    """How queries were read."""

    n_terms: int | None = None
    n_types: int | None = None
    slots: list[Slot] = []
    n_respelled: int | None = None
    n_unknown: int | None = None
    unknown: Counts = {}


class Data(Part):
    """The prepared data that every ranker saw."""

    name: str | None = None
    fingerprint: str | None = None
    splits: Annotated[dict[str, SplitSize], BeforeValidator(present)] = {}
    features: Counts = {}
    left_out: Counts | None = None
    left_out_at_import: Counts | None = None
    left_out_features: Annotated[dict[str, str] | None, BeforeValidator(present)] = None
    sampling: Sampling | None = None
    understanding: Understanding | None = None
    notes: list[str] = []


class EvaluatedCounts(Part):
    """Searches that were evaluated: of how many of the split, by which mark, and how many of each fold."""

    searches: int | None = None
    of: int | None = None
    only: str | None = None
    folds: list[int] = []
    of_one_product: int | None = None
    with_positive: Counts = {}
    missing_label: Counts = {}


class Parameters(Part):
    """A model's size."""

    trainable: int | None = None
    total: int | None = None
    parts: Counts = {}


class Bin(Part):
    """Rows of similar predicted probability."""

    predicted: float | None = None
    observed: float | None = None
    rows: int | None = None


class Epoch(Part):
    """One pass over the training rows; `seconds` is the wall time since training began."""

    epoch: int
    train_loss: float | None = None
    valid_loss: float | None = None
    seconds: float | None = None
    best: bool = False


class Spent(Part):
    """What training or scoring took."""

    wall_s: float | None = None
    peak_rss_mb: float | None = None
    rows: int | None = None


class RankerCost(Part):
    """What a ranker took."""

    train: Spent = Spent()
    score: Spent = Spent()


class Ranker(Estimates):
    """One ranker and everything measured of it."""

    name: str
    label: str | None = None
    learned: bool | None = None
    task_weights: Numbers = {}
    score_weights: Numbers = {}
    shares: Annotated[dict[str, Numbers], BeforeValidator(present)] = {}
    gates: Annotated[dict[str, list[float]], BeforeValidator(present)] = {}
    params: Parameters | None = None
    pd: ByTask = {}
    share_of_possible: Numbers = {}
    calibration: Annotated[dict[str, list[Bin]], BeforeValidator(present)] = {}
    curves: list[Epoch] = []
    cost: RankerCost = RankerCost()
    choices: list[str] = []
    config: dict[str, Any] = {}
    fingerprint: str | None = None
    seed: int | None = None

    @property
    def title(self) -> str:
        """The ranker's name for people; among those of a comparison it is unique."""
        return self.label or self.name

    @property
    def order_weights(self) -> Mapping[str, float]:
        """The weights that made the page's order of the tasks' scores; those of the loss where no others are known."""
        return self.score_weights or self.task_weights


class PagedProduct(Part):
    """A product on an example page."""

    product_id: str
    title: str | None = None
    brand: str | None = None
    price: float | None = None
    clicked: bool = False
    shown: int | None = None


class Example(Part):
    """One search of one customer, ordered with and without personalization."""

    query: str | None = None
    customer: str | None = None
    history: list[str] = []
    neutral: list[PagedProduct] = []
    personalized: list[PagedProduct] = []


class Moves(Part):
    """How far personalization moves products; a negative move is towards the first place."""

    histogram: list[tuple[int, int]] = []
    mean_absolute: float | None = None
    examples: list[Example] = []


class Segment(Part):
    """A part of the evaluated searches: how many, every ranker's figures there, and its differences to the baseline."""

    searches: int | None = None
    with_positive: Counts = {}
    rankers: Annotated[dict[str, Estimates], BeforeValidator(present)] = {}
    differences: Annotated[dict[str, Estimates], BeforeValidator(present)] = {}


Segments = Annotated[dict[str, Segment], BeforeValidator(present)]


class Step(Part):
    """One step of the pipeline."""

    name: str
    wall_s: float | None = None
    peak_rss_mb: float | None = None
    rows: int | None = None


class NetworkAgainstLambdaMART(Estimates):
    """The paired differences of the best network to the best LambdaMART, whose names it holds."""

    network: str | None = None
    lambdamart: str | None = None
    n_networks: int = 1


class Comparison(Part):
    """Rankers compared on one test split."""

    title: str = "comparison"
    created: str | None = None
    shelfrank: str | None = None
    versions: Annotated[dict[str, str], BeforeValidator(present)] = {}
    tasks: list[str] = []
    ks: list[int] = []
    confidence: float | None = None
    data: Data = Data()
    baseline: str | None = None
    counts: EvaluatedCounts = EvaluatedCounts()
    rankers: list[Ranker] = []
    differences: Annotated[dict[str, Estimates], BeforeValidator(present)] = {}
    segments: Annotated[dict[str, Segments], BeforeValidator(present)] = {}
    bounds: Bounds = Bounds()
    moves: Annotated[dict[str, Moves], BeforeValidator(present)] = {}
    network_against_lambdamart: NetworkAgainstLambdaMART = NetworkAgainstLambdaMART()
    steps: list[Step] = []

    @model_validator(mode="before")
    @classmethod
    def _tell_rankers_apart(cls, data: Any) -> Any:
        """Puts the name beside the label of every ranker that shares its label with another."""
        rankers = data.get("rankers") if isinstance(data, Mapping) else None
        if not isinstance(rankers, list) or not all(isinstance(ranker, Mapping) for ranker in rankers):
            return data
        titles = [ranker.get("label") or ranker.get("name") for ranker in rankers]
        told = [
            {**ranker, "label": f"{title} ({ranker.get('name')})"}
            if titles.count(title) > 1 and title != ranker.get("name")
            else ranker
            for ranker, title in zip(rankers, titles, strict=True)
        ]
        return {**data, "rankers": told}

    @property
    def measures(self) -> list[Measure]:
        """The measures of the quality table in their order."""
        mrr = [Measure("mrr", k) for k in self.ks]
        ndcg = [Measure("ndcg", max(self.ks))] if self.ks else []
        return [Measure("auc"), *mrr, *ndcg, *self.expected_measures]

    @property
    def expected_measures(self) -> list[Measure]:
        """The expected MRR of a simulated log at the headline's cutoff, where it is known."""
        measures = [Measure(figure, self.headline.k) for figure in EXPECTED_FIGURES]
        return [each for each in measures if any(r.get(each, task) for r in self.rankers for task in self.tasks)]

    @property
    def headline(self) -> Measure:
        """The measure of the conclusions: MRR at 10, or at the largest cutoff there is."""
        return Measure("mrr", 10 if 10 in self.ks or not self.ks else max(self.ks))

    @property
    def baseline_ranker(self) -> Ranker | None:
        """The ranker that the others are compared with, None where it was not evaluated."""
        return next((ranker for ranker in self.rankers if ranker.name == self.baseline), None)

    def title_of(self, name: str | None) -> str | None:
        """The title of a ranker by its name, None where it was not evaluated."""
        return next((ranker.title for ranker in self.rankers if ranker.name == name), None)

    def difference(self, ranker: Ranker, measure: Measure, task: str) -> Estimate | None:
        """A ranker's paired difference to the baseline; None where it is not known, and for the baseline itself."""
        return None if ranker.name == self.baseline else figure_of(self.differences, ranker, measure, task)


def figure_of(measured: Mapping[str, Estimates], ranker: Ranker, measure: Measure, task: str) -> Estimate | None:
    """A ranker's figure among those of all rankers by name, None where it is not known."""
    return measured[ranker.name].get(measure, task) if ranker.name in measured else None


def read_comparison(data: Mapping[str, Any]) -> Comparison:
    """Reads plain data as a comparison; what is absent, null or NaN counts as not known.

    Args:
        data: The comparison, as parsed from JSON.

    Returns:
        The comparison. Characters that no page can hold are replaced by U+FFFD.

    Raises:
        UserError: Where a part has the wrong type; the text names its place.
    """
    try:
        return Comparison.model_validate(_printable(data))
    except ValidationError as error:
        raise UserError(one_sentence("comparison", error)) from error


def _printable(data: Any) -> Any:
    if isinstance(data, str):
        return _UNPRINTABLE.sub("\ufffd", data)
    if isinstance(data, Mapping):
        return {_printable(key): _printable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_printable(value) for value in data]
    return data
