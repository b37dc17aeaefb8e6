"""Logged searches, asked for over HTTP, get the scores that evaluation gives them."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
from serving import ready_client

from shelfrank.bundle.replay import logged_pages
from shelfrank.bundle.store import BundleStore
from shelfrank.logs.search_log import SearchLog
from shelfrank.rankers.run import Run
from shelfrank.serve.service import Service

N_PAGES = 25


def test_logged_searches_get_their_offline_scores(make_service: Callable[..., Service], shop_bundle: Path) -> None:
    run = Run.open(shop_bundle.parent / "run")
    prepared = run.prepared()
    test = prepared.split("test")
    chosen = np.arange(min(N_PAGES, test.n_searches))
    rows = test.searches(chosen)
    offline = np.asarray(run.ranker(prepared).score(run.select(rows)))
    pages = logged_pages(SearchLog.open(shop_bundle.parent / "log"), prepared, "test", chosen)
    online = []
    with ready_client(make_service(BundleStore(shop_bundle))) as client:
        for page in pages:
            moment = dt.datetime.fromtimestamp(page.ts_us // 1_000_000, dt.UTC) + dt.timedelta(
                microseconds=page.ts_us % 1_000_000
            )
            body = {
                "query": page.query,
                "customer_id": page.customer_id,
                "session_id": page.session_id,
                "timestamp": moment.isoformat(),
                "context": dict(page.context),
                "customer": dict(page.customer),
                "candidates": [
                    {"id": product, "features": dict(features)}
                    for product, features in zip(page.product_ids, page.products, strict=True)
                ],
            }
            answer = client.post("/v1/rank", json=body)
            assert answer.status_code == 200, answer.text
            results = sorted(answer.json()["results"], key=lambda result: result["index"])
            online.append([[result["tasks"][task] for task in test.tasks] for result in results])
    assert len(pages) == len(chosen) > 10
    np.testing.assert_allclose(np.concatenate(online), offline, rtol=1e-5, atol=1e-5)
    assert offline.std(axis=0).min() > 1e-3, "rows that all score alike would test nothing"
