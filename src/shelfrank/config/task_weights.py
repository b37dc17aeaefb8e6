"""The weights of a log's tasks, validated and normalised in one place."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shelfrank.core.errors import UserError


class TaskWeights(Mapping[str, float]):
    """Each task's share of the whole: 0 or more, summing to 1, in the order of the tasks.

    Args:
        tasks: The tasks that the log has.
        weights: Weights by task, of which only the ratios matter; None weighs all tasks equally. A task that is not
            named weighs nothing, and a named one that the log lacks is left out.

    Attributes:
        tasks: The tasks.
        shares: Their shares.

    Raises:
        UserError: Where a weight is negative or not finite, or none of the log's tasks has weight.

    Example:
        >>> dict(TaskWeights(["click", "purchase"], {"click": 1, "purchase": 3}))
        {'click': 0.25, 'purchase': 0.75}
    """

    def __init__(self, tasks: Sequence[str], weights: Mapping[Any, float] | None = None) -> None:
        given = [1.0 if weights is None else float(weights.get(task, 0.0)) for task in tasks]
        total = sum(given)
        if min(given, default=0.0) < 0 or not 0 < total < math.inf:
            raise UserError(
                f"weights must be 0 or more with at least one above 0 among the log's tasks {', '.join(tasks)}, "
                f"but they are {None if weights is None else dict(weights)}; give one of these tasks a weight"
            )
        self.tasks, self.shares = tuple(tasks), tuple(weight / total for weight in given)

    def __getitem__(self, task: str) -> float:
        if task not in self.tasks:
            raise KeyError(task)
        return self.shares[self.tasks.index(task)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        return f"TaskWeights({dict(self)})"
