"""Draws from how much traffic on which ranker pays, from what `gains.py` printed.

    python benchmarks/gains_figure.py results/gains docs/images/when_which.svg

The folder has a file for each number of training searches, such as `24000.txt`. Of each the last group of shops that
compares a ranker with `before` is drawn.
"""

import argparse
import html
import math
import re
from pathlib import Path

SHOWN = (
    ("blend", "blend, the default", "#0a5fae", 2.6),
    ("blend_debiased", "blend without positions", "#6a3fa0", 1.6),
    ("debiased", "LambdaMART, positions left out", "#0b7a68", 1.6),
    ("trees", "LambdaMART", "#a84a0c", 1.6),
    ("network", "network", "#737e8c", 1.6),
)
"""Rankers: name in the files, in the figure, colour and width of the line."""
FIGURES = (
    ("redrawn", "Pages shown as they were (redrawn)"),
    ("unbiased", "Every product of a page looked at alike (unbiased)"),
)
TASKS = (("click", "clicks"), ("add_to_cart", "carts"), ("purchase", "purchases"))
LEFT, TOP, WIDTH, HEIGHT, GAP, ROW = 52, 64, 220, 170, 40, 250
LEGEND = 40
MRR = re.compile(r"(\w+) (\w+) ([\d.]+)(?:, |$)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    gains = {int(file.stem): read(file) for file in arguments.results.glob("*.txt") if file.stem.isdigit()}
    arguments.out.write_text(drawn(dict(sorted(gains.items()))), encoding="utf-8")


def read(file: Path) -> dict[tuple[str, str, str], float]:
    """The gain over `before` of each ranker, figure and task, in percent, of the last group of shops that has it."""
    found: dict[tuple[str, str, str], float] = {}
    for group in re.split(r"^(?=\S)", file.read_text(encoding="utf-8"), flags=re.MULTILINE):
        means = {
            (name, figure, task): float(mean)
            for name, rest in re.findall(r"^  (\w+): (.*)$", group, flags=re.MULTILINE)
            for figure, task, mean in MRR.findall(rest)
        }
        for (name, figure, task), mean in means.items():
            if ("before", figure, task) in means:
                found[name, figure, task] = 100 * (mean / means["before", figure, task] - 1)
    return found


def drawn(gains: dict[int, dict[tuple[str, str, str], float]]) -> str:
    """The figure: a row for each way to judge, a column for each task."""
    sizes = list(gains)
    low = min(value for size in gains.values() for (name, _, _), value in size.items() if name in names())
    high = max(value for size in gains.values() for (name, _, _), value in size.items() if name in names())
    low, high = math.floor(min(low, 0.0)), math.ceil(high)
    width, height = LEFT + 3 * WIDTH + 2 * GAP + 16, TOP + 2 * ROW + LEGEND
    title = "Gain in MRR@10 over LambdaMART without query understanding and taste, by training searches"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="12" fill="#161b22">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        words(LEFT, 22, title, weight=600, size=14),
    ]
    for row, (figure, said) in enumerate(FIGURES):
        top = TOP + row * ROW
        parts.append(words(LEFT, top - 8, said, weight=600))
        for column, (task, named) in enumerate(TASKS):
            left = LEFT + column * (WIDTH + GAP)
            parts += axes(left, top + 18, sizes, low, high, named, is_first=column == 0)
            for name, _, colour, stroke in SHOWN:
                points = [
                    (across(left, size, sizes), up(top + 18, gains[size][name, figure, task], low, high))
                    for size in sizes
                    if (name, figure, task) in gains[size]
                ]
                path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
                parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}"/>')
                parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in points]
    x = LEFT
    for _, label, colour, stroke in SHOWN:
        y = height - 16
        parts.append(
            f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="{stroke}"/>'
        )
        parts.append(words(x + 23, y, label))
        x += 38 + 16 + round(6.5 * len(label))
    return "\n".join([*parts, "</svg>"]) + "\n"


def names() -> set[str]:
    """The rankers that are drawn."""
    return {name for name, *_ in SHOWN}


def axes(left: float, top: float, sizes: list[int], low: int, high: int, named: str, is_first: bool) -> list[str]:
    """Grid, ticks and the name of one panel."""
    parts = [words(left, top - 6, named, colour="#57616e")]
    for mark in range(low, high + 1, 2):
        y = up(top, mark, low, high)
        line = "#c3cad3" if mark == 0 else "#e1e5ea"
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{line}"/>')
        if is_first:
            parts.append(words(left - 6, y + 4, f"{mark:+d} %" if mark else "0 %", anchor="end", colour="#57616e"))
    for size in sizes:
        x = across(left, size, sizes)
        parts.append(words(x, top + HEIGHT + 16, f"{size // 1000}k", anchor="middle", colour="#57616e"))
    return parts


def across(left: float, size: int, sizes: list[int]) -> float:
    """Where a number of searches lies, by its logarithm."""
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    return left + 12 + (WIDTH - 24) * (math.log(size) - first) / (last - first)


def up(top: float, value: float, low: int, high: int) -> float:
    """Where a gain lies."""
    return top + HEIGHT * (high - value) / (high - low)


def words(
    x: float, y: float, said: str, *, anchor: str = "start", weight: int = 400, size: int = 12, colour: str = "#161b22"
) -> str:
    """A line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="{colour}">{html.escape(said)}</text>'
    )


if __name__ == "__main__":
    main()
