"""Learning curves of the rankers that were trained in epochs or tree by tree."""

from markupsafe import Markup

from shelfrank.report.blocks import Figure, Figures, Missing, Section
from shelfrank.report.charts import curve_chart
from shelfrank.report.comparison import Comparison, Ranker
from shelfrank.report.formats import duration, plural

INTRO = "Training and validation loss; the dashed line marks the weights that were kept."


def learning_section(comparison: Comparison) -> Section:
    """One chart per ranker that has losses, each with its own axis, since task weights differ."""
    figures = []
    for index, ranker in enumerate(comparison.rankers):
        if chart := loss_chart(ranker, f"curve-{index}"):
            figures.append(Figure(ranker.title, chart, curve_caption(ranker)))
    if not figures:
        return Section("learning", "Learning curves", [Missing("No ranker of this comparison recorded its losses.")])
    without = [ranker.title for ranker in comparison.rankers if ranker.learned and not ranker.curves]
    note = "The axes differ between rankers: losses under other task weights do not compare."
    if without:
        note += f" Without recorded losses: {', '.join(without)}."
    return Section("learning", "Learning curves", [Figures(figures, note)], INTRO)


def loss_chart(ranker: Ranker, chart_id: str) -> Markup | None:
    """Losses by epoch, or by tree; None where none was recorded."""
    if all(epoch.train_loss is None and epoch.valid_loss is None for epoch in ranker.curves):
        return None
    axis = "tree" if grows_trees(ranker) else "epoch"
    return curve_chart(chart_id, f"Loss by {axis}, {ranker.title}", ranker.curves, axis)


def grows_trees(ranker: Ranker) -> bool:
    """Whether the points of a ranker's curve are trees: they have no weights to count and are not timed one by one."""
    return ranker.params is None and all(epoch.seconds is None for epoch in ranker.curves)


def curve_caption(ranker: Ranker) -> str:
    """How many epochs a ranker was trained, how long each took, which weights were kept; of trees how many."""
    kept = next((epoch.epoch for epoch in ranker.curves if epoch.best), None)
    if grows_trees(ranker):
        words = plural(len(ranker.curves), "tree", "trees")
        return words if kept is None or kept == ranker.curves[-1].epoch else f"{words}; the first {kept} kept"
    words = plural(len(ranker.curves), "epoch", "epochs")
    seconds = [epoch.seconds for epoch in ranker.curves if epoch.seconds is not None]
    if seconds:
        words += f", {duration(max(seconds) / len(ranker.curves))} each"
    if kept is not None and kept < ranker.curves[-1].epoch:
        words += f"; stopped after epoch {ranker.curves[-1].epoch}, weights of epoch {kept} kept"
    return words
