"""Whole experiments: the demo, the paper's tables, and the MMoE paper's comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shelfrank.api.arguments import AtLeastOne, Location, checked, optional_path
from shelfrank.api.figures import Comparison


@dataclass(frozen=True)
class Demo:
    """The finished demo.

    Attributes:
        comparison: The comparison of its rankers.
        bundle: The folder of what can be served; None where the packages for an export are not installed.
    """

    comparison: Comparison
    bundle: Path | None


@checked
def run_demo(*, out: Location = "demo", searches: AtLeastOne | None = None, full: bool = False) -> Demo:
    """Makes a shop's logs, prepares them, trains rankers, compares them, exports one to serve: the whole path.

    Args:
        out: Folder of everything that the demo makes.
        searches: Results pages of the simulated shop; None simulates the demo's own number.
        full: Simulates the larger shop, trains every ranker, and compares relevance labels with true grades.

    Returns:
        The comparison of the rankers, and the bundle.

    Raises:
        UserError: Where a step cannot run.
    """
    from shelfrank.demo import run_demo as run

    result = run(Path(out), searches, full)
    return Demo(Comparison(result.report), result.bundle)


@dataclass(frozen=True)
class Reproduction:
    """The paper's tables as they came out here.

    Attributes:
        path: Their folder.
    """

    path: Path

    @property
    def page(self) -> Path:
        """The tables and claims as a page."""
        return self.path / "reproduction.html"

    @property
    def summary(self) -> str:
        """Every figure, as JSON."""
        return (self.path / "summary.json").read_text(encoding="utf-8")

    @property
    def markdown(self) -> Sequence[str]:
        """The claims, where they were judged, and the tables as Markdown."""
        files = [self.path / name for name in ("claims.md", "tables.md")]
        return [file.read_text(encoding="utf-8") for file in files if file.is_file()]


@checked
def reproduce(
    what: str = "all",
    *,
    budget: str = "small",
    out: Location | None = None,
    data: Location | None = None,
    seeds: AtLeastOne | None = None,
    weights: Literal["paper", "tuned"] | None = None,
    text_model: str | None = None,
    workers: AtLeastOne | None = None,
    results: Location | None = None,
    assign: Sequence[str] = (),
) -> Reproduction:
    """Runs the paper's experiments and sets their tables beside the paper's.

    Args:
        what: `table1` to `table5`, or `all`, which also judges the claims.
        budget: Sizes: `smoke`, `small` or `full`.
        out: Folder of everything that is made; None takes `reproduce/` and the budget.
        data: Prepared data of a log; None simulates a shop.
        seeds: Trainings of every row; None takes the budget's.
        weights: Task weights as printed, or tuned on the validation split; None takes the budget's.
        text_model: Text encoder: a local folder, a hub name, or `packaged`; None takes the budget's.
        workers: Trainings at once; None takes every core.
        results: Folder that the small files are copied to, for example in a repository.
        assign: Settings of every training, such as `train.epochs=3`.

    Returns:
        The tables.

    Raises:
        UserError: Where there is no such table or budget, or a step cannot run.
    """
    from shelfrank.paper.reproduce.budgets import budget_named
    from shelfrank.paper.reproduce.pipeline import keep_results
    from shelfrank.paper.reproduce.pipeline import reproduce as run

    given = {"n_seeds": seeds, "weights": weights, "text_model": text_model}
    chosen = replace(budget_named(budget), **{name: value for name, value in given.items() if value is not None})
    folder = optional_path(out) or Path("reproduce") / budget
    folder = run(what, folder, chosen, optional_path(data), workers, list(assign))
    if results is not None:
        keep_results(folder, Path(results))
    return Reproduction(folder)


@dataclass(frozen=True)
class CensusComparison:
    """MMoE, shared bottom and single task on Census-Income.

    Attributes:
        figures: Every figure, as JSON holds them.
        labels: How tables name the models.
        file: Where the figures are.
    """

    figures: dict[str, Any]
    labels: dict[str, str]
    file: Path


@checked
def compare_census(
    folder: Location,
    *,
    out: Location,
    seeds: AtLeastOne = 3,
    group: str | None = None,
    split: str = "test",
    assign: Sequence[str] = (),
) -> CensusComparison:
    """Compares MMoE, shared bottom and single task on Census-Income, the MMoE paper's own data.

    Args:
        folder: Folder of `census-income.data` and `.test`, gzipped or not.
        out: Folder of everything that is made.
        seeds: Trainings of every model, from the seeds 0, 1, ...
        group: The only group of tasks, `income` or `education`; None compares both.
        split: Split to measure on: train, valid or test.
        assign: Settings of every training, such as `train.epochs=3`.

    Returns:
        The comparison.

    Raises:
        UserError: Where the files cannot be read, or there is no such group or split.
    """
    from shelfrank.paper.census import experiment

    figures = experiment.compare_census(Path(folder), Path(out), seeds, list(assign), group, split)
    file = experiment.comparison_folder(Path(out), split) / experiment.FIGURES
    return CensusComparison(figures, {name: model.label for name, model in experiment.MODELS.items()}, file)
