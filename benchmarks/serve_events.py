"""Starts a service on a journal of millions of events, and sends it thousands in three orders beside pages.

Prints the time until it is ready, its memory, and for each order how long pages were degraded without a break.
"""

import argparse
import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shelfrank.bundle.store import BundleStore
from shelfrank.core.errors import UserError
from shelfrank.features.request import Event
from shelfrank.features.store import MAX_RECENT
from shelfrank.serve.journal import COLUMNS, Journal

BATCH = 1_000
PAGE_ROWS = 50
PATIENCE_S = 600.0
AFTER_S = 10.0
FAR_AHEAD_MS = 4_070_908_800_000
N_FAR_AHEAD = 4_000


def made_events(samples: dict[str, list[str]], n: int, seed: int = 1) -> Iterator[Event]:
    """Makes pages of 20 impressions, of which some are clicked and put into the cart, one page a second until now."""
    rng = random.Random(seed)
    now_us = time.time_ns() // 1000
    n_pages = n // 22 + 1
    for page in range(n_pages):
        about: dict[str, Any] = {
            "ts_us": now_us - (n_pages - page) * 1_000_000,
            "customer_id": rng.choice(samples["customers"]),
            "session_id": f"s{page // 3}",
            "query": rng.choice(samples["queries"]),
            "search_id": f"old{page}",
        }
        products = rng.sample(samples["products"], 20)
        for place, product in enumerate(products, start=1):
            yield Event(product_id=product, action="impression", position=place, **about)
        clicked = rng.choice(products)
        yield Event(product_id=clicked, action="click", **about)
        yield Event(product_id=clicked, action="add_to_cart", **about)


def fill(state: Path, samples: dict[str, list[str]], n: int) -> None:
    """Writes a journal of some events; those that no service reads at its start repeat the newest ones."""
    journal = Journal(state, max_events=n, max_age_days=10_000)
    newest = list(itertools.islice(made_events(samples, min(n, MAX_RECENT)), min(n, MAX_RECENT)))
    journal.append(newest)
    names = ", ".join(COLUMNS)
    with contextlib.closing(journal.connect()) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for n_before in range(len(newest), n, len(newest)):
            repeat = f"INSERT INTO events (accepted_us, {names}) SELECT accepted_us, {names} FROM events LIMIT ?"
            connection.execute(repeat, (min(n - n_before, len(newest)),))
    journal.close()


@contextlib.contextmanager
def running(bundle: Path, state: Path, cores: str | None) -> Iterator[tuple[int, str, float]]:
    """Runs a service: its process, its address and the seconds until it was ready."""
    command = [sys.executable, "-m", "shelfrank", "serve", str(bundle), "--port", "0", "--no-page"]
    command = [*(["taskset", "-c", cores] if cores else []), *command, "--state", str(state)]
    started_s = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        address = None
        for line in process.stderr:
            found = re.search(r"http://127\S+", line)
            if found:
                address = found[0]
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        while address is not None and time.monotonic() - started_s < PATIENCE_S:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/readyz", timeout=5).close()
                break
            time.sleep(0.05)
        if address is None or process.poll() is not None:
            raise UserError(f"the service on {bundle} must start, but it ends; start it by hand to see why")
        yield process.pid, address, time.monotonic() - started_s
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def memory_mb(pid: int) -> dict[str, float]:
    """The memory of a process now, and the most that it was."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    named = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"now": int(named["VmRSS"]) * 1024 / 1e6, "most": int(named["VmHWM"]) * 1024 / 1e6}


def processor_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Posts JSON and reads the answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def one_hot_key(samples: dict[str, list[str]], name: str, times_ms: list[int]) -> list[dict[str, Any]]:
    """Clicks of one customer on one product after one query, the hardest case of a series."""
    return [
        {
            "action_name": "click",
            "timestamp": ts_ms,
            "query_id": f"{name}{number}",
            "user_id": samples["customers"][0],
            "user_query": samples["queries"][0],
            "event_attributes": {"object": {"object_id": samples["products"][0]}},
        }
        for number, ts_ms in enumerate(times_ms)
    ]


def under_events(address: str, samples: dict[str, list[str]], events: list[dict[str, Any]]) -> dict[str, Any]:
    """Sends events while pages are asked for one after the other."""
    page: dict[str, Any] = {"query": samples["queries"][0], "customer_id": samples["customers"][0]}
    page["candidates"] = samples["products"][:PAGE_ROWS]
    spans: list[tuple[float, float, bool]] = []
    ends = threading.Event()

    def ask() -> None:
        while not ends.is_set():
            started_s = time.monotonic()
            try:
                degraded = post(f"{address}/v1/rank", page)["degraded"]
            except urllib.error.HTTPError as refused:
                # A page that is refused is no better than one in the engine's own order.
                degraded = refused.code == 503
            spans.append((started_s, time.monotonic(), degraded))
            time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    started_s = time.monotonic()
    passed_over = 0
    for start in range(0, len(events), BATCH):
        answer = post(f"{address}/v1/events", {"events": events[start : start + BATCH]})
        passed_over += sum(answer["passed_over"].values())
    posted_s = time.monotonic() - started_s
    time.sleep(AFTER_S)
    ends.set()
    asking.join()
    longest_s, since_s = 0.0, None
    for begin_s, end_s, degraded in spans:
        if not degraded:
            since_s = None
            continue
        since_s = begin_s if since_s is None else since_s
        longest_s = max(longest_s, end_s - since_s)
    return {
        "posted_s": round(posted_s, 2),
        "passed_over": passed_over,
        "pages": len(spans),
        "degraded": sum(degraded for _, _, degraded in spans),
        "longest_degraded_s": round(longest_s, 2),
        "slowest_page_s": round(max(end_s - begin_s for begin_s, end_s, _ in spans), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--events", type=int, default=5_000_000, help="events in the journal")
    parser.add_argument("--sent", type=int, default=10_000, help="events that are sent in each order")
    parser.add_argument("--cores", help="cores of the service, as `taskset -c` takes them")
    given = parser.parse_args()
    try:
        version = BundleStore(given.bundle).open()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    samples = json.loads((version.path / "samples.json").read_text(encoding="utf-8"))
    orders: dict[str, Callable[[list[int]], list[int]]] = {
        "oldest first": lambda times: times,
        "newest first": lambda times: times[::-1],
        "random": lambda times: random.Random(2).sample(times, len(times)),
    }
    with tempfile.TemporaryDirectory(prefix="shelfrank-events-") as folder:
        state = Path(folder)
        fill(state, samples, given.events)
        size_mb = sum(file.stat().st_size for file in state.iterdir()) / 1e6
        print(f"journal of {given.events:,} events: {size_mb:,.0f} MB", flush=True)
        with running(given.bundle, state, given.cores) as (pid, address, ready_s):
            memory = memory_mb(pid)
            print(
                f"ready after {ready_s:.1f} s ({processor_s(pid):.1f} processor seconds), "
                f"{memory['now']:.0f} MB, at most {memory['most']:.0f} MB",
                flush=True,
            )
            print("no events:", under_events(address, samples, []))
            now_ms = time.time_ns() // 1_000_000
            for name, order in orders.items():
                times = order([now_ms - 10 * number for number in range(given.sent, 0, -1)])
                print(
                    f"{given.sent:,} events, {name}:", under_events(address, samples, one_hot_key(samples, name, times))
                )
            ahead = one_hot_key(samples, "ahead", [FAR_AHEAD_MS + number for number in range(N_FAR_AHEAD)])
            print(f"{N_FAR_AHEAD:,} events dated 2099:", under_events(address, samples, ahead))
            print({name: round(value) for name, value in memory_mb(pid).items()}, "MB at the end")


if __name__ == "__main__":
    main()
