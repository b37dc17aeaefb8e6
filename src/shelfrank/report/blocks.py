"""What a section of the page is made of; `page.html` knows how each block looks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup

from shelfrank.report.comparison import PagedProduct


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    words: str
    tone: str = ""


@dataclass(frozen=True)
class Prose:
    """Paragraphs, lists and tables that are HTML already."""

    kind: ClassVar[str] = "prose"
    html: Markup


@dataclass(frozen=True)
class Missing:
    """One line that says what is not known and where it would come from."""

    kind: ClassVar[str] = "missing"
    words: str


@dataclass(frozen=True)
class Listing:
    """Items of a list under a short heading."""

    kind: ClassVar[str] = "listing"
    heading: str
    items: Sequence[str]


@dataclass(frozen=True)
class Definitions:
    """Terms with what they mean."""

    kind: ClassVar[str] = "definitions"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Preformatted text."""

    kind: ClassVar[str] = "code"
    content: str


@dataclass(frozen=True)
class Card:
    """A conclusion for one task: a figure, its ranker, its caption and its sentences."""

    heading: str
    figure: str
    caption: str
    subject: str
    sentences: Sequence[str]
    tone: str


@dataclass(frozen=True)
class Cards:
    """Cards side by side."""

    kind: ClassVar[str] = "cards"
    items: Sequence[Card]


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        text: Its main line.
        notes: Smaller lines below, each with a tone: empty, `up`, `down`.
        best: Whether it holds the best value of its column.
        bar: A drawing below the text.
        numeric: Whether it is set flush right.
    """

    text: str
    notes: Sequence[tuple[str, str]] = ()
    best: bool = False
    bar: Markup = field(default_factory=Markup)
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """A table's row: its head, a smaller line below the head, and its cells."""

    head: str
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a head column.

    Attributes:
        caption: What it shows.
        head: Heading of the head column.
        columns: Headings of the other columns.
        rows: Its rows.
        groups: Headings over several columns, with how many each spans; none where there is one level.
        legend: How to read it.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: str
    columns: Sequence[str]
    rows: Sequence[Row]
    groups: Sequence[tuple[str, int]] = ()
    legend: str = ""

    @property
    def starts(self) -> set[int]:
        """Indices of the columns that begin a group."""
        return {0, *itertools.accumulate(width for _, width in self.groups)} if self.groups else set()


@dataclass(frozen=True)
class Figure:
    """A chart with its heading."""

    heading: str
    chart: Markup
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Charts side by side, and a caption for all of them."""

    kind: ClassVar[str] = "figures"
    items: Sequence[Figure]
    caption: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    words: str


@dataclass(frozen=True)
class Tabs:
    """Groups of blocks of which the screen shows one; on paper all are shown.

    Attributes:
        name: Name of the choice, unique on the page.
        legend: What is chosen.
        items: Each group's label and blocks.
        chosen: Index of the group shown first.
    """

    kind: ClassVar[str] = "tabs"
    name: str
    legend: str
    items: Sequence[tuple[str, Sequence["Block"]]]
    chosen: int = 0


@dataclass(frozen=True)
class Details:
    """Blocks behind a summary, to be opened."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Columns:
    """Groups of blocks, side by side where the screen is wide enough."""

    kind: ClassVar[str] = "columns"
    parts: Sequence[Sequence["Block"]]


@dataclass(frozen=True)
class Placed:
    """A product in an order.

    Attributes:
        product: The product.
        facts: Its brand, price and the place the shop gave it, in words.
        move: Where it came from or went to, in words; empty where it stays.
        tone: `up`, `down` or `level`.
    """

    product: PagedProduct
    facts: str
    move: str
    tone: str


@dataclass(frozen=True)
class Orders:
    """One page in two orders, with lines between them."""

    kind: ClassVar[str] = "orders"
    query: str
    customer: str
    history: Sequence[str]
    neutral: Sequence[Placed]
    personalized: Sequence[Placed]
    links: Markup


Block = (
    Text
    | Prose
    | Missing
    | Listing
    | Definitions
    | Code
    | Cards
    | Table
    | Figures
    | Heading
    | Tabs
    | Details
    | Columns
    | Orders
)


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        id: Its anchor.
        title: Its heading.
        blocks: Its content.
        intro: What it answers.
    """

    id: str
    title: str
    blocks: Sequence[Block]
    intro: str = ""
