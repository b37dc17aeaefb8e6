"""How much a reproduction may cost: sizes of the shop, of the networks and of the search for weights."""

from dataclasses import dataclass
from typing import Any, Literal

from shelfrank.config import EvaluateConfig, PrepareConfig
from shelfrank.config.relevance import PAPER_WEIGHTS
from shelfrank.core.errors import unknown_name

AS_THE_PAPER = EvaluateConfig(ks=(1, 10), neutral="zero")
HIDES_NOTHING = "train.hide_share=0"
"""The paper's experiments train on the rows as they are."""


@dataclass(frozen=True)
class Budget:
    """Sizes of a reproduction.

    Attributes:
        name: Its name.
        searches: Result pages of the simulated shop.
        beta: Share of the training rows that the stratified sampling asks for (Paper: Sec. 3.4).
        n_seeds: Trainings of every row.
        text_model: The text encoder, and the model of the semantic score.
        fine_tuned: Whether the semantic score's model is fine-tuned on the training searches (Paper: Sec. 3.2).
        preset: Sizes of the networks: their own, or near to the paper's counts.
        weights: Task weights: those that the paper prints, or tuned on the validation split.
        windows_days: Windows of the historical statistics; each adds columns, of which FT-Transformer's cost is the
            square.
        settings: Settings of every run.
        ft_transformer_settings: Further settings of the rows with FT-Transformer.
        text_settings: Further settings of the rows with a text encoder.
        evaluate: How every run is measured.
        n_resamples: Bootstrap resamples of a paired difference.
        products: Products of the shop; None takes the simulator's own number.
        customers: Customers of the shop, likewise.
    """

    name: str
    searches: int
    beta: float
    n_seeds: int
    text_model: str
    fine_tuned: bool = False
    preset: Literal["default", "paper"] = "default"
    weights: Literal["paper", "tuned"] = "paper"
    windows_days: tuple[float, ...] = ()
    settings: tuple[str, ...] = ()
    ft_transformer_settings: tuple[str, ...] = ()
    text_settings: tuple[str, ...] = ("neural.text.learning_rate=1e-4",)
    evaluate: EvaluateConfig = AS_THE_PAPER
    n_resamples: int = 10_000
    products: int | None = None
    customers: int | None = None

    def prepare_config(self, semantic_scores: str | None) -> PrepareConfig:
        """How the log is prepared: sampled as the paper does, with relevance labels where there is a score."""
        data: dict[str, Any] = {
            "sampling": {"beta": self.beta},
            "history": {"windows_days": self.windows_days, "taste": False},
            "understanding": None,
            "semantic_scores": semantic_scores,
            "relevance": {"weights": PAPER_WEIGHTS} if semantic_scores else None,
        }
        return PrepareConfig.model_validate(data)


BUDGETS: dict[str, Budget] = {
    budget.name: budget
    for budget in (
        Budget(
            "smoke",
            searches=1_500,
            products=400,
            customers=200,
            beta=0.1,
            n_seeds=2,
            text_model="packaged",
            settings=("train.epochs=1", "train.batch_size=512", HIDES_NOTHING),
            ft_transformer_settings=("neural.d_embedding=8", "neural.ft_transformer.n_blocks=1"),
            evaluate=EvaluateConfig(ks=(1, 10), neutral="zero", n_resamples=100, n_resamples_auc=20, pd_searches=100),
            n_resamples=500,
        ),
        Budget(
            "small",
            searches=60_000,
            beta=0.05,
            n_seeds=3,
            text_model="packaged",
            settings=("train.epochs=3", HIDES_NOTHING),
            ft_transformer_settings=("neural.d_embedding=32",),
            evaluate=EvaluateConfig(ks=(1, 10), neutral="zero", n_resamples_auc=100, pd_searches=2_000),
        ),
        Budget(
            "full",
            searches=1_000_000,
            beta=0.5,
            n_seeds=5,
            text_model="huawei-noah/TinyBERT_General_6L_768D",
            fine_tuned=True,
            preset="paper",
            weights="tuned",
            windows_days=(1.0, 7.0, 30.0),
            settings=(HIDES_NOTHING,),
        ),
    )
}
"""The budgets by name. `small` was fixed before any row was trained with it."""


def budget_named(name: str) -> Budget:
    """The budget of this name; an unknown one is a `UserError` that lists the known ones."""
    if name not in BUDGETS:
        raise unknown_name("budget", name, BUDGETS)
    return BUDGETS[name]
