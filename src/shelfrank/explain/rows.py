"""Explains a ranker's rows: what each feature did to each logit."""

from typing import Literal

from shelfrank.core.errors import UserError
from shelfrank.data.prepared import Neutral, Split
from shelfrank.explain.blends import explain_blend
from shelfrank.explain.explanation import Explanation
from shelfrank.explain.networks import explain_network
from shelfrank.explain.trees import explain_trees
from shelfrank.rankers.base import Ranker
from shelfrank.rankers.blend import Blend
from shelfrank.rankers.boosting import TreeRanker
from shelfrank.rankers.neural import NeuralRanker

Baseline = Literal["mean", "neutral"]


def explain(
    ranker: Ranker, rows: Split, baseline: Baseline = "mean", neutral: Neutral = "anonymous"
) -> list[Explanation]:
    """Explains a handful of rows, such as a results page; a row's explanation does not depend on its neighbours.

    Cost: a network reads 20 to 50 points of each row's path, with a backward pass per task.

    Args:
        ranker: A fitted ranker.
        rows: The rows, with what the ranker may see.
        baseline: What contributions are measured from: `mean` is the training mean (of trees, their mean output over
            the rows that they learned from); `neutral` is the same row for a neutral customer, so that only customer
            features contribute, and together they are what personalization did.
        neutral: What a neutral customer is; see `Split.neutral`.

    Returns:
        One explanation per row.

    Raises:
        UserError: Where the ranker scores by no features.
    """
    if not isinstance(ranker, NeuralRanker | TreeRanker | Blend):
        raise UserError(
            f"only rankers that score by features can be explained, but {type(ranker).__name__} scores by none; "
            "choose a network or trees"
        )
    if not rows.n_rows:
        return []
    start = rows.neutral(neutral) if baseline == "neutral" else None
    if isinstance(ranker, Blend):
        return explain_blend(ranker, rows, start)
    if isinstance(ranker, NeuralRanker):
        return explain_network(ranker, rows, start)
    return explain_trees(ranker, rows, start)
