"""The rows of the paper's Tables 2-5: the training of each, and the printed figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shelfrank.config import ExperimentConfig, NeuralConfig
from shelfrank.core.schema import TASKS
from shelfrank.data.prepared import PreparedData
from shelfrank.rankers import ranker_spec
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.rankers.renamed import RENAMED

SEMANTIC_SCORE = "semantic_score"
SHARED_WORDS = "query_in_document"

TaskFigures = Mapping[str, float]
"""A figure by task."""


@dataclass(frozen=True)
class Printed:
    """The printed figures of a row.

    Attributes:
        auc: AUC-ROC by task; a task without one is missing.
        mrr: MRR@1 by task.
        pd: PD@10.
        percent: Change of MRR@1 by task, in percent, as printed beside the figure.
        weights: Task weights by task, as printed.
    """

    auc: TaskFigures = field(default_factory=dict)
    mrr: TaskFigures = field(default_factory=dict)
    pd: float | None = None
    percent: TaskFigures = field(default_factory=dict)
    weights: TaskFigures = field(default_factory=dict)


@dataclass(frozen=True)
class TableRow:
    """One thing that is trained, from every seed.

    Attributes:
        name: Its folder's name.
        label: The paper's name for it.
        ranker: Its name in `RANKERS`.
        table: The table that prints it first; 0 for rows of our own, set beside the paper's.
        printed: The paper's figures.
        base: The row that it is measured against; None where there is none.
        settings: Settings that differ from its ranker's.
        seeds: Whether another seed gives another result.
    """

    name: str
    label: str
    ranker: str
    table: int
    printed: Printed = Printed()
    base: str | None = None
    settings: tuple[str, ...] = ()
    seeds: bool = True

    @property
    def neural(self) -> NeuralConfig:
        """The network of its ranker, as the ranker's own settings leave it."""
        preset = ranker_spec(self.ranker).preset
        return ExperimentConfig.model_validate(preset).neural

    @property
    def reads_text(self) -> bool:
        """Whether it has a text encoder."""
        return self.neural.text.matching != "none"

    @property
    def is_ft_transformer(self) -> bool:
        """Whether its bottom is FT-Transformer, whose cost grows with the square of the columns."""
        return self.neural.bottom == "ft_transformer"


def _by_task(*values: float | None) -> TaskFigures:
    return {task: value for task, value in zip(TASKS, values, strict=True) if value is not None}


def _ranker(name: str) -> str:
    """The ranker of a row: the paper's text encoder is TinyBERT, a ranker takes any."""
    return RENAMED.get(name, name)


def _label(name: str) -> str:
    return PAPER_ROWS[_ranker(name)].label


def _row(
    name: str,
    auc: tuple[float | None, ...],
    mrr: tuple[float, ...],
    weights: tuple[float, ...] = (),
    pd: float | None = None,
) -> TableRow:
    printed = Printed(_by_task(*auc), _by_task(*mrr), pd, weights=_by_task(*weights) if weights else {})
    return TableRow(name, _label(name), _ranker(name), 2, printed)


def _without_score(
    base: str, mrr: tuple[float, ...], percent: tuple[float, ...], weights: tuple[float, ...]
) -> TableRow:
    printed = Printed(mrr=_by_task(*mrr), percent=_by_task(*percent), weights=_by_task(*weights))
    settings = (f"exclude_features=[{SEMANTIC_SCORE}]",)
    return TableRow(f"{base}-no_semantic_score", _label(base), _ranker(base), 3, printed, base, settings)


_DOT = "mmoe_dcn_v2_tinybert_dot"

ROWS: tuple[TableRow, ...] = (
    _row("xgboost", (None, 0.869, None), (0.302, 0.364, 0.377)),
    _row("dcn_v2_single", (None, 0.867, None), (0.302, 0.368, 0.385)),
    _row("ftt_single", (None, 0.863, None), (0.347, 0.376, 0.390)),
    _row("mmoe", (0.726, 0.784, 0.776), (0.277, 0.325, 0.342), (0.2, 0.7, 0.1)),
    _row("tabnet", (0.834, 0.872, 0.859), (0.354, 0.372, 0.387), (0.1, 0.2, 0.7)),
    _row("ftt", (0.764, 0.858, 0.844), (0.353, 0.377, 0.393), (0.1, 0.9, 0.0), 0.87),
    _row("mmoe_dcn_v2", (0.830, 0.868, 0.855), (0.329, 0.375, 0.391), (0.4, 0.1, 0.5), 0.92),
    _row("mmoe_ftt", (0.819, 0.855, 0.846), (0.326, 0.375, 0.389), (0.3, 0.4, 0.3)),
    _row("mmoe_dcn_v2_tinybert_cross", (0.824, 0.863, 0.850), (0.324, 0.373, 0.391), (0.4, 0.3, 0.3), 0.88),
    _row("mmoe_ftt_tinybert_cross", (0.838, 0.862, 0.864), (0.352, 0.378, 0.395), (0.5, 0.3, 0.2), 0.87),
    _without_score("tabnet", (0.347, 0.368, 0.380), (-1.97, -1.07, -1.8), (0.1, 0.9, 0.0)),
    _without_score("mmoe_dcn_v2", (0.322, 0.374, 0.389), (-2.12, -0.26, -0.51), (0.3, 0.3, 0.4)),
    _without_score("mmoe_dcn_v2_tinybert_cross", (0.328, 0.373, 0.391), (1.23, 0.0, 0.0), (0.5, 0.1, 0.4)),
    TableRow(
        _DOT,
        _label(_DOT),
        _ranker(_DOT),
        4,
        Printed(mrr=_by_task(0.320, 0.371, 0.388), weights=_by_task(0.4, 0.2, 0.4)),
        "mmoe_dcn_v2_tinybert_cross",
    ),
    TableRow(
        "mmoe_dcn_v2-relevance",
        "MMoE + DCN-V2 with relevance task",
        "mmoe_dcn_v2",
        5,
        Printed(mrr=_by_task(0.333, 0.376, 0.392), weights=_by_task(0.5, 0.2, 0.3)),
        "mmoe_dcn_v2",
    ),
    TableRow("shown_order", "Shown order (not in the paper)", "shown_order", 0, seeds=False),
    TableRow("lambdamart", "LambdaMART (not in the paper)", "lambdamart", 0),
)
"""Every row, in the order of the tables (Paper: Tables 1-5)."""

BY_NAME: Mapping[str, TableRow] = {row.name: row for row in ROWS}

RELEVANCE_ROW = "mmoe_dcn_v2-relevance"


def rows_of(table: int) -> list[TableRow]:
    """The rows that a table shows, the ones it is measured against included; none for Table 1."""
    own = [row for row in ROWS if row.table == table]
    if table == 2:
        return [row for row in ROWS if row.table in (0, 2)]
    needed = {row.name for row in own} | {row.base for row in own}
    return [row for row in ROWS if row.name in needed]


def why_not(row: TableRow, prepared: PreparedData) -> str | None:
    """Why this data cannot give a row; None if it can."""
    names = {column.name for column in prepared.numerical_columns}
    if row.reads_text and not any((text or "").strip() for text in prepared.products()["document"].to_pylist()):
        return "the products have no texts"
    if row.reads_text and SHARED_WORDS in prepared.manifest.info["left_out_features"]:
        return "no query shares a word with a product's text"
    if row.settings and SEMANTIC_SCORE not in names:
        return "the data has no semantic score to leave out"
    if row.name == RELEVANCE_ROW and not prepared.relevance_classes:
        return "the data has no relevance labels"
    return None


def printed_weights(row: TableRow) -> TaskFigures | None:
    """The task weights that Table 2 prints for a row, or for the row that it is measured against; None without any.

    Differs: the paper tunes the weights of every row of Tables 3-5 anew. Here a row and its base differ in one thing.
    """
    if row.base is not None:
        return printed_weights(BY_NAME[row.base])
    return row.printed.weights or None
