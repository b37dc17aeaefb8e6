"""The interface of rankers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float32
from numpy import ndarray

from shelfrank.config import ExperimentConfig, TaskWeights
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.train.checkpoint import Checkpoints


@dataclass(frozen=True)
class Fitted:
    """The result of fitting, for the report.

    Attributes:
        curve: One record per evaluated epoch or round.
        choices: Each choice and its reason, for people.
        parameters: Trainable parameters by part; None for a model that has none.
        seconds: Wall time of the fitting itself.
        frozen_parameters: Parameters that stay as they are.
        gates: By task, the mean weight of each expert over the validation rows; None without a mixture of experts.
        shares: Of a blend, each part's share by task; None for a ranker of one part.
    """

    curve: list[dict[str, Any]] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    parameters: dict[str, int] | None = None
    seconds: float = 0.0
    frozen_parameters: int = 0
    gates: dict[str, list[float]] | None = None
    shares: dict[str, dict[str, float]] | None = None


class Ranker(ABC):
    """Learns from one split and scores the rows of another.

    Attributes:
        learned: Whether it has anything to learn.
        uses_features: Whether it scores by the features, so that neutral customers can change its order.
        learns_together: Whether several processes share its `fit`; otherwise the first process fits alone.
    """

    learned: bool = True
    uses_features: bool = True
    learns_together: bool = False

    @abstractmethod
    def fit(self, train: Split, valid: Split, checkpoints: Checkpoints | None = None) -> Fitted:
        """Fits to `train`; `valid` decides when to stop."""

    @abstractmethod
    def score(self, rows: Split) -> Float32[ndarray, "rows n_tasks"]:
        """One score per task and row, higher is better; comparable within a search only."""

    @property
    @abstractmethod
    def scored_tasks(self) -> tuple[str, ...]:
        """The tasks that it predicts, for which AUC is defined."""

    @property
    @abstractmethod
    def gives_probabilities(self) -> bool:
        """Whether the scores of `scored_tasks` are probabilities."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes everything that `load` needs, without pickling."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Restores what `save` wrote."""


@dataclass(frozen=True)
class TextTables:
    """A problem's texts, read on demand.

    Attributes:
        prepared: The prepared data; row i of its texts is index i of a split's rows.
        cache: Folder of the texts' cached encodings.
    """

    prepared: PreparedData
    cache: Path

    def queries(self) -> list[str]:
        """The unique queries."""
        return self.prepared.queries()["query"].to_pylist()

    def documents(self) -> list[str]:
        """Each product's texts as one string (Paper: Sec. 3.2)."""
        return [document or "" for document in self.prepared.products()["document"].to_pylist()]


@dataclass(frozen=True)
class Problem:
    """The problem that a ranker is built for.

    Attributes:
        config: The resolved experiment.
        tasks: The log's tasks, in the order of `labels`.
        task_weights: Weight of each task's loss.
        columns: Names of the input columns, numerical then categorical.
        n_numerical: How many of them are numerical.
        category_sizes: Codes of each categorical column.
        relevance_classes: Classes of the relevance label that is learned beside the tasks; 0 where none is. Only the
            networks learn it, and no ranker scores by it.
        texts: Its queries and documents; None where there are none.
    """

    config: ExperimentConfig
    tasks: tuple[str, ...]
    task_weights: TaskWeights
    columns: tuple[str, ...]
    n_numerical: int
    category_sizes: tuple[int, ...]
    relevance_classes: int = 0
    texts: TextTables | None = None

    def require_features(self) -> None:
        """Refuses a problem without any input column: no two products could be distinguished."""
        if not self.columns:
            raise UserError(
                "a ranker that learns must have at least one feature, but exclude_features and exclude_sides leave "
                "none of the prepared data's; exclude fewer, or prepare with more features"
            )
