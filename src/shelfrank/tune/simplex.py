"""The points of the weight simplex."""

from collections.abc import Sequence
from dataclasses import dataclass

from shelfrank.core.errors import UserError

POINT_LIMIT = 20_000


@dataclass(frozen=True)
class Point:
    """Weights that sum to 1, kept as whole parts so that they do so exactly, and the relevance weight beside them.

    Attributes:
        parts: Parts of the whole that each task has.
        relevance: Weight of the relevance label's loss; None leaves it to the config.
    """

    parts: tuple[int, ...]
    relevance: float | None = None

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights as numbers."""
        whole = sum(self.parts)
        return tuple(part / whole for part in self.parts)

    @property
    def id(self) -> str:
        """A name for folders, such as `4-1-5` or `4-1-5-r0.1`."""
        return "-".join(map(str, self.parts)) + ("" if self.relevance is None else f"-r{self.relevance:g}")


def simplex(n_tasks: int, n_parts: int, relevance_weights: Sequence[float] | None = None) -> list[Point]:
    """Every way to share out the whole over the tasks (Paper: Sec. 4.2: 0 to 1 in steps of 0.1).

    Unstated: whether the paper's grid keeps to weights that sum to 1; every row of its tables does.

    Args:
        n_tasks: Tasks that get weights.
        n_parts: Parts of the whole; 10 is a step of 0.1.
        relevance_weights: Weights of the relevance label's loss beside each of the points; None leaves it alone.

    Returns:
        The points, the first task's weight falling.

    Raises:
        UserError: Where there is nothing to share out, or the points are too many.

    Example:
        >>> [point.parts for point in simplex(2, 2)]
        [(2, 0), (1, 1), (0, 2)]
        >>> len(simplex(3, 10))
        66
    """
    if n_tasks < 2:
        raise UserError("weights need two tasks or more to be tuned, but the log has one; there is nothing to weigh")
    shares = _shares(n_tasks, n_parts)
    found = [Point(share, relevance) for share in shares for relevance in relevance_weights or [None]]
    if len(found) > POINT_LIMIT:
        raise UserError(f"the simplex must have at most {POINT_LIMIT:,} points, but it has {len(found):,}; raise step")
    return found


def spread(points: Sequence[Point], taken: Sequence[Point], n: int) -> list[Point]:
    """Points as far apart as can be: each is the farthest from all before it, by the sum of differences of weights.

    Args:
        points: Where to take from; of equally far ones the first is taken.
        taken: Points taken already; at least one.
        n: How many more.

    Returns:
        The points taken now, fewer where there are no more.

    Example:
        >>> [point.parts for point in spread(simplex(2, 4), [Point((4, 0))], 2)]
        [(0, 4), (2, 2)]
    """
    found: list[Point] = []
    left = [point for point in points if point not in taken]
    while left and len(found) < n:
        farthest = max(left, key=lambda point: min(_distance(point, other) for other in (*taken, *found)))
        found.append(farthest)
        left.remove(farthest)
    return found


def efficient(figures: Sequence[Sequence[float]]) -> list[int]:
    """The Pareto front: what nothing else beats in one figure without losing in another.

    Args:
        figures: A row per candidate, higher is better in each column.

    Returns:
        Indices of the rows on the front, rising.

    Example:
        >>> efficient([(1, 3), (2, 2), (2, 1), (3, 0)])
        [0, 1, 3]
    """

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        return all(a >= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)

    return [i for i, row in enumerate(figures) if not any(beats(other, row) for other in figures)]


def _distance(one: Point, other: Point) -> float:
    apart = sum(abs(a - b) for a, b in zip(one.weights, other.weights, strict=True))
    # Rounded, so that sums that differ by rounding alone are equally far.
    return round(apart + abs((one.relevance or 0.0) - (other.relevance or 0.0)), 9)


def _shares(n_tasks: int, n_parts: int) -> list[tuple[int, ...]]:
    if n_tasks == 1:
        return [(n_parts,)]
    return [(first, *rest) for first in range(n_parts, -1, -1) for rest in _shares(n_tasks - 1, n_parts - first)]
