"""Settings of the semantic score."""

from typing import Any, Literal

from pydantic import Field, model_validator

from shelfrank.config.base import MAX_COUNT, Rounds, Seed, Strict, Threads
from shelfrank.config.prepare import SplitConfig


class SemanticConfig(Strict):
    """Query and product embeddings of the semantic score (Paper: Sec. 3.2).

    Attributes:
        model: A local folder, a hub name, or `packaged`, the MiniLM that the extra `offline` installs.
        document: Product columns of the document, in this order; columns that the log lacks are skipped.
        per_attribute: `mean` embeds each column separately and averages, the paper's other reading; None embeds the
            columns joined by spaces.
        precision: Precision of scoring; `bf16` is faster and changes a cosine by about 0.001.
        threads: Processor threads; None takes torch's default.
    """

    model: str = "thenlper/gte-base"
    document: tuple[str, ...] = Field(default=("title", "brand", "color", "age_group"), min_length=1)
    per_attribute: Literal["mean"] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: Threads | None = None


class SemanticTrainConfig(Strict):
    """Contrastive fine-tuning of the text model on a shop's own searches (Paper: Sec. 3.2; the recipe is unstated).

    Attributes:
        model: The model to start from, named as in `SemanticConfig`.
        document: Product columns of the document, joined by spaces.
        split: How searches are split; pairs come from the training split only. None takes `prepare`'s default, or
            `search_id` for a judged log, which has no times.
        positive_grade: Minimum human grade of a positive pair, for a judged log; None takes clicks and purchases.
        epochs: Passes over the pairs.
        batch_size: Pairs per step; the other pairs' products are the negatives.
        learning_rate: AdamW's peak rate.
        warmup: Share of the steps over which the rate rises linearly from 0; then it falls linearly to 0.
        weight_decay: AdamW's decay of all weights except biases and norms.
        scale: Factor on the cosine before the softmax, the inverse of a temperature.
        graded_weight: Weight of a second loss, by which a query's documents come in the order of their grades; 0 leaves
            it out. It needs `grades`, or for a judged log `positive_grade`.
        grades: Folder of prepared data of the log whose relevance labels are the grades; None takes the human grades of
            a judged log.
        symmetric: Averages the loss with the reverse one, which finds a product's query among the batch's queries.
        precision: `auto` multiplies in bfloat16 if the processor supports it in hardware.
        checkpoint_every_s: Seconds between two checkpoints.
        threads: Processor threads; None takes torch's default.
        seed: Seed of the order of pairs and the dropout.
    """

    model: str = "thenlper/gte-base"
    document: tuple[str, ...] = Field(default=("title", "brand", "color", "age_group"), min_length=1)
    split: SplitConfig | None = None
    positive_grade: float | None = Field(default=None, ge=-1e6, le=1e6)
    epochs: Rounds = 1
    batch_size: int = Field(default=64, ge=2, le=MAX_COUNT)
    learning_rate: float = Field(default=5e-5, gt=0, le=10)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    scale: float = Field(default=20.0, gt=0, le=1e6)
    graded_weight: float = Field(default=0.0, ge=0, le=1e6)
    grades: str | None = None
    symmetric: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every_s: float = Field(default=120.0, ge=0, le=1e9)
    threads: Threads | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _weighs_its_grades(self) -> "SemanticTrainConfig":
        if self.grades is not None and not self.graded_weight:
            raise ValueError("graded_weight must be above 0 where grades are given")
        return self

    @property
    def of_weights(self) -> dict[str, Any]:
        """The settings that decide the weights; those of grades only where they are learned."""
        left_out = {"checkpoint_every_s", "threads", "model", "grades"}
        return self.model_dump(mode="json", exclude=left_out | (set() if self.graded_weight else {"graded_weight"}))

    def search_split(self) -> SplitConfig:
        """The split, with None resolved."""
        if self.split is not None:
            return self.split
        return SplitConfig() if self.positive_grade is None else SplitConfig(by="search_id")
