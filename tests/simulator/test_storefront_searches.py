from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from shelfrank.simulator import Storefront, StorefrontConfig, visits
from shelfrank.simulator.assortment import ATTRIBUTES
from shelfrank.simulator.queries import N_CLEAN, N_WORDINGS
from shelfrank.simulator.ranking import rank_pages
from shelfrank.simulator.retrieval import TextSearch, words_of
from shelfrank.simulator.titles import attribute_words
from shelfrank.simulator.visits import DAY_S, MAX_SEARCHES_PER_VISIT, PHONE, day_of

CONFIG = StorefrontConfig.model_validate(
    {"searches": 6000, "products": 3000, "customers": 500, "days": 30, "queries": {"intents": 3000}}
)


@pytest.fixture(scope="module")
def shop() -> Storefront:
    return Storefront(CONFIG)


@pytest.fixture(scope="module")
def searches(shop: Storefront) -> np.ndarray:
    return np.concatenate(list(shop.visits.chunks()))


@pytest.fixture(scope="module")
def engine(shop: Storefront) -> TextSearch:
    return TextSearch(CONFIG, shop.catalogue, shop.titles, shop.intents)


def forms_of(searches: np.ndarray) -> np.ndarray:
    return searches["intent"] * N_WORDINGS + searches["wording"]


def test_chunks_follow_one_another_in_time_and_number(shop: Storefront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "CHUNK_SEARCHES", 30)
    chunks = list(shop.visits.chunks())
    assert len(chunks) == 200
    rows = np.concatenate(chunks)
    assert len(rows) == CONFIG.searches
    assert (np.diff(rows["second"]) >= 0).all()
    assert rows["second"].min() >= 0
    assert rows["second"].max() < CONFIG.days * DAY_S
    spans = rows["second"][np.unique(rows["visit"], return_index=True)[1]]
    assert (np.diff(spans) >= 0).all()
    # Some visit runs on from one chunk into the next.
    assert any(np.intersect1d(a["visit"], b["visit"]).size for a, b in pairwise(chunks))


def test_a_visit_is_one_customer_with_related_searches(shop: Storefront, searches: np.ndarray) -> None:
    rows = searches[np.argsort(searches["visit"], kind="stable")]
    lengths = np.bincount(rows["visit"])
    assert lengths.max() <= MAX_SEARCHES_PER_VISIT
    assert abs(lengths[lengths > 0].mean() - CONFIG.traffic.mean_searches) < 0.1
    later = np.flatnonzero(np.diff(rows["visit"]) == 0) + 1
    for name in ("customer", "device", "anonymous", "eagerness"):
        assert (rows[name][later] == rows[name][later - 1]).all()
    pause = rows["second"][later] - rows["second"][later - 1]
    assert pause.min() >= visits.MIN_PAUSE_S
    stays = (rows["category"][later] == rows["category"][later - 1]).mean()
    assert 1 - CONFIG.traffic.other_category <= stays + 0.03 < 1
    department = shop.catalogue.assortment.department
    assert (department[rows["category"][later]] == department[rows["category"][later - 1]]).all()


def test_customers_come_back_for_what_they_like(searches: np.ndarray) -> None:
    first = searches[np.unique(searches["visit"], return_index=True)[1]]
    rows = first[np.argsort(first["customer"], kind="stable")]
    again = np.flatnonzero(np.diff(rows["customer"]) == 0) + 1
    assert len(again) > 2000
    same = (rows["category"][again] == rows["category"][again - 1]).mean()
    by_chance = (np.bincount(rows["category"]) / len(rows)) ** 2
    assert same > 3 * by_chance.sum()


def test_queries_speak_of_their_category(shop: Storefront, searches: np.ndarray) -> None:
    assert (shop.intents.category[searches["intent"]] == searches["category"]).all()
    kind = shop.intents.kind
    named = kind >= 0
    assert (shop.catalogue.assortment.kind_category[kind[named]] == shop.intents.category[named]).all()


def test_head_and_tail_of_queries(shop: Storefront, searches: np.ndarray) -> None:
    counts = Counter(shop.intents.texts[form] for form in forms_of(searches))
    assert counts.most_common(1)[0][1] > 20
    assert sum(n == 1 for n in counts.values()) > 0.25 * len(counts)


def test_typos_have_their_share_and_look_alike(shop: Storefront, searches: np.ndarray) -> None:
    assert abs((searches["wording"] >= N_CLEAN).mean() - CONFIG.queries.typo) < 0.015
    texts, assortment = shop.intents.texts, shop.catalogue.assortment
    spoken = [text for i, text in enumerate(texts) if i % N_WORDINGS < N_CLEAN]
    spoken += [word for synonyms in assortment.kinds for noun in synonyms for word in (noun, f"{noun}s")]
    for name in ATTRIBUTES:
        for value in range(len(assortment.values[name])):
            spoken += [word.lower() for word in attribute_words(assortment, name, value)]
    vocabulary = {word for text in spoken for word in text.split()}
    wrong = [text for i, text in enumerate(texts) if i % N_WORDINGS >= N_CLEAN]
    unknown = [[word for word in text.split() if word not in vocabulary] for text in wrong]
    # A slip now and then gives another real word.
    assert np.mean([len(words) == 1 for words in unknown]) > 0.9
    assert all(len(words) <= 1 for words in unknown)


def test_synonyms_are_used_for_one_need(shop: Storefront) -> None:
    texts, several = shop.intents.texts, 0
    for intent, kind in enumerate(shop.intents.kind.tolist()):
        if kind >= 0:
            wordings = texts[intent * N_WORDINGS : intent * N_WORDINGS + N_CLEAN]
            synonyms = shop.catalogue.assortment.kinds[kind]
            used = {max((word for word in synonyms if word in text), key=len) for text in wordings}
            several += len(used) > 1
    assert several > 0.3 * np.sum(shop.intents.kind >= 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Sneakers", ["sneaker"]),
        ("kid's Dresses", ["kid", "dress"]),
        ("Glass, (2 person) Boxes", ["glass", "2", "person", "box"]),
        ("", []),
    ],
)
def test_words_lose_their_plural(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_found_products_match_in_some_word_or_type(shop: Storefront, searches: np.ndarray, engine: TextSearch) -> None:
    forms = np.unique(forms_of(searches))[:400]
    products, matches = engine.find(forms)
    assert products.shape == matches.shape == (400, 3 * CONFIG.candidates)
    for form, row, match in zip(forms.tolist(), products, matches, strict=True):
        products = row[row >= 0]
        assert len(set(products.tolist())) == len(products)
        assert ((match[row >= 0] >= 0.25) & (match[row >= 0] <= 1)).all()
        assert (match[row < 0] == 0).all()
        if form % N_WORDINGS < N_CLEAN:
            words = set(words_of(shop.intents.texts[form]))
            kind = int(shop.intents.kind[form // N_WORDINGS])
            category = int(shop.intents.category[form // N_WORDINGS])
            for product in products.tolist():
                own = shop.catalogue.assortment.categories[shop.catalogue.category[product]].name
                classified = kind >= 0 and shop.catalogue.category[product] == category
                assert classified or words & set(words_of(f"{shop.titles[product]} {own}"))


def test_the_results_of_a_wording_do_not_depend_on_earlier_searches(shop: Storefront, engine: TextSearch) -> None:
    form = np.array([37], dtype=np.int32)
    engine.find(np.arange(30, 60, dtype=np.int32))
    fresh = TextSearch(CONFIG, shop.catalogue, shop.titles, shop.intents).find(form)
    for known, new in zip(engine.find(form), fresh, strict=True):
        assert np.array_equal(known, new)


def test_matching_is_imperfect(shop: Storefront, engine: TextSearch) -> None:
    """Where the engine does not recognise the type, synonyms hide most of the right products."""
    clean = np.arange(0, len(shop.intents.texts), N_WORDINGS, dtype=np.int32)
    broad = clean[(shop.intents.kind >= 0) & (shop.intents.n_stated == 0)]
    products, _ = engine.find(broad)
    right = [
        np.mean(shop.catalogue.kind[row[row >= 0]] == shop.intents.kind[form // N_WORDINGS])
        for form, row in zip(broad.tolist(), products, strict=True)
        if (row >= 0).any()
    ]
    assert len(right) > 50
    assert 0.3 < np.mean(right) < 0.95
    assert np.std(right) > 0.1


def test_pages_hold_launched_products_in_positions_from_one(
    shop: Storefront, searches: np.ndarray, engine: TextSearch
) -> None:
    rows, day = searches[:2000], day_of(searches[:2000])
    forms = forms_of(rows)
    search, product, position = rank_pages(
        CONFIG, shop.catalogue, engine, forms, day, rows["device"], np.random.default_rng(1)
    )
    assert (np.diff(search) >= 0).all()
    sizes = np.bincount(search, minlength=2000)
    assert np.array_equal(position, np.concatenate([np.arange(1, n + 1) for n in sizes]))
    assert sizes.max() == CONFIG.candidates
    assert (shop.catalogue.launch_day[product] <= day[search]).all()
    assert sizes[rows["device"] == PHONE].mean() < sizes[rows["device"] != PHONE].mean()
    # The noise of a request reorders the same query's page.
    again = rank_pages(CONFIG, shop.catalogue, engine, forms, day, rows["device"], np.random.default_rng(2))
    assert not np.array_equal(product[position == 1], again[1][again[2] == 1])


def test_order_without_noise_or_other_wishes_is_the_text_match(
    shop: Storefront, searches: np.ndarray, engine: TextSearch
) -> None:
    only_text = {"popularity": 0.0, "rating": 0.0, "merchandising": 0.0, "randomisation": 0.0}
    config = CONFIG.model_copy(update={"ranking": CONFIG.ranking.model_copy(update=only_text)})
    forms = forms_of(searches[:300])
    never = np.full(300, 10_000, dtype=np.int32)
    device = searches["device"][:300]
    search, product, _ = rank_pages(config, shop.catalogue, engine, forms, never, device, np.random.default_rng(1))
    products, matches = engine.find(forms)
    for place in range(300):
        shown = product[search == place]
        match = dict(zip(products[place].tolist(), matches[place].tolist(), strict=True))
        values = [match[p] for p in shown.tolist()]
        assert values == sorted(values, reverse=True)
        assert not values or values[0] == matches[place].max()
