"""Settings of `prepare`: from a search log to training arrays."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from shelfrank.config.base import Count, Strict, Threads
from shelfrank.config.relevance import RelevanceConfig
from shelfrank.config.sampling import SamplingConfig


class SparkConfig(Strict):
    """Connection to a Spark cluster.

    Attributes:
        master: Its Spark master URL; `local[*]` runs on this machine.
        driver_memory: Memory of the driver's Java process; only used if this process starts Spark.
        executor_memory: Memory of each executor.
        log_url: URL of the log's folder for the executors, such as `s3a://bucket/log`; None uses the log's own path.
        scratch_url: A folder that driver and executors share, such as `hdfs://host/tmp`; None uses a local one.
        settings: Further Spark settings by name.
    """

    master: str = "local[*]"
    driver_memory: str = "2g"
    executor_memory: str = "4g"
    log_url: str | None = None
    scratch_url: str | None = None
    settings: dict[str, str] = {}


class EngineConfig(Strict):
    """The engine that runs joins, sorts and aggregates; both give the same result.

    Attributes:
        name: `duckdb` runs inside this process, `spark` on a cluster.
        memory_limit: Memory limit above which DuckDB spills to disk, in DuckDB's notation.
        threads: Worker threads; None takes every core that this process may use.
        spark: Connection to Spark.
    """

    name: Literal["duckdb", "spark"] = "duckdb"
    memory_limit: str = Field(default="1000MB", pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$")
    threads: Threads | None = None
    spark: SparkConfig = SparkConfig()


class SplitConfig(Strict):
    """How whole searches are split (Paper: Sec. 4.1).

    Attributes:
        by: `time` puts the latest searches into the test split; `search_id` splits by a fixed hash of the id; `forward`
            cuts the latest searches into test windows, each of which is the test split of a fold: its validation
            split is what comes right before, its training split everything before that.
        train: Share of the searches; with `forward` the first fold's, since later folds train on more.
        valid: Share of the searches; the others are the test split, or the test windows together.
        folds: Test windows of `forward`.
        fold: The only fold of `forward` to prepare, 1 for the earliest; None prepares all.
    """

    by: Literal["time", "search_id", "forward"] = "time"
    train: float = Field(default=0.8, gt=0, lt=1)
    valid: float = Field(default=0.1, gt=0, lt=1)
    folds: int = Field(default=4, ge=2, le=100)
    fold: int | None = Field(default=None, ge=1, le=100)

    @model_validator(mode="after")
    def _check(self) -> "SplitConfig":
        if self.train + self.valid >= 1:
            raise ValueError(
                f"train and valid must leave a share for test, but they add up to {self.train + self.valid:g}"
            )
        if self.by != "forward" and (self.fold is not None or self.folds != type(self).model_fields["folds"].default):
            raise ValueError(f"folds and fold must go with by: forward, but by is {self.by}; set by, or remove them")
        if self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold must be one of the {self.folds} folds, but it is {self.fold}")
        return self

    @property
    def is_several(self) -> bool:
        """Whether it gives several folds rather than one train, validation and test split."""
        return self.by == "forward" and self.fold is None

    def only_fold(self, number: int) -> "SplitConfig":
        """The same for one of the folds, counted from 1."""
        return self.model_copy(update={"fold": number})

    def plain(self) -> dict[str, Any]:
        """Plain data, without the keys that only `forward` reads: earlier versions wrote it without them."""
        return self.model_dump(mode="json", exclude=None if self.by == "forward" else {"folds", "fold"})


PRIOR_RATES: dict[Any, float] = {"click": 0.05, "add_to_cart": 0.01, "purchase": 0.005}
MAX_DAYS = 36_500
MAX_CODES = 2**24
"""Codes that float32, the input of the trees, represents exactly."""


class HistoryConfig(Strict):
    """The point-in-time history statistics (Paper: Sec. 3.3; each uses earlier events only).

    Attributes:
        product: Impressions, outcomes and smoothed rates of the product.
        query: Impressions and smoothed click rate of the query.
        query_product: Impressions and smoothed click rate of the query-product pair.
        customer: The customer's earlier actions, on this product and overall.
        session: The visitor's earlier actions in this session.
        taste: What customer and session chose against what they were shown: clicks, carts and purchases of each value
            of the affinity features against those expected, and the price of what they chose among the prices of its
            category. It needs clicks, and for prices a catalogue that states them.
        affinity: Product features whose values are matched with the customer's and the query's past clicks; None
            takes the declared categorical product features in their order, up to six.
        outcome_delay_s: Seconds after a search until its clicks, carts and purchases are known.
        windows_days: Windows, in days, of product, query and pair statistics in addition to all time.
        prior_strength: Pseudo-impressions of a rate's prior.
        prior_rates: Prior of each task's rate; unnamed tasks keep the default. Constants, so that no later event
            changes an earlier row.
    """

    product: bool = True
    query: bool = True
    query_product: bool = True
    customer: bool = True
    session: bool = True
    taste: bool = True
    affinity: tuple[str, ...] | None = None
    outcome_delay_s: float = Field(default=0.0, ge=0, le=MAX_DAYS * 86_400)
    windows_days: tuple[Annotated[float, Field(gt=0, le=MAX_DAYS)], ...] = (1.0, 7.0, 30.0)
    prior_strength: float = Field(default=20.0, gt=0, le=1e9)
    prior_rates: dict[Literal["click", "add_to_cart", "purchase"], Annotated[float, Field(ge=0, le=1)]] = Field(
        default=PRIOR_RATES
    )

    @field_validator("prior_rates", mode="after")
    @classmethod
    def _fill_in(cls, rates: dict[Any, float]) -> dict[Any, float]:
        return PRIOR_RATES | rates

    @model_validator(mode="after")
    def _check(self) -> "HistoryConfig":
        for name, values in (
            ("windows_days", [f"{days:g}" for days in self.windows_days]),
            ("affinity", self.affinity),
        ):
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"{name} must name each value once, but it is {', '.join(values)}")
        return self


class UnderstandingConfig(Strict):
    """How queries are read: by the catalogue and, better, by what customers did.

    Attributes:
        log: Learns synonyms of product types and relevance from the training searches too: at the end of blocks of time
            whose lengths double, each for later searches.
        first_rows: Training rows of the first block.
        max_rows: Training rows of a block that are learned from at most; of a longer one a random part of the searches
            is.
    """

    log: bool = True
    first_rows: Count = 1_000
    max_rows: Count = 1_000_000


class PrepareConfig(Strict):
    """From a search log to training arrays.

    Attributes:
        split: How searches are split.
        sampling: Sampling of training rows; None keeps all.
        relevance: Relevance labels; None computes none.
        semantic_scores: Folder that `shelfrank semantic score` wrote for this log; None uses no semantic score.
        history: History statistics.
        upstream_order: Uses the search engine's order before re-ranking as a context feature. Right if that order is
            known at serving time; wrong if the logged position results from an earlier version of this ranker.
        page: The price relative to the other products of the page, and the page's size.
        text: Similarity of the query's and the product's words.
        understanding: What the query's words mean in this shop, and how a product answers them; None computes none.
        min_count: Training rows that a category needs for a code of its own.
        max_categories: Maximum codes of a feature; rarer categories share code 0.
        engine: The engine and its limits.
    """

    split: SplitConfig = SplitConfig()
    sampling: SamplingConfig | None = None
    relevance: RelevanceConfig | None = None
    semantic_scores: str | None = None
    history: HistoryConfig = HistoryConfig()
    upstream_order: bool = False
    page: bool = True
    text: bool = True
    understanding: UnderstandingConfig | None = UnderstandingConfig()
    min_count: Count = 5
    max_categories: int = Field(default=100_000, ge=1, le=MAX_CODES)
    engine: EngineConfig = EngineConfig()
