"""Customer behaviour on a results page: examination, click, cart and purchase, and its average over customers."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int8, Int32, Int64, Shaped

from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import Customers
from shelfrank.simulator.fit import Shown, personal_fit
from shelfrank.simulator.needs import draw_needs, sample_panel
from shelfrank.simulator.portable import normal_quantile, power, row_means, sigmoid
from shelfrank.simulator.queries import Intents
from shelfrank.simulator.randomness import hashed_normal, stream
from shelfrank.simulator.visits import PHONE

BLOCK = 16_384
CART_EAGERNESS_WEIGHT = 0.5
"""Effect of eagerness on carts and purchases, relative to its effect on clicks."""


class Chances(NamedTuple):
    """Joint probabilities of examined rows: of a click, of a click and a cart, of all three."""

    click: Float32[np.ndarray, "..."]
    add_to_cart: Float32[np.ndarray, "..."]
    purchase: Float32[np.ndarray, "..."]


def examination(
    config: StorefrontConfig, position: Int32[np.ndarray, " rows"], device: Int32[np.ndarray, " rows"]
) -> Float32[np.ndarray, " rows"]:
    """Examination probability: a power law of the position that falls faster on phones.

    Args:
        config: The shop.
        position: Positions on the page, from 1.
        device: Index into `visits.DEVICES`.

    Returns:
        The probabilities.
    """
    behaviour = config.behaviour
    decay = np.where(device == PHONE, behaviour.examine_decay_phone, behaviour.examine_decay)
    return (behaviour.examine_first * power(position, -decay)).astype(np.float32)


def chances(
    config: StorefrontConfig,
    catalogue: Catalogue,
    shown: Shown,
    fit: Float32[np.ndarray, "..."],
    eagerness: Float32[np.ndarray, "..."],
    price_level: Float32[np.ndarray, "..."],
) -> Chances:
    """Probabilities of a customer's actions on an examined product.

    Args:
        config: The shop.
        catalogue: All products.
        shown: The rows.
        fit: Their fit, by row or by row and panel member.
        eagerness: Eagerness of the visit, broadcast to the fit.
        price_level: Price level of the customer, broadcast to the fit.

    Returns:
        The joint probabilities, in the shape of the fit.
    """
    behaviour = config.behaviour

    def per_row(values: Float32[np.ndarray, " rows"]) -> Float32[np.ndarray, "..."]:
        return values if fit.ndim == 1 else values[:, None]

    grade = shown.grade.astype(np.float32)
    common = (
        np.array(behaviour.click, dtype=np.float32)[shown.grade]
        + behaviour.appeal * catalogue.appeal[shown.product]
        + behaviour.trend * shown.trend
        + behaviour.click_discount * shown.discount
    )
    click = sigmoid(fit + eagerness + per_row(common))
    later = CART_EAGERNESS_WEIGHT * eagerness
    cart = sigmoid(behaviour.cart_fit * fit + later + per_row(behaviour.cart - behaviour.cart_grade * (3 - grade)))
    above_level = np.maximum(per_row(shown.price_z) - price_level, 0)
    bargain = behaviour.purchase + behaviour.purchase_discount * shown.discount
    purchase = sigmoid(later - behaviour.purchase_price * above_level + per_row(bargain))
    return Chances(click, click * cart, click * cart * purchase)


def act(
    truth: Chances, p_examine: Float32[np.ndarray, " rows"], rng: np.random.Generator
) -> dict[str, Int8[np.ndarray, " rows"]]:
    """Draws the actions on each row independently.

    Args:
        truth: Probabilities given examination.
        p_examine: Examination probabilities.
        rng: The random generator.

    Returns:
        The labels: click, cart and purchase, each implying the previous one.
    """
    # One draw for all three: joint probabilities decrease, so each action implies the previous one.
    draws = rng.random(len(p_examine), dtype=np.float32)
    return {task: (draws < p_examine * joint).astype(np.int8) for task, joint in truth._asdict().items()}


class Panel:
    """A sample of customers per category, to average behaviour without personalization.

    Args:
        config: The shop.
        catalogue: Its products.
        customers: Its customers.
        intents: What queries express.
    """

    def __init__(self, config: StorefrontConfig, catalogue: Catalogue, customers: Customers, intents: Intents) -> None:
        self.config = config
        self.catalogue = catalogue
        self.customers = customers
        self.intents = intents
        self._members = [self._draw(category) for category in range(len(catalogue.assortment.categories))]

    def members(self, category: int) -> tuple[Shaped[np.ndarray, " panel"], Float32[np.ndarray, " panel"]]:
        """The panel of a category.

        Args:
            category: The category.

        Returns:
            Needs as rows of `needs.NEED`, and the unexplained part of taste.
        """
        return self._members[category]

    def average(self, shown: Shown, category: Int32[np.ndarray, " rows"]) -> Chances:
        """The probabilities of rows, averaged over the panel of the search's category.

        Args:
            shown: The rows.
            category: The category of each row's search.

        Returns:
            The averages, by row.
        """
        result = Chances(*(np.empty(len(category), dtype=np.float32) for _ in Chances._fields))
        for number, rows in _blocks(category):
            part = shown.take(rows)
            needs, chance = (values[None, :] for values in self._members[number])
            fit = personal_fit(self.config, self.catalogue, self.customers, self.intents, part, needs, chance)
            level = self.customers.price_level[needs["customer"]]
            joint = chances(self.config, self.catalogue, part, fit, needs["eagerness"], level)
            for total, values in zip(result, joint, strict=True):
                total[rows] = row_means(values)
        return result

    def _draw(self, category: int) -> tuple[Shaped[np.ndarray, " panel"], Float32[np.ndarray, " panel"]]:
        config, rng = self.config, stream(self.config.seed, "panel", category)
        n = config.behaviour.panel
        weight = self.catalogue.category_weight
        favorite = config.traffic.favorite_category
        # Every category has a panel, also one without searches.
        general = max(float((1 - favorite) * weight[category] / np.cumsum(weight)[-1] / max(favorite, 1e-9)), 1e-9)
        who = sample_panel(self.customers, category, general, rng, n)
        habit = rng.random(n) < config.traffic.habit
        where = np.full(n, category, dtype=np.int32)
        needs = draw_needs(config, self.catalogue, self.customers, who, where, habit, rng)
        # Normal quantiles, equal for every product: independent draws would add noise to the average.
        quantiles = normal_quantile((np.arange(n) + 0.5) / n).astype(np.float32)
        return needs, rng.permutation(quantiles)


def lasting_taste(
    config: StorefrontConfig, customer: Int32[np.ndarray, " rows"], product: Int32[np.ndarray, " rows"]
) -> Float32[np.ndarray, " rows"]:
    """Each customer's unexplained taste for each product, standard normal and constant over time."""
    return hashed_normal(config.seed, 11, customer, product)


def _blocks(category: Int32[np.ndarray, " rows"]) -> Iterator[tuple[int, Int64[np.ndarray, " block"]]]:
    """Yields blocks of rows with one category that fit into the processor's cache."""
    order = np.argsort(category, kind="stable")
    bounds = np.flatnonzero(np.diff(category[order])) + 1
    for rows in np.split(order, bounds):
        for start in range(0, len(rows), BLOCK):
            yield int(category[rows[start]]), rows[start : start + BLOCK]
