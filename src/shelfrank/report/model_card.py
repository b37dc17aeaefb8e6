"""The model card of a run as Markdown, from `model_card.md.j2`, and the same as a page."""

import functools
import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from shelfrank import __version__
from shelfrank.core.artifact import is_current, publish
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.rankers.run import Run
from shelfrank.report import formats
from shelfrank.report.blocks import Block, Figure, Figures, Prose, Section
from shelfrank.report.card_facts import FEW_SEARCHES, Facts, few_searches, gather
from shelfrank.report.charts import reliability_chart
from shelfrank.report.comparison import figure_of
from shelfrank.report.estimates import Estimate
from shelfrank.report.formats import between, brief, count, listed, number, signed, task_name, task_title
from shelfrank.report.page import render_page
from shelfrank.report.sections.calibration import summary
from shelfrank.report.sections.data import SPLIT_TITLES, evaluated_on
from shelfrank.report.sections.learning import curve_caption, grows_trees, loss_chart
from shelfrank.report.sections.provenance import DEFINITIONS
from shelfrank.report.sections.rankers import MARKS
from shelfrank.report.sections.segments import SEGMENTATIONS

KIND = "model_card"
CARD_VERSION = 3
"""Part of every card's inputs: raise it when the same run and evaluation give another card."""

MARKDOWN, PAGE = "model_card.md", "model_card.html"
LICENSE = "unknown"
"""What the hub of model cards calls a licence that nobody has stated."""
PACKAGES = ("numpy", "torch", "xgboost-cpu", "xgboost", "lightgbm", "catboost", "transformers")

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~&"})


def model_card(run: Run, evaluation: Evaluation, license_name: str = LICENSE) -> str:
    """The card as Markdown, its first lines the metadata that model hubs read.

    Args:
        run: The run.
        evaluation: An evaluation of it.
        license_name: Licence of the weights, which only their owner can choose.

    Returns:
        The Markdown.

    Raises:
        UserError: Where the evaluation is of another run, or the data is no longer what was evaluated.
    """
    return card_markdown(gather(run, evaluation), license_name)


def write_model_card(run_path: Path, evaluation_path: Path, out: Path, license_name: str = LICENSE) -> bool:
    """Writes the card of a run as `model_card.md` and `model_card.html`.

    Args:
        run_path: A finished run.
        evaluation_path: A finished evaluation of it.
        out: The folder of both files.
        license_name: Licence of the weights, which only their owner can choose.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: As for `model_card`.
    """
    run, evaluation = Run.open(run_path), Evaluation.open(evaluation_path)
    inputs = {
        "run": run.manifest.fingerprint,
        "evaluation": evaluation.manifest.fingerprint,
        "license": license_name,
        "shelfrank": __version__,
        "version": CARD_VERSION,
    }
    if is_current(out, KIND, inputs):
        return False
    facts = gather(run, evaluation)
    with publish(out, KIND, inputs) as draft:
        (draft.path / MARKDOWN).write_text(card_markdown(facts, license_name), encoding="utf-8")
        (draft.path / PAGE).write_text(card_page(facts, license_name), encoding="utf-8")
    return True


def card_markdown(facts: Facts, license_name: str = LICENSE) -> str:
    """The card as Markdown."""
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    text = _template().render(
        facts=facts,
        license=license_name,
        metadata=Markup(_metadata(facts, license_name)),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        definitions=DEFINITIONS,
        evaluated=evaluated_on(facts.known.counts),
        segmentations=SEGMENTATIONS,
        min_searches=MIN_SEARCHES,
        few_searches=FEW_SEARCHES,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def card_page(facts: Facts, license_name: str = LICENSE) -> str:
    """The card as a self-contained page that looks as a report does, with charts of calibration and learning."""
    _, *parts = re.split(r"^## (.*)\n", card_markdown(facts, license_name), flags=re.MULTILINE)
    charts = {"Calibration": _calibration(facts), "Learning curve": _learning(facts)}
    sections = [
        Section(title.lower().replace(" ", "-"), title, [*charts.get(title, []), Prose(_html(text))])
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return render_page(
        facts.title,
        "model card",
        sections,
        conclusion=facts.conclusion,
        data_line=f"Evaluated on {count(facts.known.counts.searches)} searches of the {facts.split_name} split of "
        f"{facts.known.title}.",
        version=__version__,
    )


def plain(value: object) -> Markup:
    r"""A value whose characters mean nothing to Markdown, on one line; markup stays as it is.

    Args:
        value: The value.

    Returns:
        Its text, special characters escaped.

    Example:
        >>> print(plain("add_to_cart"))
        add\_to\_cart
    """
    return value if isinstance(value, Markup) else Markup(" ".join(str(value).split()).translate(_SPECIAL))


def _metadata(facts: Facts, license_name: str) -> str:
    """What model hubs read; the figures are those of the tables, without their intervals."""
    results = [
        EvalResult(
            task_type="ranking",
            task_name="Product ranking",
            dataset_type=facts.known.title,
            dataset_name=facts.known.title,
            dataset_split=facts.split_name,
            metric_type=measure.family,
            metric_name=f"{measure.label}, {task_name(task)}",
            metric_value=round(figure.value, 4),
        )
        for task in facts.known.tasks
        for measure in facts.known.measures
        if (figure := facts.ranker.get(measure, task)) is not None and figure.value is not None
    ]
    data = ModelCardData(
        license=license_name,
        library_name="shelfrank",
        tags=["learning-to-rank", "product-search", "multi-task", facts.run.name.replace("_", "-")],
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        model_name=facts.title,
        eval_results=results,
    )
    return f"{data.to_yaml()}\n"


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("shelfrank", "report"),
        # Every value passes `plain`; the escaping of markup then leaves the result as it is.
        finalize=plain,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("compact", "count", "day", "duration", "listed", "number", "percent", "plural"):
        environment.filters[name] = getattr(formats, name)
    environment.filters |= {
        "code": _code,
        "curve": curve_caption,
        "difference": _difference,
        "few": few_searches,
        "figure": _figure,
        "grows_trees": grows_trees,
        "missing": lambda by_task: [f"{count(n)} of {task_name(task)}" for task, n in by_task.items() if n],
        "of": figure_of,
        "parts": lambda parts: listed([f"{task_name(name)} {formats.compact(n)}" for name, n in parts.items()]),
        "reasons": _reasons,
        "sides": lambda sides: listed([f"{count(n)} {side}" for side, n in sides.items()]),
        "split": lambda name: SPLIT_TITLES.get(name, name),
        "summary": summary,
        "tasks": lambda tasks: listed([task_name(task) for task in tasks]),
        "title": task_title,
        "weights": lambda weights: ", ".join(f"{task_name(task)} {number(n, 2)}" for task, n in weights.items()),
        "widths": lambda layers: ", ".join(map(str, layers)) or "none",
    }
    return environment.get_template("model_card.md.j2")


def _figure(interval: Estimate | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return number(interval.value if interval else None)
    return f"{number(interval.value)} ({brief(interval) if interval.low >= 0 else between(interval)})"


def _difference(interval: Estimate | None) -> str:
    if interval is None:
        return formats.UNKNOWN
    ends = "" if interval.low is None else f" ({between(interval)})"
    return f"{MARKS.get(interval.sign or 0, '')}{signed(interval.value)}{ends}"


def _reasons(counts: Mapping[str, int]) -> str:
    return listed([f"{count(n)} {reason.replace('_', ' ')}" for reason, n in counts.items() if n]) or "nothing"


def _code(content: str) -> Markup:
    # Longer than any fence inside.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", content)), default=0))
    return Markup(f"{fence}\n{content}\n{fence}")


def _html(text: str) -> Markup:
    """Markdown as HTML, without raw HTML, and with tables as the page's own."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule(
        "table_open", lambda *_: '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'
    )
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(text)
    for index, token in enumerate(tokens):
        if token.type in ("th_open", "td_open"):
            _restyle(token, tokens[index + 2], is_first=tokens[index - 1].type == "tr_open")
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _restyle(opening: Token, closing: Token, is_first: bool) -> None:
    """Gives a cell a class in place of its style, which the page's policy forbids; a row's first cell is its head."""
    is_right = bool(opening.attrs.get("style"))
    opening.attrs = {"class": "head" if is_first else "number" if is_right else "words"}
    if opening.type == "th_open" or is_first:
        opening.tag = closing.tag = "th"
        opening.attrs["scope"] = "col" if opening.type == "th_open" else "row"


def _calibration(facts: Facts) -> Sequence[Block]:
    figures = [
        Figure(
            task_title(task), reliability_chart(f"calibration-{i}", f"{facts.ranker.title}, {task_title(task)}", bins)
        )
        for i, (task, bins) in enumerate(facts.ranker.calibration.items())
    ]
    return [Figures(figures)] if figures else []


def _learning(facts: Facts) -> Sequence[Block]:
    chart = loss_chart(facts.ranker, "curve")
    return [Figures([Figure("Training and validation loss", chart)])] if chart else []
