# %% [markdown]
# # From a search log to a ranked page
# A shop is simulated, two rankers and the shown order are compared on it, and the winner ranks a page.
# Every step is kept in a folder: run a cell again, and a finished step is skipped.

# %%
import os
from pathlib import Path

import shelfrank as sr

OUT = Path(os.environ.get("QUICKSTART_OUT", "quickstart"))
SEARCHES = int(os.environ.get("QUICKSTART_SEARCHES", "3000"))

# %% [markdown]
# ## The log
# Your own data comes in with `sr.SearchLog.from_frames(impressions=..., products=..., out=...)`, which takes pandas,
# Polars and Arrow tables, or with `sr.import_log("custom", "mapping.yaml", out=...)`.

# %%
log = sr.simulate(out=OUT / "log", searches=SEARCHES, products=1000, customers=500)
sr.validate(log)

# %% [markdown]
# ## Features and labels
# Historical features are point in time: they see only what happened before each search.

# %%
data = sr.prepare(log, out=OUT / "prepared", history={"windows_days": [1, 7]})
data.info["features"]

# %% [markdown]
# ## Train and evaluate

# %%
SETTINGS = {
    "shown_order": {},
    "lambdamart": {"lambdamart": {"n_rounds": 50}},
    "mmoe": {"train": {"epochs": 2}},
}
runs = {
    name: sr.train(data, ranker=name, out=OUT / "runs" / name, seed=0, **settings)
    for name, settings in SETTINGS.items()
}
evaluations = [sr.evaluate(run, out=OUT / "evaluations" / name) for name, run in runs.items()]

# %% [markdown]
# ## Compare
# Every difference is paired: the same searches, the same resamples.

# %%
comparison = sr.compare(evaluations, out=OUT / "comparison", baseline="shown_order")
comparison

# %%
table = comparison.table()
table[(table["metric"] == "mrr") & (table["k"] == 10)]

# %% [markdown]
# Each search's own figures show where a ranker gains, here by the length of the page.

# %%
searches = comparison.per_search()
searches["long_page"] = searches["n_products"] > searches["n_products"].median()
searches.groupby(["ranker", "long_page"])["mrr@10_click"].mean()

# %% [markdown]
# ## Rank a page
# A bundle stands alone: it needs neither the log nor the prepared data.

# %%
bundle = sr.export(runs["lambdamart"], out=OUT / "bundle", int8=False, replayed=50)
shown = searches.iloc[-1]
explained = sr.explain(runs["lambdamart"], search=shown["search_id"], top=5)
page = bundle.rank(
    query=shown["query"],
    candidates=[product.product_id for product in explained.products],
    customer=shown["customer_id"],
)
for product in page.results:
    print(product.rank, product.id, product.score)
