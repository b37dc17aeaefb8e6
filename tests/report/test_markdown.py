from shelfrank.report.blocks import (
    Card,
    Cards,
    Cell,
    Code,
    Columns,
    Definitions,
    Details,
    Figure,
    Figures,
    Heading,
    Listing,
    Missing,
    Row,
    Section,
    Table,
    Tabs,
    Text,
)
from shelfrank.report.charts.svg import line
from shelfrank.report.markdown import plain, section_markdown


def _said(*blocks: object) -> str:
    head, _, rest = section_markdown(Section("id", "Title", list(blocks))).partition("\n\n")  # pyright: ignore[reportArgumentType]
    assert head == "## Title"
    return rest


def test_words_mean_nothing_to_markdown() -> None:
    assert plain("a_b|c *d*\n`e` <f> [g](h)") == r"a\_b\|c \*d\* \`e\` \<f\> \[g\](h)"


def test_a_table_has_a_line_per_row_and_its_groups_in_the_heads() -> None:
    rows = [
        Row("one", [Cell("0.5", [("0.4–0.6", ""), ("+0.1", "up")]), Cell("x|y", numeric=False)], "kept"),
        Row("two", [Cell("–"), Cell("z", numeric=False)], "a sentence that is long"),
    ]
    table = Table("Caption", "Head", ["A", "B"], rows, [("G", 1), ("", 1)], "Legend.")
    assert _said(table).splitlines() == [
        "**Caption**", "",
        "| Head | G: A | B |", "|---|---:|---|",
        r"| one (kept) | 0.5 (0.4–0.6, +0.1) | x\|y |", "| two | – | z |", "",
        "- two: a sentence that is long", "",
        "Legend.",
    ]  # fmt: skip


def test_every_kind_of_block_is_told() -> None:
    chart = line(0, 0, 1, 1, "axis")
    card = Card("Click", "0.5", "caption", "who", ["It is.", "It was."], "")
    blocks = [
        Text("text"), Missing("missing"), Heading("heading"), Listing("list", ["item"]),
        Definitions([("term", "mean")]),
        Cards([card]), Figures([Figure("figure", chart, "seen"), Figure("silent", chart)]),
        Tabs("tabs", "legend", [("tab", [Text("inside a tab")])]), Details("more", [Text("inside details")]),
        Columns([[Text("left")], [Text("right")]]), Code("a\nb"),
    ]  # fmt: skip
    assert _said(*blocks).split("\n\n") == [
        "text", "missing", "### heading", "### list", "- item", "- **term:** mean", "- **Click:** It is. It was.",
        "- figure: seen", "### tab", "inside a tab", "**more**", "inside details", "left", "right",
        "```\na\nb\n```\n",
    ]  # fmt: skip


def test_code_cannot_end_its_own_fence() -> None:
    assert _said(Code("```\nx")).splitlines()[0] == "````"


def test_a_table_without_rows_is_only_its_head() -> None:
    assert "| Head | A |\n|---|---:|" in _said(Table("Caption", "Head", ["A"], []))
