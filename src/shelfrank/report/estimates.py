"""Figures of a comparison: values with intervals, by measure, cutoff and task; any of them may be unknown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from shelfrank.evaluate.truth import EXPECTED_FIGURES
from shelfrank.metrics.interval import shown_sign, too_few


def _is_present(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def present(data: Any) -> Any:
    """Leaves out what is null or not finite, so that an absent key, null and NaN all mean: not known."""
    if not isinstance(data, Mapping):
        return data
    return {str(key): value for key, value in data.items() if _is_present(value)}


class Part(BaseModel):
    """A part of a comparison, read leniently: what it does not name is ignored, what is absent is unknown."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_unknown(cls, data: Any) -> Any:
        return present(data)


class Estimate(Part):
    """A figure with its confidence interval.

    Attributes:
        value: The figure.
        low: The interval's lower end.
        high: The interval's upper end.
        n: Searches that it rests on.
        p: Two-sided p-value of a paired difference.
        n_differing: Searches on which the two of a paired difference differ.
        left_out: Searches that could not count.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    p: float | None = None
    n_differing: int | None = None
    left_out: int | None = None

    @property
    def sign(self) -> int | None:
        """1 or -1 where a paired difference is shown, 0 where it is not, None where unknown; see `shown_sign`."""
        return shown_sign(self.low, self.high, self.n)

    @property
    def too_few(self) -> bool:
        """Whether too few searches count for a difference to be shown, however far from 0 it lies."""
        return too_few(self.n)


ByTask = Annotated[dict[str, Estimate], BeforeValidator(present)]
ByCutoff = Annotated[dict[str, ByTask], BeforeValidator(present)]
Numbers = Annotated[dict[str, float], BeforeValidator(present)]
Counts = Annotated[dict[str, int], BeforeValidator(present)]


@dataclass(frozen=True)
class Measure:
    """A quality measure: `auc`, or one at a cutoff: `mrr`, `ndcg`, and the expected MRR of a simulated log."""

    family: str
    k: int | None = None

    @property
    def label(self) -> str:
        """The measure's published name."""
        name = f"{self.family.capitalize()} MRR" if self.family in EXPECTED_FIGURES else self.family.upper()
        return name if self.k is None else f"{name}@{self.k}"


class Estimates(Part):
    """Figures by measure, cutoff and task; the values of a ranker or its differences to the baseline."""

    auc: ByTask = {}
    mrr: ByCutoff = {}
    ndcg: ByCutoff = {}
    redrawn: ByCutoff = {}
    unbiased: ByCutoff = {}

    def get(self, measure: Measure, task: str) -> Estimate | None:
        """The figure of a measure for a task, None where it is not known."""
        by_task = self.auc if measure.k is None else getattr(self, measure.family).get(str(measure.k), {})
        interval = by_task.get(task)
        return None if interval is None or interval.value is None else interval


class Bound(Part):
    """What an order with more knowledge than a ranker's would reach: measure, cutoff, task."""

    mrr: Annotated[dict[str, Numbers], BeforeValidator(present)] = {}
    ndcg: Annotated[dict[str, Numbers], BeforeValidator(present)] = {}
    redrawn: Annotated[dict[str, Numbers], BeforeValidator(present)] = {}
    unbiased: Annotated[dict[str, Numbers], BeforeValidator(present)] = {}

    def get(self, measure: Measure, task: str) -> float | None:
        """The bound of a measure for a task, None where it is not known."""
        return None if measure.k is None else getattr(self, measure.family).get(str(measure.k), {}).get(task)


class Bounds(Part):
    """The best possible order, and the best order that is the same for every customer."""

    best: Bound = Bound()
    non_personalized: Bound = Bound()
