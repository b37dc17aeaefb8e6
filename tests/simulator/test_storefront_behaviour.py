import dataclasses

import numpy as np
import pytest

from shelfrank.simulator import Storefront, StorefrontConfig
from shelfrank.simulator.assortment import ATTRIBUTES
from shelfrank.simulator.behaviour import Chances, Panel, act, chances, examination
from shelfrank.simulator.customers import Customers
from shelfrank.simulator.fit import Shown, personal_fit, relevance_grade, show
from shelfrank.simulator.visits import DEVICES

CONFIG = StorefrontConfig.model_validate(
    {"searches": 500, "products": 2000, "customers": 300, "days": 30, "queries": {"intents": 1500}}
)
PHONE, DESKTOP = DEVICES.index("phone"), DEVICES.index("desktop")


@pytest.fixture(scope="module")
def shop() -> Storefront:
    return Storefront(CONFIG)


@pytest.fixture(scope="module")
def searches(shop: Storefront) -> np.ndarray:
    return next(shop.visits.chunks())


@pytest.fixture(scope="module")
def shown(shop: Storefront, searches: np.ndarray) -> Shown:
    """One random product for each search, half of them of the query's category."""
    rng = np.random.default_rng(5)
    n = len(searches)
    product = rng.integers(0, CONFIG.products, n).astype(np.int32)
    for row in range(0, n, 2):
        product[row] = rng.choice(np.flatnonzero(shop.catalogue.category == searches["category"][row]))
    day, none = np.full(n, 3, dtype=np.int32), np.zeros(n, dtype=np.float32)
    return show(shop.catalogue, shop.intents, product, searches["intent"].copy(), day, none)


def fit_of(shop: Storefront, shown: Shown, needs: np.ndarray, customers: Customers | None = None) -> np.ndarray:
    who = customers or shop.customers
    nothing = np.zeros(len(needs), dtype=np.float32)
    return personal_fit(CONFIG, shop.catalogue, who, shop.intents, shown, needs, nothing)


def chances_of(shop: Storefront, shown: Shown, fit: float, price_level: float = 0.0) -> Chances:
    n = len(shown.product)
    same = [np.full(n, value, dtype=np.float32) for value in (fit, 0.0, price_level)]
    return chances(CONFIG, shop.catalogue, shown, *same)


@pytest.mark.parametrize(
    ("position", "device", "expected"),
    [(1, DESKTOP, 0.96), (1, PHONE, 0.96), (4, PHONE, 0.48), (32, DESKTOP, 0.24), (4, DESKTOP, 0.96 * 4**-0.4)],
)
def test_examination_by_hand(position: int, device: int, expected: float) -> None:
    result = examination(CONFIG, np.array([position], dtype=np.int32), np.array([device], dtype=np.int32))
    assert result[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("device", range(len(DEVICES)))
def test_examination_falls_with_every_position(device: int) -> None:
    positions = np.arange(1, 41, dtype=np.int32)
    values = examination(CONFIG, positions, np.full(40, device, dtype=np.int32))
    assert (np.diff(values) < 0).all()
    assert values[-1] > 0.1


def test_clicks_fall_with_position_in_the_log(shop: Storefront) -> None:
    config = CONFIG.model_copy(update={"searches": 3000})
    rows = Storefront(config).serve(next(Storefront(config).visits.chunks()), 0)
    rate = [
        rows["click"][(rows["position"] >= a) & (rows["position"] < b)].mean() for a, b in ((1, 3), (3, 9), (9, 41))
    ]
    assert rate[0] > 1.3 * rate[1] > 1.3**2 * rate[2]


def test_grade_by_its_rule(shop: Storefront, shown: Shown) -> None:
    catalogue, intents = shop.catalogue, shop.intents
    seen = set()
    for product, intent, grade in zip(shown.product, shown.intent, shown.grade.tolist(), strict=True):
        stated = {
            name: int(value) for name, value in zip(ATTRIBUTES, intents.stated[intent], strict=True) if value >= 0
        }
        mismatches = sum(catalogue.attributes[name][product] != value for name, value in stated.items())
        in_category = catalogue.category[product] == intents.category[intent]
        right_kind = intents.kind[intent] in (-1, catalogue.kind[product])
        if in_category and right_kind:
            expected = {0: 3, 1: 2}.get(mismatches, 1)
        else:
            expected = 1 if in_category and mismatches <= 1 else 0
        assert grade == expected
        seen.add(grade)
    assert seen == {0, 1, 2, 3}


def test_the_product_behind_a_need_has_grade_three(shop: Storefront) -> None:
    """Needs are taken from products, so each has at least one perfect answer in the catalogue."""
    products = np.arange(CONFIG.products, dtype=np.int32)
    for intent in range(0, len(shop.intents.kind), 75):
        grades = relevance_grade(shop.catalogue, shop.intents, products, np.full(len(products), intent, dtype=np.int32))
        assert grades.max() == 3


def test_favorite_brand_adds_its_weight(shop: Storefront, shown: Shown, searches: np.ndarray) -> None:
    brand = shop.catalogue.attributes["brand"][shown.product]
    department = shop.catalogue.department()[shown.product]
    rows = np.arange(len(searches))
    favorites = shop.customers.favorite_brand[searches["customer"]]
    other, same = favorites.copy(), favorites.copy()
    other[rows, department], same[rows, department] = -1, brand
    about = {field.name: getattr(shop.customers, field.name) for field in dataclasses.fields(shop.customers)}
    people = {name: values[searches["customer"]] for name, values in about.items() if isinstance(values, np.ndarray)}
    needs = searches.copy()
    needs["customer"] = rows
    without = dataclasses.replace(shop.customers, **people | {"favorite_brand": other})
    with_it = dataclasses.replace(shop.customers, **people | {"favorite_brand": same})
    gain = fit_of(shop, shown, needs, with_it) - fit_of(shop, shown, needs, without)
    assert gain == pytest.approx(CONFIG.taste.favorite_brand, rel=1e-4)


def test_fit_falls_with_distance_from_the_price_level(shop: Storefront, shown: Shown, searches: np.ndarray) -> None:
    level = shop.customers.price_level[searches["customer"]]
    at_level = fit_of(shop, dataclasses.replace(shown, price_z=level), searches)
    for step in (-2.0, 1.0):
        beside = fit_of(shop, dataclasses.replace(shown, price_z=level + np.float32(step)), searches)
        assert at_level - beside == pytest.approx(CONFIG.taste.price * abs(step), rel=1e-3)


@pytest.mark.parametrize(
    ("sought", "weight"), [("kind", CONFIG.taste.kind), ("color", None), ("age_group", CONFIG.taste.age_group)]
)
def test_unsaid_need_counts_only_where_the_query_leaves_it_open(
    shop: Storefront, shown: Shown, searches: np.ndarray, sought: str, weight: float | None
) -> None:
    truly = shop.catalogue.kind if sought == "kind" else shop.catalogue.attributes[sought]
    value = truly[shown.product]
    met, missed = searches.copy(), searches.copy()
    met[sought] = value
    # No product has the value 99, so nothing meets this need.
    missed[sought] = 99
    gain = fit_of(shop, shown, met) - fit_of(shop, shown, missed)
    if sought == "kind":
        stated = shop.intents.kind[shown.intent] >= 0
    else:
        stated = shop.intents.stated[shown.intent, ATTRIBUTES.index(sought)] >= 0
    open_rows = ~stated & (value >= 0)
    assert open_rows.any()
    assert stated.any()
    assert (gain[stated] == 0).all()
    if weight is None:
        half = CONFIG.taste.color / 2
        steps = gain[open_rows] / half
        assert steps == pytest.approx(np.round(steps), abs=1e-4)
        assert set(np.round(steps)) == {1, 2}
    else:
        assert gain[open_rows] == pytest.approx(weight, rel=1e-3)


def test_click_rises_with_grade_fit_and_discount(shop: Storefront, shown: Shown) -> None:
    clicks = []
    for grade in range(4):
        row = dataclasses.replace(shown, grade=np.full_like(shown.grade, grade))
        clicks.append(chances_of(shop, row, 0.0).click)
        assert (chances_of(shop, row, 1.0).click > clicks[-1]).all()
    assert (np.stack(clicks)[1:] > np.stack(clicks)[:-1]).all()
    offer = dataclasses.replace(shown, discount=np.full_like(shown.discount, 0.3))
    assert (chances_of(shop, offer, 0.0).click > chances_of(shop, shown, 0.0).click).all()


def test_click_by_hand(shop: Storefront, shown: Shown) -> None:
    row = 7
    logit = (
        CONFIG.behaviour.click[shown.grade[row]]
        + CONFIG.behaviour.appeal * shop.catalogue.appeal[shown.product[row]]
        + CONFIG.behaviour.trend * shown.trend[row]
        + 0.5
    )
    assert chances_of(shop, shown, 0.5).click[row] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)


def test_cart_rises_with_fit_and_purchase_falls_with_price_above_the_level(shop: Storefront, shown: Shown) -> None:
    low, high = chances_of(shop, shown, -1.0), chances_of(shop, shown, 1.0)
    assert (high.add_to_cart / high.click > low.add_to_cart / low.click).all()
    dear = dataclasses.replace(shown, price_z=np.full_like(shown.price_z, 2.0))
    poor, rich = chances_of(shop, dear, 0.0, 0.0), chances_of(shop, dear, 0.0, 2.0)
    assert (poor.purchase / poor.add_to_cart < 0.8 * rich.purchase / rich.add_to_cart).all()
    # A price below the level is no further reason to buy: the fit has counted it already.
    richer = chances_of(shop, dear, 0.0, 3.0)
    assert np.array_equal(richer.purchase, rich.purchase)


def test_acts_are_nested_and_as_frequent_as_their_chances() -> None:
    n = 200_000
    truth = Chances(*(np.full(n, p, dtype=np.float32) for p in (0.5, 0.2, 0.1)))
    labels = act(truth, np.full(n, 0.5, dtype=np.float32), np.random.default_rng(3))
    assert list(labels) == ["click", "add_to_cart", "purchase"]
    assert (labels["click"] >= labels["add_to_cart"]).all()
    assert (labels["add_to_cart"] >= labels["purchase"]).all()
    for task, expected in (("click", 0.25), ("add_to_cart", 0.1), ("purchase", 0.05)):
        assert labels[task].mean() == pytest.approx(expected, abs=0.004)
    never = act(truth, np.zeros(n, dtype=np.float32), np.random.default_rng(3))
    assert not any(values.any() for values in never.values())


def test_panel_average_is_the_mean_over_its_members(shop: Storefront, shown: Shown, searches: np.ndarray) -> None:
    panel = Panel(CONFIG, shop.catalogue, shop.customers, shop.intents)
    average = panel.average(shown, searches["category"].copy())
    for row in (0, 1, 250, 499):
        needs, chance = panel.members(int(searches["category"][row]))
        assert len(needs) == CONFIG.behaviour.panel
        rows = np.full(len(needs), row)
        repeated = shown.take(rows)
        fit = personal_fit(CONFIG, shop.catalogue, shop.customers, shop.intents, repeated, needs, chance)
        level = shop.customers.price_level[needs["customer"]]
        joint = chances(CONFIG, shop.catalogue, repeated, fit, needs["eagerness"], level)
        for values, mean in zip(joint, average, strict=True):
            assert mean[row] == pytest.approx(values.mean(), rel=1e-4)


def test_panel_of_a_category_likes_it_more_than_others_do(shop: Storefront) -> None:
    panel = Panel(CONFIG, shop.catalogue, shop.customers, shop.intents)
    likes = shop.customers.favorite_categories
    for category in (0, 30, 60):
        who = panel.members(category)[0]["customer"]
        assert (likes[who] == category).any(axis=1).mean() > 2 * (likes == category).any(axis=1).mean()
        assert (shop.catalogue.assortment.kind_category[panel.members(category)[0]["kind"]] == category).all()
