"""Sections of a page as Markdown: the same blocks that `page.html` shows, for readers of plain text."""

from collections.abc import Sequence

from shelfrank.report.blocks import (
    Block,
    Cards,
    Cell,
    Code,
    Columns,
    Definitions,
    Details,
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

LONG_NOTE = 20
"""A row's note of more characters stands below its table."""

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})


def section_markdown(section: Section) -> str:
    """A section under a heading of the second level.

    Args:
        section: The section.

    Returns:
        The Markdown. Of a chart only its heading and caption are left, so its numbers must stand in a table too.
    """
    parts = [f"## {plain(section.title)}", *([plain(section.intro)] if section.intro else [])]
    return "\n\n".join([*parts, *_blocks(section.blocks)]) + "\n"


def plain(words: str) -> str:
    r"""Words that mean nothing to Markdown, on one line.

    Args:
        words: The words.

    Returns:
        The words, special characters escaped.

    Example:
        >>> print(plain("add_to_cart"))
        add\_to\_cart
    """
    return " ".join(words.split()).translate(_SPECIAL)


def _blocks(blocks: Sequence[Block]) -> list[str]:
    return [text for block in blocks if (text := _block(block))]


def _block(block: Block) -> str:
    match block:
        case Text() | Missing():
            return plain(block.words)
        case Heading():
            return f"### {plain(block.words)}"
        case Listing():
            return _under(f"### {plain(block.heading)}", "\n".join(f"- {plain(item)}" for item in block.items))
        case Definitions():
            return "\n".join(f"- **{plain(term)}:** {plain(meaning)}" for term, meaning in block.items)
        case Code():
            # Longer than any fence inside.
            fence = "`" * max(3, 1 + max(map(len, block.content.split("\n")), default=0) * ("```" in block.content))
            return f"{fence}\n{block.content}\n{fence}"
        case Cards():
            return "\n".join(f"- **{plain(card.heading)}:** {plain(' '.join(card.sentences))}" for card in block.items)
        case Table():
            return _table(block)
        case Figures():
            named = [f"- {plain(item.heading)}: {plain(item.caption)}" for item in block.items if item.caption]
            return "\n".join(named)
        case Tabs():
            return "\n\n".join(_under(f"### {plain(label)}", *_blocks(inside)) for label, inside in block.items)
        case Details():
            return _under(f"**{plain(block.summary)}**", *_blocks(block.blocks))
        case Columns():
            return "\n\n".join(text for part in block.parts for text in _blocks(part))
        case _:
            return ""


def _under(heading: str, *texts: str) -> str:
    return "\n\n".join([heading, *texts])


def _table(table: Table) -> str:
    groups = [title for title, width in table.groups for _ in range(width)] or [""] * len(table.columns)
    heads = [f"{group}: {column}" if group else column for group, column in zip(groups, table.columns, strict=True)]
    numeric = [cell.numeric for cell in table.rows[0].cells] if table.rows else [True] * len(heads)
    lines = [
        f"| {' | '.join(map(plain, [table.head, *heads]))} |",
        f"|---|{''.join('---:|' if right else '---|' for right in numeric)}",
        *(_row(row) for row in table.rows),
    ]
    # A sentence in a row's head would make the table too wide to read.
    notes = [f"- {plain(row.head)}: {plain(row.note)}" for row in table.rows if len(row.note) > LONG_NOTE]
    below = ["\n".join(notes)] * bool(notes) + [plain(table.legend)] * bool(table.legend)
    return _under(f"**{plain(table.caption)}**", "\n".join(lines), *below)


def _row(row: Row) -> str:
    head = plain(row.head) + (f" ({plain(row.note)})" if 0 < len(row.note) <= LONG_NOTE else "")
    return f"| {' | '.join([head, *map(_cell, row.cells)])} |"


def _cell(cell: Cell) -> str:
    notes = ", ".join(plain(note) for note, _ in cell.notes)
    return f"{plain(cell.text)} ({notes})" if notes else plain(cell.text)
