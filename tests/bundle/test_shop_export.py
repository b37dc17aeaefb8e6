"""What a bundle keeps for the page about its shop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.feather as feather
import pytest

from shelfrank.bundle.export import ExportSettings, export
from shelfrank.bundle.spec import SHOP, SHOP_FACTS, SHOP_PRODUCTS
from shelfrank.bundle.store import BundleStore
from shelfrank.config import PrepareConfig
from shelfrank.prepare.pipeline import prepare
from shelfrank.rankers.run import train
from small_log import small_tables, write_small_log
from tiny import tiny


def anonymous(row: dict[str, Any]) -> None:
    row.update(customer_id=None)


def purchases_only(row: dict[str, Any]) -> None:
    row.update(click=None, add_to_cart=None)


@pytest.mark.parametrize("change", [anonymous, purchases_only])
def test_a_log_without_a_shopper_of_enough_clicks_has_a_page_without_shoppers(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    tables = small_tables(80)
    for row in tables["impressions"]:
        change(row)
    write_small_log(tmp_path / "log", tables)
    prepare(tmp_path / "log", tmp_path / "prepared", PrepareConfig())
    train(tmp_path / "prepared", "popularity", tiny("popularity"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=2, replayed=0))
    folder = BundleStore(tmp_path / "bundle").open().path
    facts = json.loads((folder / SHOP / SHOP_FACTS).read_text(encoding="utf-8"))
    assert facts["shoppers"] == []


def test_products_without_titles_are_shown_by_their_ids_and_found_by_their_categories(tmp_path: Path) -> None:
    tables = small_tables(80)
    for row in tables["products"]:
        row["title"] = None
    write_small_log(tmp_path / "log", tables)
    prepare(tmp_path / "log", tmp_path / "prepared", PrepareConfig())
    train(tmp_path / "prepared", "popularity", tiny("popularity"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle", ExportSettings(golden_pages=2, replayed=0))
    folder = BundleStore(tmp_path / "bundle").open().path
    products = feather.read_table(str(folder / SHOP / SHOP_PRODUCTS))
    assert products["title"].to_pylist() == products["product_id"].to_pylist()
    assert all(products["document"].to_pylist())
