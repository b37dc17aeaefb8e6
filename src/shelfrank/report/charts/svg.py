"""SVG elements as escaped markup."""

from collections.abc import Sequence

from markupsafe import Markup, escape

Number = int | float
"""A value, a coordinate or a length; a run that checks types takes `float` at its word."""


def element(tag: str, *children: str, **attributes: str | Number | None) -> Markup:
    """One SVG element; text and attributes are escaped, markup is kept.

    Args:
        tag: The element's name.
        *children: Markup or text.
        **attributes: Its attributes. `_` stands for `-`, a trailing `_` is dropped, None leaves one out.

    Returns:
        The markup.

    Example:
        >>> print(element("text", "a < b", x=1.25, text_anchor="end", class_="tick"))
        <text x="1.25" text-anchor="end" class="tick">a &lt; b</text>
    """
    pairs = [
        f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for name, value in attributes.items()
        if value is not None
    ]
    inner = Markup("").join(escape(child) for child in children)
    return Markup(f"<{tag}{''.join(pairs)}>{inner}</{tag}>")


def picture(
    chart_id: str,
    title: str,
    description: str,
    size: tuple[Number, Number],
    *children: str,
    class_: str = "chart",
) -> Markup:
    """A chart with a title and a description for those who cannot see it.

    Args:
        chart_id: The chart's id, unique on the page.
        title: What the chart shows.
        description: Its content in words.
        size: Width and height of its coordinates.
        *children: Its content.
        class_: Its class.

    Returns:
        The `svg` element.
    """
    width, height = size
    return element(
        "svg",
        element("title", title, id=f"{chart_id}-title"),
        element("desc", description, id=f"{chart_id}-desc"),
        *children,
        class_=class_,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        aria_labelledby=f"{chart_id}-title {chart_id}-desc",
    )


def text(x: Number, y: Number, content: str, class_: str, anchor: str = "start") -> Markup:
    """A line of text, anchored at its start, middle or end."""
    return element("text", content, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line(x1: Number, y1: Number, x2: Number, y2: Number, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[Number, Number]], class_: str) -> Markup:
    """A line through points."""
    return element("polyline", points=" ".join(f"{_short(x)},{_short(y)}" for x, y in points), class_=class_)


def dot(x: Number, y: Number, radius: Number, class_: str, tip: str) -> Markup:
    """A dot that tells its value when pointed at."""
    return element("circle", element("title", tip), cx=x, cy=y, r=radius, class_=class_)


def bar(x: Number, y: Number, width: Number, height: Number, class_: str, tip: str) -> Markup:
    """A rectangle that tells its value when pointed at."""
    return element("rect", element("title", tip), x=x, y=y, width=width, height=height, rx=1, class_=class_)


def shortened(words: str, limit: int) -> str:
    """Words cut to a number of characters, with an ellipsis; charts name things that the tables spell out."""
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def shortened_apart(labels: Sequence[str], limit: int) -> list[str]:
    """Labels cut to a number of characters, at their end or, where that would make some alike, in their middle.

    Args:
        labels: The labels.
        limit: Most characters of each, at least 4.

    Returns:
        A label for each.

    Example:
        >>> shortened_apart(["LambdaMART (leaves2)", "LambdaMART (leaves15)", "MMoE"], 12)
        ['Lam…leaves2)', 'Lam…eaves15)', 'MMoE']
    """
    cut = [shortened(label, limit) for label in labels]
    found = list(cut)
    for index, label in enumerate(labels):
        alike = [other for other, short in zip(labels, cut, strict=True) if short == cut[index] and other != label]
        if alike:
            letters = zip(label, *alike, strict=False)
            same = next((i for i, at in enumerate(letters) if len(set(at)) > 1), min(map(len, [label, *alike])))
            head = limit // 4
            # A little of what is the same stands before what differs, as far as the rest has room.
            rest = limit - head - 1
            start = max(head, min(same - rest // 4, len(label) - rest))
            found[index] = f"{label[:head]}…{label[start : start + rest]}"
    return found


def _short(value: str | Number) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
