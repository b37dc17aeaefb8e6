"""The cost of the comparison: wall time and memory of each step."""

from shelfrank.report.blocks import Cell, Missing, Row, Section, Table
from shelfrank.report.charts import share_bar
from shelfrank.report.comparison import Comparison
from shelfrank.report.formats import compact, count, duration, memory


def cost_section(comparison: Comparison) -> Section:
    """Wall time, peak memory, rows and rate of each step, with their total."""
    steps = comparison.steps
    if not steps:
        return Section("cost", "Cost", [Missing("The cost of the steps was not recorded in this comparison.")])
    longest = max((step.wall_s or 0.0 for step in steps), default=0.0)
    rows = []
    for step in steps:
        bar = share_bar(step.wall_s / longest if step.wall_s is not None and longest else None)
        rate = step.rows / step.wall_s if step.rows is not None and step.wall_s else None
        cells = [
            Cell(duration(step.wall_s), bar=bar),
            Cell(memory(step.peak_rss_mb)),
            Cell(count(step.rows)),
            Cell(compact(rate)),
        ]
        rows.append(Row(step.name, cells))
    known = [step.wall_s for step in steps if step.wall_s is not None]
    peaks = [step.peak_rss_mb for step in steps if step.peak_rss_mb is not None]
    total = [
        Cell(duration(sum(known) if known else None)),
        Cell(memory(max(peaks, default=None))),
        Cell(""),
        Cell(""),
    ]
    rows.append(Row("all steps", total))
    columns = ["Wall time", "Peak memory", "Rows", "Rows/s"]
    legend = "Peak memory of a step is the most its process held at once; of all steps, the largest of these."
    return Section("cost", "Cost", [Table("Cost by step", "Step", columns, rows, legend=legend)])
