"""Hooks of the site: pages from outside `docs/`, and checks that a code host shows the same as the site."""

import logging
import re
from pathlib import Path
from typing import Literal

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"results/{log}/{name}.md" for log in ("small", "trivago") for name in ("tables", "claims")),
)
"""Pages outside `docs/` that the site copies, so that a link such as `../CHANGELOG.md` is valid in both."""

WIDE = "architecture.md"
"""The page whose picture takes the width of both sidebars."""

log = logging.getLogger("mkdocs.hooks.shelfrank")


def on_startup(command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Prints warnings only; `--quiet` would hide them from `--strict` as well."""
    if command == "build":
        logging.getLogger("mkdocs").setLevel(logging.WARNING)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside `docs/`."""
    for path in OUTSIDE:
        files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links between `docs/` and the pages outside it at the site's copies, and widens one page."""
    source = page.file.src_uri
    if source == WIDE:
        page.meta["hide"] = ["navigation", "toc"]
    if source.startswith("repository/"):
        return markdown.replace("](docs/", f"]({'../' * source.count('/')}")
    return markdown.replace("](../", "](repository/") if "/" not in source else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Warns of a list or table that a code host shows, but that is plain text here for want of a blank line."""
    prose = re.sub(r"<pre>.*?</pre>", "", html, flags=re.DOTALL)
    for found in re.findall(r"<p>(?:(?!</p>).)*?\n((?:\||[-*] |\d+\. )[^\n]{0,40})", prose, flags=re.DOTALL):
        log.warning("%s: needs a blank line before %r", page.file.src_uri, found)
    return html
