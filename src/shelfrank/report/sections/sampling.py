"""The sampling: rows requested and kept by popularity bin, and the positive share before and after."""

from collections.abc import Sequence

from shelfrank.report.blocks import Block, Cell, Details, Figure, Figures, Missing, Row, Section, Table, Text
from shelfrank.report.charts import Pair, pair_chart
from shelfrank.report.comparison import Comparison, SampledRows, Sampling
from shelfrank.report.formats import compact, count, listed, percent, plural

MAX_CATEGORIES = 10
NO_CATEGORY = "(no category)"


def sampling_section(comparison: Comparison) -> Section:
    """Rows kept in total, before and after by popularity bin, and where fewer rows existed than were requested."""
    title, intro = "Sampling", "Which training rows were kept."
    sampling = comparison.data.sampling
    if sampling is None:
        words = "No sampling of the training rows is recorded in this comparison."
        return Section("sampling", title, [Missing(words)], intro)
    blocks: list[Block] = [Text(_summary(sampling))]
    if sampling.by_bin:
        blocks += [_figures(sampling), _by_bin(sampling)]
    blocks += _by_category(sampling)
    return Section("sampling", title, blocks, intro)


def _units(sampling: Sampling) -> str:
    return "result pages" if sampling.config.unit == "search" else "impressions"


def _summary(sampling: Sampling) -> str:
    totals = sampling.totals
    kept = (
        f"{count(totals.taken)} of {count(totals.impressions)} training {_units(sampling)} were kept, "
        f"{count(totals.asked)} were requested. The positive share went from {percent(totals.share_before)} "
        f"to {percent(totals.share_after)}. "
    )
    if not totals.short:
        return kept + "Every bin had enough rows. Validation and test rows are never sampled."
    short = [
        f"{count(missing)} {side}s"
        for side, missing in (("positive", totals.short_positive), ("negative", totals.short_negative))
        if missing
    ]
    return (
        f"{kept}{listed(short)} fewer than requested exist: in {count(totals.n_short_bins)} of "
        f"{plural(totals.n_bins or 0, 'bin', 'bins')} all rows were kept and none was repeated. "
        "Validation and test rows are never sampled."
    )


def _figures(sampling: Sampling) -> Figures:
    axis = "popularity bin"
    rows = [Pair(count(each.bin), each.impressions, each.taken) for each in sampling.by_bin]
    shares = [Pair(count(each.bin), each.share_before, each.share_after) for each in sampling.by_bin]
    of_bins = "by popularity bin"
    items = [
        Figure(
            f"{_units(sampling).capitalize()} {of_bins}",
            pair_chart("sampling-rows", f"{_units(sampling).capitalize()} {of_bins}", rows, axis, compact),
        ),
        Figure(
            f"Positive share {of_bins}",
            pair_chart("sampling-shares", f"Positive share {of_bins}", shares, axis, _whole_percent),
        ),
    ]
    caption = (
        "Bin 1 holds the products of each category that were shown least. The bins of a category hold equally many "
        "products, so the last ones hold most of the rows."
    )
    return Figures(items, caption)


def _by_bin(sampling: Sampling) -> Table:
    config = sampling.config
    rows = [Row(count(each.bin), _cells(each)) for each in sampling.by_bin]
    rows.append(Row("All", _cells(sampling.totals)))
    one = "page" if config.unit == "search" else "impression"
    legend = (
        f"Each bin of each {config.category or 'category'} gives {percent(config.beta)} of its "
        f"{_units(sampling)} (β), {percent(config.alpha)} of them positive (α); a row here sums one bin over all "
        f"categories. A positive {one} has a positive label for any task. Short: requested, but nonexistent."
    )
    return _table("Rows requested and kept by popularity bin, all categories", "Bin", rows, legend, _units(sampling))


def _by_category(sampling: Sampling) -> list[Block]:
    short = sorted((each for each in sampling.by_category if each.short), key=lambda each: -each.short)
    if not short:
        return []
    rows = [
        Row(NO_CATEGORY if each.category is None else each.category, _cells(each)) for each in short[:MAX_CATEGORIES]
    ]
    legend = (
        f"{count(len(short))} of {plural(len(sampling.by_category), 'category', 'categories')} fell short in at least "
        "one bin. A category can be short on positives in one bin and have them left over in another."
    )
    table = _table("Rows requested and kept, largest shortfalls", "Category", rows, legend, _units(sampling))
    return [Details("Categories with the largest shortfall", [table])]


def _table(caption: str, head: str, rows: Sequence[Row], legend: str, units: str) -> Table:
    groups = [("", 1), ("Before", 2), ("Positive", 3), ("Negative", 3), ("After", 2)]
    size = units.split()[-1].capitalize()
    columns = ["Products", size, "Positive", *["Requested", "Kept", "Short"] * 2, size, "Positive"]
    return Table(caption, head, columns, rows, groups, legend)


def _cells(rows: SampledRows) -> list[Cell]:
    return [
        Cell(count(rows.products)),
        Cell(count(rows.impressions)),
        Cell(percent(rows.share_before)),
        *(Cell(count(n)) for n in (rows.asked_positive, rows.taken_positive, rows.short_positive)),
        *(Cell(count(n)) for n in (rows.asked_negative, rows.taken_negative, rows.short_negative)),
        Cell(count(rows.taken)),
        Cell(percent(rows.share_after)),
    ]


def _whole_percent(share: float) -> str:
    return percent(share, 0 if round(100 * share, 6) == round(100 * share) else 1)
