"""What a bundle says of itself: `bundle.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from shelfrank.core.errors import UserError
from shelfrank.features.request_check import RequestFeature

KIND = "bundle"
SPEC = "bundle.json"
FEATURES = "features"
GOLDEN = "golden"
PRODUCT_VECTORS = "text/product_vectors.npy"
MATCHING_TOKENIZER = "text/tokenizer.json"
SEMANTIC_TOKENIZER = "semantic/tokenizer.json"
SHOP = "shop"
SHOP_PRODUCTS, SHOP_QUERIES, SHOP_FACTS = "products.arrow", "queries.arrow", "shop.json"

Precision = Literal["fp32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class Spec:
    """What the rest of the folder needs to be read.

    Attributes:
        ranker: The ranker's name in `RANKERS`.
        label: Its name in tables.
        model: A name in `SCORERS`: what computes the scores.
        tasks: The log's tasks, a score each.
        scored_tasks: Those that the ranker was made to predict.
        gives_probabilities: Whether their scores are probabilities.
        task_weights: What fuses the tasks' scores, unless a request says otherwise; they sum to 1.
        numerical: Which columns of a page's `numerical` the ranker sees.
        categorical: Which columns of its `categorical`.
        columns: Name and side of each column that it sees, numerical then categorical, with the value that stands for
            the training mean.
        rates: Of a ranker by popularity: which columns of `numerical` are the tasks' scores.
        matching_tokens: Tokens that the matching encoder reads of a query; None where the ranker reads no text.
        semantic_tokens: Tokens that the semantic encoder reads; None where the features have no semantic score.
        shares_encoder: Whether one graph gives both vectors of a query.
        precisions: The precisions in which the graphs are there.
        request_features: The declared features that a request must bring, as far as the ranker's score can depend on
            them; none in bundles of older versions.
    """

    ranker: str
    label: str
    model: str
    tasks: tuple[str, ...]
    scored_tasks: tuple[str, ...]
    gives_probabilities: bool
    task_weights: dict[str, float]
    numerical: tuple[int, ...]
    categorical: tuple[int, ...]
    columns: tuple[tuple[str, str, float], ...]
    rates: tuple[int, ...] = ()
    matching_tokens: int | None = None
    semantic_tokens: int | None = None
    shares_encoder: bool = False
    precisions: tuple[Precision, ...] = ("fp32",)
    request_features: tuple[RequestFeature, ...] = ()

    def save(self, folder: Path) -> None:
        """Writes `bundle.json`."""
        (folder / SPEC).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Spec":
        """Reads it; a broken one is a `UserError`."""
        try:
            data: dict[str, Any] = json.loads((folder / SPEC).read_text(encoding="utf-8"))
            columns = tuple((str(name), str(side), float(mean)) for name, side, mean in data.pop("columns"))
            features = tuple(RequestFeature(**each) for each in data.pop("request_features", ()))
            lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
            return cls(**{**data, **lists}, columns=columns, request_features=features)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder / SPEC} must say what the bundle holds, but it cannot be read: {error}; export the run again"
            ) from error


def graph_file(name: str, precision: Precision) -> str:
    """Where a graph lies within the bundle."""
    return f"onnx/{name}.{precision}.onnx"
