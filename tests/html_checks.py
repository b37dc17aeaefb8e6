"""A strict reading of an HTML page, as far as our pages go."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "input", "br", "hr", "img", "link"}
# What must not hold blocks: a browser would close it early, and the page would look different than it reads.
NO_BLOCKS = {"p", "h1", "h2", "h3", "h4", "span", "summary", "label", "caption", "title"}
BLOCKS = {"p", "div", "table", "ul", "ol", "dl", "pre", "section", "figure", "details", "fieldset", "h2", "h3", "h4"}


class StrictPage(HTMLParser):
    """Reads a page and fails on elements that are left open, closed in the wrong order, or wrongly nested."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute is repeated in {tag}: {attrs}"
        if tag in BLOCKS:
            wrong = NO_BLOCKS & set(self.open)
            assert not wrong, f"{tag} within {wrong}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"{tag} is closed but not open"
        assert self.open[-1] == tag, f"{tag} is closed within {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All words of the page, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]


def drawings(html: str) -> list[ElementTree.Element]:
    """Every inline SVG, read as XML."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
