"""Personalization: how much a page differs with and without it, and example pages in both orders."""

from markupsafe import Markup

from shelfrank.report.blocks import (
    Block,
    Details,
    Figure,
    Figures,
    Heading,
    Missing,
    Orders,
    Placed,
    Section,
    Tabs,
)
from shelfrank.report.charts import Dot, interval_chart, move_histogram, order_links
from shelfrank.report.comparison import Comparison, Example, Moves, PagedProduct
from shelfrank.report.formats import number, plural

ROW_HEIGHT = 60
"""Height of a product on an example page, in CSS pixels; `page.css` sets the same."""

INTRO = (
    "The same pages with and without personalization: with the customer's features, and with neutral values for them."
)


def personalization_section(comparison: Comparison) -> Section:
    """PD of every ranker, how far products move, and example pages in both orders."""
    blocks: list[Block] = [_degrees(comparison)]
    titles = {ranker.name: ranker.title for ranker in comparison.rankers}
    items = [
        (titles.get(name, name), _moves(moves, titles.get(name, name), f"moves-{index}"))
        for index, (name, moves) in enumerate(comparison.moves.items())
    ]
    if items:
        blocks.append(Tabs("moves", "Ranker", items))
    else:
        blocks.append(Missing("How far products move, and example pages, are not part of this comparison."))
    return Section("personalization", "Personalization", blocks, INTRO)


def _degrees(comparison: Comparison) -> Block:
    cutoffs = sorted({k for ranker in comparison.rankers for k in ranker.pd}, key=lambda k: (len(k), k))
    figures = []
    for k in cutoffs:
        dots = []
        for ranker in comparison.rankers:
            degree = ranker.pd.get(k)
            if degree is not None:
                dots.append(Dot(ranker.title, number(degree.value), degree.value, degree.low, degree.high))
        chart = interval_chart(
            f"pd-{len(figures)}",
            f"Personalization Degree at {k}",
            dots,
            [],
            f"PD@{k} (lower: more personalized)",
        )
        figures.append(Figure(f"PD@{k}", chart, _counted(comparison, k)))
    return Figures(figures) if figures else Missing("Personalization Degree is not part of this comparison.")


def _counted(comparison: Comparison, k: str) -> str:
    # Pages are counted by their length alone, so every ranker has the same counts.
    degrees = (ranker.pd.get(k) for ranker in comparison.rankers)
    degree = next((degree for degree in degrees if degree is not None and degree.n is not None), None)
    if degree is None or degree.n is None:
        return ""
    words = f"Over {plural(degree.n, 'page', 'pages')}"
    if degree.left_out is not None:
        short = plural(degree.left_out, "page", "pages")
        words += f"; {short} of at most {k} products left out, since their overlap is always 1"
    return words + "."


def _moves(moves: Moves, title: str, chart_id: str) -> list[Block]:
    blocks: list[Block] = []
    if moves.histogram:
        caption = (
            f"On average a product moves by {number(moves.mean_absolute, 2)} places."
            if moves.mean_absolute is not None
            else ""
        )
        chart = move_histogram(chart_id, f"How far products move, {title}", moves.histogram)
        blocks.append(Figures([Figure("How far products move", chart, caption)]))
    else:
        blocks.append(Missing("How far products move is not known for this ranker."))
    if not moves.examples:
        blocks.append(Missing("There are no example pages of this ranker."))
    for index, example in enumerate(moves.examples):
        shown = _orders(example)
        if index == 0:
            blocks += [Heading("Example pages"), shown]
        else:
            blocks.append(Details(f"“{shown.query}”, {shown.customer}", [shown]))
    return blocks


def _orders(example: Example) -> Orders:
    neutral = [product.product_id for product in example.neutral]
    personalized = [product.product_id for product in example.personalized]
    clicked = {product.product_id for product in (*example.neutral, *example.personalized) if product.clicked}
    links = order_links(neutral, personalized, clicked, ROW_HEIGHT) if neutral and personalized else Markup()
    return Orders(
        query=example.query or "no query",
        customer="an anonymous visitor" if example.customer is None else f"customer {example.customer}",
        history=example.history,
        neutral=[
            _placed(product, place, personalized, arriving=False) for place, product in enumerate(example.neutral)
        ],
        personalized=[
            _placed(product, place, neutral, arriving=True) for place, product in enumerate(example.personalized)
        ],
        links=links,
    )


def _placed(product: PagedProduct, place: int, other: list[str], arriving: bool) -> Placed:
    price = "" if product.price is None else f"{product.price:,.2f}"
    shown = "" if product.shown is None else f"shown at {product.shown}"
    facts = " · ".join(filter(None, [product.brand, price, shown]))
    if product.product_id not in other:
        return Placed(product, facts, "from below" if arriving else "leaves", "up" if arriving else "down")
    there = other.index(product.product_id)
    rise = (there - place) if arriving else (place - there)
    tone = "up" if rise > 0 else "down" if rise < 0 else "level"
    arrow = {"up": "↑", "down": "↓", "level": ""}[tone]
    return Placed(product, facts, f"{arrow}{abs(rise)}" if arriving and rise else "", tone)
