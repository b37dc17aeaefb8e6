"""The weights of tasks: validated, scaled to sum to 1, in the order of the tasks."""

import pytest

from shelfrank.config import ExperimentConfig, TaskWeights
from shelfrank.core.errors import UserError

TASKS = ("click", "add_to_cart", "purchase")


@pytest.mark.parametrize(
    ("weights", "tasks", "expected"),
    [
        (None, ["click", "purchase"], {"click": 0.5, "purchase": 0.5}),
        ({"click": 1, "purchase": 3}, ["click", "purchase"], {"click": 0.25, "purchase": 0.75}),
        ({"click": 2, "purchase": 6}, ["click"], {"click": 1.0}),
        ({"purchase": 2}, ["click", "purchase"], {"click": 0.0, "purchase": 1.0}),
    ],
)
def test_weights_sum_to_one_over_the_tasks_of_the_log(
    weights: dict[str, float] | None, tasks: list[str], expected: dict[str, float]
) -> None:
    found = TaskWeights(tasks, weights)
    assert dict(found) == expected
    assert found.tasks == tuple(tasks)
    assert sum(found.shares) == 1


@pytest.mark.parametrize(
    "weights", [{"purchase": 1}, {"click": 0}, {"click": -1, "add_to_cart": 3}, {"click": float("nan")}, {}]
)
def test_weights_without_any_weight_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"0 or more with at least one above 0 .* tasks click, add_to_cart, but they"):
        TaskWeights(["click", "add_to_cart"], weights)


def test_a_task_that_the_log_lacks_has_no_weight() -> None:
    weights = TaskWeights(["click"], {"click": 1, "purchase": 1})
    assert weights.get("purchase", 0.0) == 0.0
    with pytest.raises(KeyError):
        weights["purchase"]


def test_scores_are_fused_by_the_weights_of_the_loss_unless_others_are_set() -> None:
    config = ExperimentConfig(task_weights={"click": 1, "purchase": 3})
    assert (
        config.fusion_weights(TASKS)
        == config.loss_weights(TASKS)
        == {"click": 0.25, "add_to_cart": 0, "purchase": 0.75}
    )
    config = config.model_copy(update={"score_weights": {"click": 1}})
    assert config.loss_weights(TASKS)["purchase"] == 0.75
    assert config.fusion_weights(TASKS) == {"click": 1, "add_to_cart": 0, "purchase": 0}
