"""Writes the search log of a simulated shop with its ground truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped

from shelfrank.core.progress import progress
from shelfrank.logs.writer import log_is_current, write_search_log
from shelfrank.simulator.assortment import read_assortment
from shelfrank.simulator.behaviour import Panel, act, chances, examination, lasting_taste
from shelfrank.simulator.catalogue import discount_share, make_catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.customers import make_customers
from shelfrank.simulator.fit import personal_fit, show
from shelfrank.simulator.queries import make_intents
from shelfrank.simulator.query_kinds import QueryKinds
from shelfrank.simulator.randomness import stream
from shelfrank.simulator.ranking import rank_pages
from shelfrank.simulator.retrieval import TextSearch
from shelfrank.simulator.tables import SCHEMA, customer_tables, make_ids, product_tables, search_table
from shelfrank.simulator.titles import make_titles
from shelfrank.simulator.visits import Visits, day_of, forms_of

SOURCE = {"source": "storefront", "version": 3}
"""Raise the version with every change that gives another log for the same configuration."""


TRUTH_COLUMNS = (
    "grade", "p_examine", "fit",
    "click_given_examined", "add_to_cart_given_examined", "purchase_given_examined",
    "click_average", "add_to_cart_average", "purchase_average",
)  # fmt: skip
"""Columns of `truth/impressions` besides the ids."""


class Storefront:
    """One simulated shop before its first search.

    Args:
        config: Its parameters.
    """

    def __init__(self, config: StorefrontConfig) -> None:
        self.config = config
        self.catalogue = make_catalogue(config, read_assortment())
        self.customers = make_customers(config, self.catalogue)
        self.intents = make_intents(config, self.catalogue)
        self.titles = make_titles(config, self.catalogue)
        self.visits = Visits(config, self.catalogue, self.customers, self.intents)
        self._engine = TextSearch(config, self.catalogue, self.titles, self.intents)
        self._panel = Panel(config, self.catalogue, self.customers, self.intents)

    def serve(self, searches: Shaped[np.ndarray, " searches"], chunk: int) -> dict[str, Shaped[np.ndarray, " rows"]]:
        """Shows a results page to each search and simulates the customers' actions.

        Args:
            searches: Rows of `visits.SEARCH`.
            chunk: The number of this chunk.

        Returns:
            One row per shown product, grouped by search and sorted by position: `search` (its index in the chunk),
            `product`, `position`, `discount`, the labels, and all `TRUTH_COLUMNS`.
        """
        config, catalogue, day = self.config, self.catalogue, day_of(searches)
        forms, rng = forms_of(searches), stream(config.seed, "ranking", chunk)
        search, product, position = rank_pages(config, catalogue, self._engine, forms, day, searches["device"], rng)
        of_row = searches[search]
        discount = discount_share(config, product, day[search])
        shown = show(catalogue, self.intents, product, of_row["intent"], day[search], discount)
        taste = lasting_taste(config, of_row["customer"], product)
        fit = personal_fit(config, catalogue, self.customers, self.intents, shown, of_row, taste)
        level = self.customers.price_level[of_row["customer"]]
        truth = chances(config, catalogue, shown, fit, of_row["eagerness"], level)
        average = self._panel.average(shown, of_row["category"])
        p_examine = examination(config, position, of_row["device"])
        return {
            "search": search,
            "product": product,
            "position": position,
            **act(truth, p_examine, stream(config.seed, "behaviour", chunk)),
            "discount": discount,
            "grade": shown.grade,
            "p_examine": p_examine,
            "fit": fit,
            **{f"{task}_given_examined": joint for task, joint in truth._asdict().items()},
            **{f"{task}_average": joint for task, joint in average._asdict().items()},
        }


def simulate(out: Path, config: StorefrontConfig) -> bool:
    """Writes the search log of a simulated shop.

    `truth/` holds the hidden truth. Sorting a page by `click_given_examined` gives the best possible order, by
    `click_average` the best order without personalization. Time is proportional to the number of searches; memory
    grows only with products, customers and intents.

    Args:
        out: The folder of the finished log.
        config: The shop.

    Returns:
        Whether the log was written; False if `out` already holds it.

    Raises:
        UserError: Where `out` holds files that are not ours, or no search found a product.
    """
    inputs: dict[str, Any] = {**SOURCE, "config": config.model_dump(mode="json")}
    if log_is_current(out, inputs):
        return False
    with (
        write_search_log(out, SCHEMA, inputs) as writer,
        progress("Simulating", config.searches, "searches") as advance,
    ):
        shop = Storefront(config)
        tables = {
            "products": product_tables(config, shop.catalogue, shop.titles),
            "customers": customer_tables(shop.catalogue, shop.customers),
        }
        for name, (listed, truth) in tables.items():
            writer.write(name, listed)
            writer.write(f"truth/{name}", truth)
        product_ids = make_ids("p", np.arange(config.products))
        query_kinds = QueryKinds(shop.catalogue, shop.titles, shop.intents)
        n_searches = 0
        for chunk, searches in enumerate(shop.visits.chunks()):
            rows = shop.serve(searches, chunk)
            of_search = search_table(config, shop.intents, searches, n_searches)
            shared = of_search.take(pa.array(rows["search"]))
            ids = {
                "search_id": shared["search_id"],
                "product_id": product_ids.take(pa.array(rows["product"])),
            }
            logged = {
                name: pa.array(rows[name]) for name in ("position", "click", "add_to_cart", "purchase", "discount")
            }
            columns = dict(zip(shared.column_names, shared.columns, strict=True)) | ids | logged
            writer.write("impressions", pa.table(columns))
            writer.write("truth/impressions", pa.table(ids | {name: pa.array(rows[name]) for name in TRUTH_COLUMNS}))
            kinds = query_kinds.classify(searches, rows["search"], rows["product"])
            shown = np.unique(rows["search"])
            writer.write("truth/searches", pa.table({"search_id": of_search["search_id"], **kinds}).take(shown))
            writer.leave_out("searches that found no product", len(searches) - len(shown))
            n_searches += len(searches)
            advance(len(searches))
        writer.notes.update(truth="known: truth/ holds relevance, examination, fit and the best possible orders")
    return True
