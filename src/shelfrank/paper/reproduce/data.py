"""The log that a reproduction is measured on: the simulated shop's, prepared as the paper does."""

from pathlib import Path

from shelfrank.config import SemanticConfig, SemanticTrainConfig
from shelfrank.core.progress import console
from shelfrank.paper.reproduce.budgets import Budget
from shelfrank.prepare.pipeline import prepare
from shelfrank.prepare.semantic import score_semantic, train_semantic
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate


def make_data(out: Path, budget: Budget) -> Path:
    """Simulates, scores and prepares; finished steps are skipped.

    Args:
        out: Folder of everything that the reproduction makes.
        budget: Its sizes.

    Returns:
        The prepared data.

    Raises:
        UserError: Where a step cannot run, such as a text model that is not to be had.
    """
    log, scores, prepared = out / "log", out / "scores", out / "prepared"
    shop = {"searches": budget.searches, "products": budget.products, "customers": budget.customers}
    config = StorefrontConfig.model_validate({name: value for name, value in shop.items() if value is not None})
    _said("simulate", simulate(log, config), log)
    model = budget.text_model
    if budget.fine_tuned:
        tuned = out / "semantic_model"
        _said("fine-tune the semantic score", train_semantic(log, tuned, SemanticTrainConfig()), tuned)
        model = str(tuned)
    _said("semantic score", score_semantic(log, scores, SemanticConfig(model=model)), scores)
    _said("prepare", prepare(log, prepared, budget.prepare_config(str(scores))), prepared)
    return prepared


def _said(step: str, changed: bool, out: Path) -> None:
    console.print(f"{step}: {'done' if changed else 'unchanged'} ({out})", highlight=False)
