"""What a customer or session chose against what it was shown: point-in-time features, offline and online alike.

Clicks on a brand say little where much of the brand was shown. Here they are set against the attention that was paid to
it, which falls with the position on the page, at the visitor's own rate of clicks per attention. For numbers, of which
the price is one, the mean level of the chosen products is set against the mean of those that were seen.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Num

from shelfrank.config import HistoryConfig
from shelfrank.core.schema import Side
from shelfrank.features.history_features import (
    NO_HISTORY_ENGAGEMENTS,
    Columns,
    ComputedFeature,
    Formula,
    number_feature,
    prior_rate,
)
from shelfrank.features.history_stats import MILLIONTHS, HistoryPlan, KeyStat
from shelfrank.features.levels import CATEGORY, THOUSANDTHS, level_column


def taste_features(key: str, tasks: tuple[str, ...], plan: HistoryPlan, config: HistoryConfig) -> list[ComputedFeature]:
    """The lifts of the affinity features' values and the distances of levels.

    Args:
        key: `customer` or `session`.
        tasks: Tasks whose outcomes are counted.
        plan: The history that the log allows; it has the task `click`.
        config: The prior of the visitor's own rates.

    Returns:
        For each affinity feature A and task T `<key>_A_T_lift`: the logarithm of observed over expected outcomes on
        earlier products with the candidate's value of A. For each feature F with levels `<key>_F_level_T_fit`: the
        candidate's level minus the mean level of what the visitor was shown, times the same difference of its choices.
        For clicks also `<key>_F_level_distance`, the candidate's level minus the choices' mean level. All are 0 without
        history.
    """
    features = [_lift(key, feature, task, plan, config) for feature in plan.affinity for task in tasks]
    for name in plan.levels:
        features += [_level_fit(key, name, task, plan) for task in tasks]
        features.append(_level_distance(key, name, plan))
    return features


def _lift(key: str, feature: str, task: str, plan: HistoryPlan, config: HistoryConfig) -> ComputedFeature:
    same = f"{key}|{feature}"
    attended = f"attention_{task}" if plan.partly else "attention"
    outcomes, attention = plan.stat(same, task), plan.stat(same, attended)
    all_outcomes, all_attention = plan.stat(key, task), plan.stat(key, attended)
    strength, prior = config.prior_strength, prior_rate(config, task)

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        whole = columns[all_attention.column] / MILLIONTHS + strength
        own_rate = (columns[all_outcomes.column] + strength * prior) / whole
        expected = own_rate * (columns[attention.column] / MILLIONTHS)
        pseudo = own_rate * strength
        # Without any outcome and with a prior of 0 nothing is expected.
        pseudo = np.where(pseudo > 0, pseudo, 1.0)
        return np.log((columns[outcomes.column] + pseudo) / (expected + pseudo))

    return number_feature(
        f"{key}_{feature}_{task}_lift", Side.CUSTOMER, (outcomes, attention, all_outcomes, all_attention), compute
    )


class _Choices:
    """Mean levels, from -1/2 to 1/2, of what a visitor chose by one task and of what it was shown."""

    def __init__(self, key: str, name: str, task: str, plan: HistoryPlan) -> None:
        self.outcomes, self.chosen = plan.stat(key, task), plan.stat(key, f"{task}_{name}_level")
        self.attention, self.attended = plan.stat(key, "attention"), plan.stat(key, f"attention_{name}_level")
        self.column = level_column(name)

    @property
    def stats(self) -> tuple[KeyStat, ...]:
        return self.outcomes, self.chosen, self.attention, self.attended

    def shown(self, columns: Columns) -> Float64[np.ndarray, " rows"]:
        """Mean level of what was shown, each as much as it was attended to; 0 where nothing was."""
        attention = columns[self.attention.column]
        return columns[self.attended.column] / np.where(attention > 0, attention, 1) / THOUSANDTHS

    def mean(self, columns: Columns) -> Float64[np.ndarray, " rows"]:
        """Mean level of the choices; few of them are drawn to what was shown."""
        chosen = columns[self.chosen.column] / THOUSANDTHS
        return (chosen + NO_HISTORY_ENGAGEMENTS * self.shown(columns)) / (
            columns[self.outcomes.column] + NO_HISTORY_ENGAGEMENTS
        )

    def where_known(self, columns: Columns, values: Num[np.ndarray, " _"]) -> Float64[np.ndarray, " rows"]:
        """The values where the visitor was shown anything and the candidate's level is known; 0 elsewhere."""
        known = (columns[self.attention.column] > 0) & np.isfinite(columns[self.column])
        return np.where(known, values, 0.0)


def _level_fit(key: str, name: str, task: str, plan: HistoryPlan) -> ComputedFeature:
    choices = _Choices(key, name, task, plan)

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        shown = choices.shown(columns)
        level = columns[choices.column] / THOUSANDTHS
        return choices.where_known(columns, (choices.mean(columns) - shown) * (level - shown))

    return _of_level(f"{key}_{name}_level_{task}_fit", name, choices, compute, plan)


def _level_distance(key: str, name: str, plan: HistoryPlan) -> ComputedFeature:
    choices = _Choices(key, name, "click", plan)

    def compute(columns: Columns) -> Float64[np.ndarray, " rows"]:
        return choices.where_known(columns, columns[choices.column] / THOUSANDTHS - choices.mean(columns))

    return _of_level(f"{key}_{name}_level_distance", name, choices, compute, plan)


def _of_level(name: str, of: str, choices: _Choices, compute: Formula, plan: HistoryPlan) -> ComputedFeature:
    depends_on = (of, CATEGORY) if plan.by_category else (of,)
    return replace(number_feature(name, Side.CUSTOMER, choices.stats, compute), level_of=depends_on)
