"""The model card of a run: what it is, what it learned from, what it is for, how good it is on whom, and its limits."""

from pathlib import Path
from typing import Any

import yaml

from shelfrank import __version__
from shelfrank.core.artifact import is_current, publish
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.rankers.run import Run
from shelfrank.report import card_words as words
from shelfrank.report.card_facts import Facts, gather
from shelfrank.report.card_sections import card_sections
from shelfrank.report.formats import count
from shelfrank.report.markdown import plain, section_markdown
from shelfrank.report.page import render_page

KIND = "model_card"
CARD_VERSION = 2
"""Part of every card's inputs: raise it when the same run and evaluation give another card."""

MARKDOWN, PAGE = "model_card.md", "model_card.html"
LICENSE = "unknown"
"""What the hub of model cards calls a licence that nobody has stated."""


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
    return _markdown(gather(run, evaluation), license_name)


def model_card_page(run: Run, evaluation: Evaluation, license_name: str = LICENSE) -> str:
    """The same card as a self-contained page that looks as a report does.

    Args:
        run: The run.
        evaluation: An evaluation of it.
        license_name: Licence of the weights, which only their owner can choose.

    Returns:
        The HTML.

    Raises:
        UserError: As for `model_card`.
    """
    return _page(gather(run, evaluation), license_name)


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
        (draft.path / MARKDOWN).write_text(_markdown(facts, license_name), encoding="utf-8")
        (draft.path / PAGE).write_text(_page(facts, license_name), encoding="utf-8")
    return True


def _markdown(facts: Facts, license_name: str) -> str:
    front = yaml.safe_dump(_metadata(facts, license_name), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{front}---\n", f"# {plain(_title(facts))}\n", f"{plain(words.conclusion(facts))}\n"]
    return "\n".join([*parts, *(section_markdown(section) for section in card_sections(facts, license_name))])


def _page(facts: Facts, license_name: str) -> str:
    return render_page(
        _title(facts),
        "model card",
        card_sections(facts, license_name),
        conclusion=words.conclusion(facts),
        data_line=f"Measured on {count(facts.known.counts.searches)} searches of the {facts.split_name} split of "
        f"{facts.known.title}.",
        version=__version__,
    )


def _title(facts: Facts) -> str:
    return f"{facts.run.label} on {facts.known.title}"


def _metadata(facts: Facts, license_name: str) -> dict[str, Any]:
    """What model hubs read; the figures are those of the tables, without their intervals."""
    results = []
    for task in facts.known.tasks:
        for measure in facts.known.measures:
            figure = facts.ranker.get(measure, task)
            if figure is not None and figure.value is not None:
                name = f"{measure.label}, {words.spoken(task)}"
                results.append({"type": measure.family, "name": name, "value": round(figure.value, 4)})
    data = {"name": facts.known.title, "type": facts.known.title, "split": facts.split_name}
    return {
        "license": license_name,
        "library_name": "shelfrank",
        "tags": ["learning-to-rank", "product-search", "multi-task", facts.run.name.replace("_", "-")],
        "metrics": list(dict.fromkeys(result["type"] for result in results)),
        "model-index": [
            {
                "name": _title(facts),
                "results": [
                    {"task": {"type": "ranking", "name": "Product ranking"}, "dataset": data, "metrics": results}
                ],
            }
        ],
    }
