import numpy as np
import pytest

from shelfrank.simulator.assortment import ATTRIBUTES, read_assortment
from shelfrank.simulator.catalogue import AGE_SLOTS, Catalogue, discount_share, make_catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import INCOME_BANDS, Customers, make_customers
from shelfrank.simulator.randomness import hashed_normal, hashed_uniform, pick, pick_rows, stream
from shelfrank.simulator.tables import customer_tables, product_tables
from shelfrank.simulator.titles import attribute_words, make_titles
from shelfrank.simulator.words import BRANDS, read_categories

CONFIG = StorefrontConfig(products=4000, customers=3000, days=40)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(CONFIG, read_assortment())


@pytest.fixture(scope="module")
def customers(catalogue: Catalogue) -> Customers:
    return make_customers(CONFIG, catalogue)


def test_vocabulary_is_as_large_as_promised() -> None:
    categories = read_categories()
    assert 55 <= len(categories) <= 65
    assert len({category.name for category in categories}) == len(categories)
    assert {category.department for category in categories} == set(BRANDS)
    kinds = [synonyms for category in categories for synonyms in category.types]
    assert np.mean([len(synonyms) >= 2 for synonyms in kinds]) > 0.95
    brands = [brand for names in BRANDS.values() for brand in names.split()]
    assert len(set(brands)) == len(brands) == 12 * len(BRANDS)
    assert all(AGE_SLOTS % len(category.ages) == 0 for category in categories)


def test_every_attribute_is_one_that_its_category_sells(catalogue: Catalogue) -> None:
    for name in ATTRIBUTES:
        options = catalogue.assortment.options[name]
        values = catalogue.attributes[name]
        assert all(v < 0 or v in options[c] for c, v in zip(catalogue.category.tolist(), values.tolist(), strict=True))
        assert (values >= 0).any()
    start = catalogue.assortment.kind_start
    assert (catalogue.kind >= start[catalogue.category]).all()
    assert (catalogue.kind < start[catalogue.category + 1]).all()


def test_premium_brands_cost_more(catalogue: Catalogue) -> None:
    tier = catalogue.assortment.brand_tier()[catalogue.attributes["brand"]]
    low, middle, high = (float(catalogue.price_z[tier == level].mean()) for level in (-1, 0, 1))
    assert low < middle - 0.5 < high - 1.0


def test_share_of_new_products(catalogue: Catalogue) -> None:
    new = catalogue.launch_day >= 0
    assert abs(new.mean() - CONFIG.catalogue.launched_during) < 0.03
    assert catalogue.launch_day.max() < CONFIG.days
    assert np.isnan(catalogue.rating[new]).all()
    assert not np.isnan(catalogue.rating[catalogue.n_reviews > 0]).any()


def test_more_products_and_customers_leave_the_earlier_ones(catalogue: Catalogue, customers: Customers) -> None:
    more = CONFIG.model_copy(update={"products": 5000, "customers": 3500})
    larger = make_catalogue(more, read_assortment())
    more_customers = make_customers(more, larger)
    pairs = [
        *zip(
            product_tables(CONFIG, catalogue, make_titles(CONFIG, catalogue)),
            product_tables(more, larger, make_titles(more, larger)),
            strict=True,
        ),
        *zip(customer_tables(catalogue, customers), customer_tables(larger, more_customers), strict=True),
    ]
    for first, second in pairs:
        assert second.slice(0, first.num_rows).equals(first)


def test_titles_name_the_thing_and_only_true_attributes(catalogue: Catalogue) -> None:
    titles = make_titles(CONFIG, catalogue)
    assortment = catalogue.assortment
    used = dict.fromkeys(ATTRIBUTES, 0)
    synonyms = set()
    for product, title in enumerate(titles[:1500]):
        text = title.lower()
        assert "{" not in text
        nouns = [word for word in assortment.kinds[catalogue.kind[product]] if word in text]
        assert nouns
        synonyms.add((int(catalogue.kind[product]), nouns[0]))
        for name in ("brand", "material", "feature"):
            value = int(catalogue.attributes[name][product])
            if value >= 0:
                used[name] += attribute_words(assortment, name, value)[0].lower() in text
    assert len(synonyms) > 1.5 * len({kind for kind, _ in synonyms})
    # Brands stand in nearly every title, other attributes in about six of ten.
    assert used["brand"] > 1350
    assert 700 < used["feature"] < 1200


def test_offers_last_a_week_and_touch_one_product_in_eight() -> None:
    product = np.arange(20_000)
    monday = discount_share(CONFIG, product, np.full(20_000, 7))
    assert np.array_equal(monday, discount_share(CONFIG, product, np.full(20_000, 13)))
    assert not np.array_equal(monday, discount_share(CONFIG, product, np.full(20_000, 14)))
    assert abs((monday > 0).mean() - CONFIG.catalogue.discounted) < 0.01
    assert np.allclose(np.unique(monday), [0, 0.1, 0.2, 0.3])
    none = CONFIG.model_copy(update={"catalogue": CONFIG.catalogue.model_copy(update={"discounted": 0.0})})
    assert not discount_share(none, product, np.full(20_000, 7)).any()


def test_demographics_show_a_noisy_part_of_taste(customers: Customers) -> None:
    income = customers.shown["income_band"].to_pylist()
    known = [(INCOME_BANDS.index(band), i) for i, band in enumerate(income) if band is not None]
    assert abs(1 - len(known) / len(income) - CONFIG.traffic.demographics_missing) < 0.03
    bands, rows = np.array(known).T
    assert 0.3 < np.corrcoef(bands, customers.price_level[rows])[0, 1] < 0.75
    truly = [any(members) for members in customers.household[:, 1:].tolist()]
    shown = customers.shown["has_children"].to_pylist()
    agree = [(value == "yes") == has for value, has in zip(shown, truly, strict=True) if value is not None]
    assert 0.9 < np.mean(agree) < 0.99


def test_few_customers_are_very_active(customers: Customers) -> None:
    share = np.sort(customers.activity)[::-1].cumsum() / customers.activity.sum()
    assert share[len(share) // 10] > 0.4
    assert share[len(share) // 2] > 0.85


def test_favorites_are_distinct_and_of_their_department(catalogue: Catalogue, customers: Customers) -> None:
    favorites = np.sort(customers.favorite_categories, axis=1)
    assert (np.diff(favorites, axis=1) > 0).all()
    each = catalogue.assortment.n_brands_each
    assert (customers.favorite_brand // each == np.arange(len(catalogue.assortment.departments))).all()


def test_households_with_babies_prefer_baby_things(catalogue: Catalogue, customers: Customers) -> None:
    baby = catalogue.assortment.departments.index("Baby")
    likes = (catalogue.assortment.department[customers.favorite_categories] == baby).any(axis=1)
    has = customers.household[:, 3]
    assert likes[has].mean() > 4 * likes[~has].mean()


def test_streams_of_other_names_seeds_and_chunks_differ() -> None:
    draws = [stream(*key).random() for key in ((1, "a", 0), (1, "b", 0), (2, "a", 0), (1, "a", 1))]
    assert len(set(draws)) == 4
    assert stream(1, "a").random() == draws[0]


def test_hashed_draws_look_random_and_last() -> None:
    i, j = np.arange(400)[:, None], np.arange(300)
    uniform, normal = hashed_uniform(1, i, j), hashed_normal(1, i, j)
    assert uniform.shape == normal.shape == (400, 300)
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(uniform.std() - 12**-0.5) < 0.005
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert abs(np.corrcoef(uniform[:, 0], uniform[:, 1])[0, 1]) < 0.2
    assert hashed_uniform(1, 7, 9) == uniform[7, 9] != hashed_uniform(1, 9, 7)
    assert hashed_uniform(2, 7, 9) != uniform[7, 9]


@pytest.mark.parametrize(("draw", "option"), [(0.0, 0), (0.24, 0), (0.26, 2), (0.99, 2)])
def test_pick_never_takes_an_option_without_weight(draw: float, option: int) -> None:
    weights = np.array([1.0, 0.0, 3.0, 0.0])
    assert pick(np.array([draw]), weights)[0] == option
    assert pick_rows(np.array([draw]), weights[None])[0] == option
