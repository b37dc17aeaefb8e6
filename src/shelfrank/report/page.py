"""The report as one self-contained HTML page."""

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from shelfrank.core.artifact import write_atomic
from shelfrank.core.errors import UserError
from shelfrank.report.blocks import Section
from shelfrank.report.comparison import read_comparison
from shelfrank.report.formats import day
from shelfrank.report.sections.calibration import calibration_section
from shelfrank.report.sections.cost import cost_section
from shelfrank.report.sections.data import data_line, data_section
from shelfrank.report.sections.learning import learning_section
from shelfrank.report.sections.personalization import personalization_section
from shelfrank.report.sections.provenance import provenance_section
from shelfrank.report.sections.rankers import rankers_section
from shelfrank.report.sections.result import judge, lead, result_section
from shelfrank.report.sections.sampling import sampling_section
from shelfrank.report.sections.segments import segments_section


def render(comparison: Mapping[str, Any]) -> str:
    """The page of a comparison: conclusions first, then what they rest on.

    The page loads nothing and runs no script; its content security policy forbids both. Every text of the
    comparison is escaped. A part that is absent gives a line that says so.

    Args:
        comparison: The comparison, as parsed from JSON.

    Returns:
        The HTML.

    Raises:
        UserError: Where a part of the comparison has the wrong type.
    """
    known = read_comparison(comparison)
    verdicts = [judge(known, task) for task in known.tasks]
    sections = [
        result_section(known, verdicts),
        rankers_section(known),
        segments_section(known),
        personalization_section(known),
        learning_section(known),
        calibration_section(known),
        data_section(known),
        sampling_section(known),
        cost_section(known),
        provenance_section(known),
    ]
    return render_page(
        known.title,
        "comparison of rankers",
        sections,
        conclusion=lead(known, verdicts),
        data_line=data_line(known),
        version=known.shelfrank,
        created=known.created and day(known.created),
    )


def render_page(
    title: str,
    subject: str,
    sections: Sequence[Section],
    conclusion: str = "",
    data_line: str = "",
    version: str | None = None,
    created: str | None = None,
) -> str:
    """A self-contained page of sections; every text is escaped.

    Args:
        title: Its heading.
        subject: What kind of report it is.
        sections: Its content.
        conclusion: What the page finds, in a sentence or two.
        data_line: What it rests on, in one line.
        version: The version that made it.
        created: The day it was made.

    Returns:
        The HTML.
    """
    style = files("shelfrank.report").joinpath("page.css").read_text(encoding="utf-8")
    return _template().render(
        title=title,
        subject=subject,
        version=version,
        created=created,
        lead=conclusion,
        data_line=data_line,
        sections=sections,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


def write_report(comparison: Mapping[str, Any], path: Path) -> None:
    """Writes the page of a comparison; a reader of the file sees the old page or the new one, never a part.

    Args:
        comparison: The comparison, as parsed from JSON.
        path: The HTML file; an older one is replaced.

    Raises:
        UserError: Where a part of the comparison has the wrong type, or the file's folder does not exist.
    """
    if not path.parent.is_dir():
        raise UserError(
            f"the report's folder must exist, but there is no {path.parent}; make it or choose another place"
        )
    write_atomic(path, render(comparison).encode())


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("shelfrank", "report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
