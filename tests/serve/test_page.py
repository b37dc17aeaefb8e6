"""The page as people use it, in a browser.

SHELFRANK_SHOTS=docs/images SHELFRANK_SHOP=demo/bundle pytest -n 0 tests/serve/test_page.py -k pictures
takes the pictures that the README shows.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import HOSTILE_QUERY, HOSTILE_TITLES, served

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the page; pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed; apt-get install chromium"),
    # The browser's driver leaves the loop of its own thread open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WIDE, PHONE = {"width": 1280, "height": 1000}, {"width": 360, "height": 780}
CARDS = "#{} > li"


@pytest.fixture(scope="module")
def address(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bundle = Path(os.environ.get("SHELFRANK_SHOP", shop_bundle))
    with served(bundle, "--state", str(tmp_path_factory.mktemp("events"))) as (_, found):
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a wide screen; whatever it complains of, such as a broken security policy, fails the test."""
    complaints: list[str] = []
    opened = browser.new_page(viewport=WIDE)
    opened.set_default_timeout(20_000)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield opened
    title = opened.title()
    opened.close()
    assert complaints == []
    assert title == "shelfrank: one query, two orders"


def ids(page: Any, column: str) -> list[str]:
    return page.locator(CARDS.format(column)).evaluate_all("cards => cards.map(card => card.dataset.id)")


def wait_for_answer(page: Any, do: Any) -> dict[str, Any]:
    with page.expect_response(lambda response: response.url.endswith("/v1/shop/search")) as answered:
        do()
    found = answered.value.json()
    page.wait_for_function(
        "ids => [...document.querySelectorAll('#personalized > li')].map(c => c.dataset.id).join() == ids",
        arg=",".join(found["personalized"]),
    )
    return found


def start(page: Any, address: str, query: str = "sofa", customer: str = "c03") -> dict[str, Any]:
    return wait_for_answer(page, lambda: page.goto(f"{address}/#q={query}&c={customer}"))


def test_typing_suggests_and_enter_searches(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#shopper option:nth-child(3)", state="attached")
    field = page.get_by_role("combobox", name="Search for")
    field.press_sequentially("so")
    option = page.get_by_role("option", name="sofa", exact=True)
    option.wait_for()
    assert field.get_attribute("aria-expanded") == "true"
    field.press("ArrowDown")
    assert option.get_attribute("aria-selected") == "true"
    assert field.get_attribute("aria-activedescendant") == option.get_attribute("id")
    found = wait_for_answer(page, lambda: field.press("Enter"))
    assert field.input_value() == "sofa"
    assert field.get_attribute("aria-expanded") == "false"
    assert ids(page, "neutral") == found["neutral"]
    assert ids(page, "personalized") == found["personalized"]
    field.fill("so")
    option.wait_for()
    field.press("Escape")
    assert page.locator("#suggestions").is_hidden()


def test_another_shopper_is_another_order(page: Any, address: str) -> None:
    first = start(page, address)
    words = page.locator("#who-words").inner_text()
    neutral, orders = ids(page, "neutral"), {tuple(ids(page, "personalized"))}
    for customer in ("c01", "c05", "c10"):
        found = wait_for_answer(page, lambda customer=customer: page.select_option("#shopper", customer))
        assert ids(page, "neutral") == neutral
        orders.add(tuple(ids(page, "personalized")))
        k = round(found["personalization_degree"] * 10)
        assert page.locator("#degree").inner_text() == f"{found['personalization_degree']:.2f}"
        assert page.locator(".dot.stays").count() == k
        assert len(set(found["neutral"][:10]) & set(found["personalized"][:10])) == k
    assert len(orders) > 1
    assert re.search(r"\d+ search", words)
    assert page.locator("#who-words").inner_text() != words
    assert "c=c10" in page.url
    assert first["candidates"] > 10


def test_moves_are_drawn_from_place_to_place(page: Any, address: str) -> None:
    found = start(page, address)
    assert {path.get_attribute("data-id") for path in page.locator("#moves path").all()} == set(found["products"])
    for product in found["personalized"]:
        places = found["products"][product]
        moved = places["neutral"]["rank"] - places["personalized"]["rank"]
        told = page.locator(f'#personalized > li[data-id="{product}"] .badge').inner_text()
        is_new = places["neutral"]["rank"] > 20
        assert told == (
            f"▲ from {places['neutral']['rank']}"
            if is_new
            else f"{'▲' if moved > 0 else '▼'} {abs(moved)}"
            if moved
            else "="
        )
    page.locator("#personalized > li").first.hover()
    assert page.locator("#moves path.lit").count() == 1


def test_sliders_rank_again_at_once(page: Any, address: str) -> None:
    start(page, address)
    for task in ("click", "add_to_cart"):
        found = wait_for_answer(page, lambda task=task: page.locator(f"#weight-{task}").fill("0"))
    assert page.locator("#share-purchase").inner_text() == "100 %"
    bought = [found["products"][product]["personalized"]["tasks"]["purchase"] for product in ids(page, "personalized")]
    assert bought == sorted(bought, reverse=True)
    page.locator("#weight-purchase").fill("0")
    page.get_by_text("At least one weight must be above 0").wait_for()
    found = wait_for_answer(page, lambda: page.get_by_role("button", name="As trained").click())
    assert page.locator("#notice").is_hidden()
    assert len({round(weight, 6) for weight in found["task_weights"].values()}) == 1


def test_a_slider_moves_by_keys(page: Any, address: str) -> None:
    start(page, address)
    slider = page.get_by_role("slider", name="purchase")
    before = float(slider.input_value())
    slider.focus()
    wait_for_answer(page, lambda: slider.press("ArrowRight"))
    assert float(slider.input_value()) == before + 1


def test_a_place_is_explained_by_keyboard(page: Any, address: str) -> None:
    start(page, address)
    title = page.locator("#personalized > li .title").first
    title.focus()
    title.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.locator(".signed li").first.wait_for()
    assert dialog.get_by_text("Contribution by group").is_visible()
    assert re.search(r"Rank 1 for c03, \d+ for a neutral customer, \d+ by retrieval alone", dialog.inner_text())
    for row in dialog.locator(".gates tbody tr").all():
        assert sum(int(cell.inner_text()) for cell in row.locator("td").all()) == pytest.approx(100, abs=3)
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert title.evaluate("title => title === document.activeElement")


def test_what_a_shopper_does_ranks_the_page_again(page: Any, address: str) -> None:
    before = start(page, address, customer="c07")
    product = before["personalized"][3]
    page.locator(f'#personalized > li[data-id="{product}"] .title').click()
    after = wait_for_answer(page, lambda: page.get_by_role("button", name="Buy").click())
    tasks = [each["products"][product]["personalized"]["tasks"] for each in (before, after)]
    assert tasks[0] != tasks[1]
    assert page.get_by_role("dialog").is_hidden()


def test_hostile_texts_are_shown_as_texts(page: Any, address: str) -> None:
    found = start(page, address)
    shown = page.locator("#personalized .title").evaluate_all("all => all.map(each => each.firstChild.data)")
    titles = [found["products"][product]["title"] for product in found["personalized"]]
    assert sum("<" in title for title in titles) >= 3
    assert shown == titles
    assert page.locator("#results script, #results img, #results svg svg").count() == 0
    for product in found["personalized"]:
        if "<" in found["products"][product]["title"]:
            page.locator(f'#personalized > li[data-id="{product}"] .title').click()
            page.locator(".why .signed li").first.wait_for()
            page.keyboard.press("Escape")
    page.goto(address)
    field = page.get_by_role("combobox", name="Search for")
    for text in (HOSTILE_QUERY, *HOSTILE_TITLES):
        field.fill(text[:512])
        wait_for_answer(page, lambda: field.press("Enter"))
    field.fill("<img")
    page.get_by_role("option").first.wait_for()
    wait_for_answer(page, lambda: page.get_by_role("option").first.click())
    assert field.input_value() == HOSTILE_QUERY


def test_a_query_without_results_is_answered(page: Any, address: str) -> None:
    start(page, address, query="zzzzzz")
    page.get_by_text("No products match “zzzzzz”.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_one_order_at_a_time(page: Any, address: str, scheme: str) -> None:
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    start(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("#personalized").is_visible()
    assert page.locator("#neutral").is_hidden()
    page.get_by_role("button", name="Neutral").click()
    assert page.locator("#neutral").is_visible()
    assert page.locator("#personalized").is_hidden()
    # A title takes its whole card.
    for button in page.locator("button:not(.title):visible, select:visible, input:visible").all():
        assert button.bounding_box()["height"] >= 24


def test_everything_to_use_has_a_name(page: Any, address: str) -> None:
    start(page, address)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, [role]')].filter(each =>
            each.checkVisibility() && !each.labels?.length && !each.ariaLabel && !each.textContent.trim()
            && !each.getAttribute('aria-labelledby')).map(each => each.outerHTML)"""
    )
    assert [each for each in nameless if 'role="status"' not in each and 'role="search"' not in each] == []
    assert page.evaluate("document.documentElement.lang") == "en"


def test_it_loads_nothing_from_elsewhere(page: Any, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    start(page, address)
    assert len(asked) > 4
    assert all(url.startswith(address) for url in asked)


def test_a_service_that_is_gone_is_reported(browser: Any, address: str) -> None:
    page = browser.new_page(viewport=WIDE)
    start(page, address)
    page.route("**/v1/shop/search", lambda route: route.abort())
    page.select_option("#shopper", "c05")
    page.get_by_text("The service does not respond").wait_for()
    page.close()


def test_a_key_is_asked_for(browser: Any, shop_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("open sesame\n", encoding="utf-8")
    with served(shop_bundle, "--api-key-file", str(tmp_path / "keys")) as (_, address):
        page = browser.new_page(viewport=WIDE)
        page.goto(f"{address}/#q=sofa")
        page.get_by_label("API key of this service").fill("open sesame")
        wait_for_answer(page, lambda: page.get_by_role("button", name="Use key").click())
        assert page.locator("#key").is_hidden()
        page.close()


def test_pictures(browser: Any, address: str, tmp_path: Path) -> None:
    out = Path(os.environ.get("SHELFRANK_SHOTS", tmp_path))
    query = os.environ.get("SHELFRANK_QUERY", "sofa")
    page = browser.new_page(viewport={"width": 1280, "height": 1060})
    page.goto(address)
    page.wait_for_selector("#shopper option:nth-child(3)", state="attached")
    options = page.locator("#shopper option").evaluate_all("all => all.map(each => each.value)")
    start(page, address, query, os.environ.get("SHELFRANK_SHOPPER", options[len(options) // 3]))
    page.wait_for_timeout(400)
    page.screenshot(path=out / "page.png")
    page.locator("#personalized > li .title").first.click()
    page.locator(".signed li").first.wait_for()
    page.wait_for_timeout(400)
    page.screenshot(path=out / "page_why.png")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.locator("#personalized > li").first.wait_for()
    page.wait_for_timeout(400)
    page.screenshot(path=out / "page_phone.png")
    page.close()
    for name in ("page", "page_why", "page_phone"):
        assert (out / f"{name}.png").stat().st_size > 20_000, "a picture of nothing is small"
