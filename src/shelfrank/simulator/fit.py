"""True relevance of a product to a query, and its fit to the customer."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int8, Int32, Shaped

from shelfrank.simulator.assortment import ATTRIBUTES
from shelfrank.simulator.catalogue import D_STYLE, LOG_PRICE_UNIT, Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import Customers
from shelfrank.simulator.portable import log
from shelfrank.simulator.queries import Intents

FAVORITE_COLOR_WEIGHT = 0.5
"""Utility of a favourite colour that the visit does not seek, relative to the sought one."""


@dataclass(frozen=True)
class Shown:
    """Shown products, row by row, with what depends on the search.

    Attributes:
        product: The product.
        intent: The intent of the query.
        price_z: Its price after discount, in the units of `Catalogue.price_z`.
        discount: The discount as a share of the price.
        trend: Demand for its brand in that week.
        grade: Relevance to the query, 0 to 3.
    """

    product: Int32[np.ndarray, " rows"]
    intent: Int32[np.ndarray, " rows"]
    price_z: Float32[np.ndarray, " rows"]
    discount: Float32[np.ndarray, " rows"]
    trend: Float32[np.ndarray, " rows"]
    grade: Int8[np.ndarray, " rows"]

    def take(self, rows: Int[np.ndarray, " picked"]) -> "Shown":
        """Selects rows."""
        return Shown(
            product=self.product[rows],
            intent=self.intent[rows],
            price_z=self.price_z[rows],
            discount=self.discount[rows],
            trend=self.trend[rows],
            grade=self.grade[rows],
        )


def show(
    catalogue: Catalogue,
    intents: Intents,
    product: Int32[np.ndarray, " rows"],
    intent: Int32[np.ndarray, " rows"],
    day: Int32[np.ndarray, " rows"],
    discount: Float32[np.ndarray, " rows"],
) -> Shown:
    """Computes price, discount, trend and relevance of each shown product.

    Args:
        catalogue: All products.
        intents: All intents.
        product: The product of each row.
        intent: The intent of the row's query.
        day: The day of the search.
        discount: The product's discount on that day.

    Returns:
        The rows.
    """
    price_z = catalogue.price_z[product] + log(1 - discount) / np.float32(LOG_PRICE_UNIT)
    trend = catalogue.brand_trend[day // 7, catalogue.attributes["brand"][product]]
    grade = relevance_grade(catalogue, intents, product, intent)
    return Shown(product=product, intent=intent, price_z=price_z, discount=discount, trend=trend, grade=grade)


def relevance_grade(
    catalogue: Catalogue,
    intents: Intents,
    product: Int32[np.ndarray, " rows"],
    intent: Int32[np.ndarray, " rows"],
) -> Int8[np.ndarray, " rows"]:
    """Relevance of products to queries, independent of the customer.

    The grade is 3 if the type (or, if the query states none, the category) and all stated attributes match, 2 with one
    mismatch, 1 with more mismatches or for another type of the category with at most one mismatch, and 0 otherwise.

    Args:
        catalogue: All products.
        intents: All intents.
        product: The product of each row.
        intent: The intent of each row.

    Returns:
        The grades.
    """
    mismatches = np.zeros(len(product), dtype=np.int8)
    for place, name in enumerate(ATTRIBUTES):
        stated = intents.stated[intent, place]
        mismatches += (stated >= 0) & (catalogue.attributes[name][product] != stated)
    kind = intents.kind[intent]
    in_category = catalogue.category[product] == intents.category[intent]
    right = in_category & ((kind < 0) | (catalogue.kind[product] == kind))
    return np.where(right, np.maximum(3 - mismatches, 1), in_category & (mismatches <= 1)).astype(np.int8)


def personal_fit(
    config: StorefrontConfig,
    catalogue: Catalogue,
    customers: Customers,
    intents: Intents,
    shown: Shown,
    needs: Shaped[np.ndarray, "..."],
    chance: Float32[np.ndarray, "..."],
) -> Float32[np.ndarray, "..."]:
    """Fit of products to customers, in logits of a click; 0 is neutral.

    Attributes that the query states only affect the grade, so that nothing counts twice.

    Args:
        config: The shop.
        catalogue: All products.
        customers: All customers.
        intents: All intents.
        shown: The rows.
        needs: Rows of `needs.NEED`: one for each row, or of shape `[1, panel]` to cross rows with a panel.
        chance: The unexplained taste, of a shape that broadcasts to the result.

    Returns:
        The fit, of shape `[rows]` or `[rows, panel]`.
    """
    taste, product = config.taste, shown.product

    def per_row(values: Shaped[np.ndarray, " rows"]) -> Shaped[np.ndarray, "..."]:
        return values if needs.ndim == 1 else values[:, None]

    customer = needs["customer"]
    brand = per_row(catalogue.attributes["brand"][product])
    department = per_row(catalogue.department()[product])
    fit = taste.personal * chance
    liking = np.zeros(fit.shape, dtype=np.float32)
    for axis in range(D_STYLE):
        liking = liking + customers.style[customer, axis] * per_row(
            catalogue.brand_style[catalogue.attributes["brand"][product], axis]
        )
    fit = fit + taste.brand / np.sqrt(np.float32(D_STYLE)) * liking
    fit += taste.favorite_brand * (customers.favorite_brand[customer, department] == brand)
    fit -= taste.price * np.abs(per_row(shown.price_z) - customers.price_level[customer])
    fit += taste.quality * customers.minds_quality[customer] * per_row(catalogue.quality[product])

    color = per_row(catalogue.attributes["color"][product])
    favorites = customers.favorite_colors[customer]
    favorite = (color == favorites[..., 0]) | (color == favorites[..., 1])
    match = np.where(color == needs["color"], np.float32(1), np.float32(FAVORITE_COLOR_WEIGHT) * favorite) * (
        color >= 0
    )
    fit += taste.color * match * per_row(_unstated(intents, shown, "color"))
    age = per_row(catalogue.attributes["age_group"][product])
    other_age = (age >= 0) & (age != needs["age_group"])
    fit -= taste.age_group * other_age * per_row(_unstated(intents, shown, "age_group"))
    same_kind = per_row(catalogue.kind[product]) == needs["kind"]
    fit += taste.kind * same_kind * per_row(intents.kind[shown.intent] < 0)
    return fit.astype(np.float32)


def _unstated(intents: Intents, shown: Shown, name: str) -> Shaped[np.ndarray, " rows"]:
    return intents.stated[shown.intent, ATTRIBUTES.index(name)] < 0
