"""The description of a bundle: `bundle.json`."""

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
    """Everything that is needed to read the rest of the folder.

    Attributes:
        ranker: The ranker's name in `RANKERS`.
        label: Its name in tables.
        model: A name in `SCORERS`.
        tasks: The log's tasks, a score each.
        scored_tasks: The tasks that the ranker was trained to predict.
        gives_probabilities: Whether their scores are probabilities.
        task_weights: Weights that fuse the tasks' scores, unless a request has others; they sum to 1.
        numerical: Indices of the columns of a page's `numerical` that the ranker sees.
        categorical: The same for its `categorical`.
        columns: Name, side and training mean of each column that it sees, numerical then categorical.
        rates: For a ranker by popularity, indices of the columns of `numerical` that are the tasks' scores.
        matching_tokens: Maximum number of tokens of the matching encoder; None if the ranker reads no text.
        semantic_tokens: Maximum number of tokens of the semantic encoder; None without a semantic score.
        shares_encoder: Whether one graph computes both vectors of a query.
        precisions: The precisions of the graphs.
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
                f"{folder / SPEC} must describe the bundle, but it cannot be read: {error}; export the run again"
            ) from error


def graph_file(name: str, precision: Precision) -> str:
    """The path of a graph within the bundle."""
    return f"onnx/{name}.{precision}.onnx"
