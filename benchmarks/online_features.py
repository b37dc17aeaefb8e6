"""Times the features of a page at its search's time: a simulated shop, prepared, its tables mapped, one core.

Pages hold some of the catalogue's products, drawn at random, which is harder than a real page: more of the pairs are
told apart by their words. Embeddings are random. Seconds are the processor's.

    python benchmarks/online_features.py
    python benchmarks/online_features.py --searches 45000 --products 12000 --folder shop
"""

import argparse
import cProfile
import os
import pstats
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

# Before NumPy starts threads: the figures are for one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shelfrank.config import PrepareConfig
from shelfrank.core.artifact import publish
from shelfrank.features.build_store import build_store
from shelfrank.features.request import Event, PageRequest
from shelfrank.features.store import FeatureStore
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.pipeline import prepare
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.simulate import simulate
from shelfrank.text import scores

D_EMBEDDING = 384


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        if not (folder / "store").is_dir():
            if folder.is_dir() and any(folder.iterdir()):
                raise SystemExit(f"{folder} must be new or hold this benchmark's shop, but it holds something else")
            make(folder, args)
        measure(folder, args)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=2_000)
    parser.add_argument("--products", type=int, default=2_000)
    parser.add_argument("--customers", type=int, default=500)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the shop is kept between runs")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def make(folder: Path, args: argparse.Namespace) -> None:
    shop = StorefrontConfig(searches=args.searches, products=args.products, customers=args.customers)
    simulate(folder / "log", shop)
    write_random_scores(folder / "scores", folder / "log")
    config = PrepareConfig(upstream_order=True, semantic_scores=str(folder / "scores"))
    prepare(folder / "log", folder / "prepared", config)
    started = time.process_time()
    build_store(folder / "log", folder / "prepared", folder / "store", folder / "scores")
    print(f"tables written in {time.process_time() - started:.1f} s")


def write_random_scores(out: Path, log_path: Path) -> None:
    log, rng = SearchLog.open(log_path), np.random.default_rng(0)
    queries = sorted({query for file in log.files("impressions") for query in column(file, "query")})
    ids = sorted({product for file in log.files("products") for product in column(file, "product_id")})
    with publish(out, scores.KIND, {"log": log.manifest.fingerprint, "tuned_on": None}) as draft:
        pq.write_table(pa.table({"query": queries}), draft.path / scores.QUERIES)
        pq.write_table(pa.table({"product_id": ids}), draft.path / scores.PRODUCTS)
        for name, some in ((scores.QUERY_EMBEDDINGS, queries), (scores.PRODUCT_EMBEDDINGS, ids)):
            np.save(draft.path / name, rng.normal(size=(len(some), D_EMBEDDING)).astype(np.float16))


def column(file: str, name: str) -> list[str]:
    return pq.read_table(file, columns=[name])[name].to_pylist()


def measure(folder: Path, args: argparse.Namespace) -> None:
    before_mb, started = memory_mb(), time.process_time()
    store = FeatureStore.open(folder / "store")
    print(f"opened in {time.process_time() - started:.2f} s, {memory_mb() - before_mb:.0f} MB more memory")
    n_bytes = sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
    widths = f"{len(store.numerical_columns)} numbers, {len(store.categorical_columns)} codes"
    print(f"{n_bytes / 1e6:.0f} MB on disk; {widths}")
    log, rng = SearchLog.open(folder / "log"), np.random.default_rng(1)
    rows = pq.read_table(log.files("impressions")[-1]).to_pylist()
    ids = [product for file in log.files("products") for product in column(file, "product_id")]
    latest = [
        asked(rows[-1 - int(at)], rng.choice(ids, args.candidates, replace=False).tolist(), store.until_us + 1_000_000)
        for at in rng.integers(0, min(len(rows), 20_000), args.pages)
    ]
    past = [asked(rows[at], page.product_ids, at_us(rows[at])) for at, page in enumerate(latest)]
    report(f"the log's last moment, {args.candidates} products, queries as they come", store, latest, args.profile)
    report("the same again, queries remembered", store, latest)
    report("a moment within the log", store, past)
    words = [f"{page.query} {number}" for number, page in enumerate(latest)]
    new = [
        asked({**rows[0], "query": query}, page.product_ids, page.ts_us)
        for query, page in zip(words, latest, strict=True)
    ]
    report("queries that the log has not", store, new)
    events = [event for page in latest for event in shown(page)]
    started = time.process_time()
    store.add_events(events)
    print(f"{len(events):,} events added, {(time.process_time() - started) / len(events) * 1e6:.0f} us each")
    later = [asked({**vars(page)}, page.product_ids, page.ts_us + 60_000_000) for page in latest]
    report("every product and pair with recent events", store, later)


def asked(row: dict[str, object], product_ids: Sequence[str], ts_us: int) -> PageRequest:
    return PageRequest(
        query=str(row["query"]),
        product_ids=product_ids,
        customer_id=row["customer_id"],  # pyright: ignore[reportArgumentType]
        session_id=row.get("session_id"),  # pyright: ignore[reportArgumentType]
        ts_us=ts_us,
        context={"device": "phone"},
    )


def at_us(row: dict[str, object]) -> int:
    return int(row["timestamp"].timestamp() * 1e6)  # pyright: ignore[reportAttributeAccessIssue]


def shown(page: PageRequest) -> list[Event]:
    return [
        Event(
            product_id=product,
            action="click" if place % 10 == 0 else "impression",
            ts_us=page.ts_us + 1,
            customer_id=page.customer_id,
            session_id=page.session_id,
            query=page.query,
            position=place,
        )
        for place, product in enumerate(page.product_ids, start=1)
    ]


def report(title: str, store: FeatureStore, pages: list[PageRequest], profile: bool = False) -> None:
    profiler = cProfile.Profile()
    seconds = []
    for page in pages:
        started = time.process_time()
        if profile:
            profiler.runcall(store.page, page)
        else:
            store.page(page)
        seconds.append(time.process_time() - started)
    p50, p99 = np.percentile(np.array(seconds) * 1000, [50, 99])
    print(f"{title}: median {p50:.2f} ms, p99 {p99:.2f} ms")
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
