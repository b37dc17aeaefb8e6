"""Loads a service with up to ten times the pages that it can rank, and counts the useful answers.

    python benchmarks/serve_overload.py BUNDLE --seconds 10

Before each load the capacity is measured anew, two clients one page after the other, since a shared machine changes.
Every query is new, then as under the load: one that the service has read before costs a third less. An answer is useful
if it is ranked by the model within the deadline of its arrival. Where service and load share a core, what the load
takes of it is missing for pages, so that the useful answers of each processor second of the service are printed too,
beside those at its capacity.
"""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from serve_load import Connections, LoadSettings, Pages, running_service
from shelfrank.bundle.store import BundleStore

MULTIPLES = (0.25, 1, 2, 4, 10)
CAPACITY_S = 5.0
MAX_PER_S = 200
"""Pages a second for which the measurement of the capacity has new queries."""
ANSWER_S = 30.0
PROBE_EVERY_S = 0.5


def processor_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def rank(connections: Connections, body: bytes, due_s: float) -> tuple[str, float]:
    """Sends a page; returns what came of it, and the seconds since it was due."""
    try:
        status, content = await asyncio.wait_for(connections.rank(body), ANSWER_S)
        kind = str(status) if status != 200 else "degraded" if b'"degraded":true' in content else "useful"
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        kind = type(error).__name__
    return kind, time.perf_counter() - due_s


async def capacity(port: int, bodies: list[bytes]) -> float:
    """Ranked pages a second of two clients that send one after the other."""
    connections, ends_s, n_ranked = Connections(port), time.perf_counter() + CAPACITY_S, 0

    async def client(own: list[bytes]) -> None:
        nonlocal n_ranked
        for body in own:
            if time.perf_counter() > ends_s:
                return
            kind, _ = await rank(connections, body, time.perf_counter())
            n_ranked += kind == "useful"

    started_s = time.perf_counter()
    await asyncio.gather(client(bodies[::2]), client(bodies[1::2]))
    connections.close()
    return n_ranked / (time.perf_counter() - started_s)


async def load(port: int, bodies: list[bytes], rate: float) -> tuple[list[tuple[str, float]], float]:
    """Sends pages when they are due; returns what came of each, and the slowest `/livez`."""
    connections, slowest_s = Connections(port), 0.0

    async def probe() -> None:
        nonlocal slowest_s
        while True:
            started_s = time.perf_counter()
            await connections.get("/livez")
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
            await asyncio.sleep(PROBE_EVERY_S)

    probing = asyncio.create_task(probe())
    started_s = time.perf_counter()
    sent = []
    for number, body in enumerate(bodies):
        due_s = started_s + number / rate
        await asyncio.sleep(max(due_s - time.perf_counter(), 0))
        sent.append(asyncio.create_task(rank(connections, body, due_s)))
    answers = await asyncio.gather(*sent)
    probing.cancel()
    connections.close()
    return answers, slowest_s


def p99_ms(seconds: list[float]) -> str:
    """The 99th percentile, in words; nothing if there is none."""
    return f"{np.percentile(seconds, 99) * 1e3:.0f} ms" if seconds else ""


def main() -> None:
    """Measures every load and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--deadline-ms", type=float, default=200.0)
    given = parser.parse_args()
    version = BundleStore(given.bundle).open()
    settings = LoadSettings(given.bundle, deadline_ms=given.deadline_ms)
    with running_service(settings, "fp32") as (process, port):
        pages = Pages(json.loads((version.path / "samples.json").read_text(encoding="utf-8")), 0)

        def new_bodies(n: float) -> list[bytes]:
            return [pages.body(given.candidates) for _ in range(max(round(n), 1))]

        asyncio.run(capacity(port, new_bodies(CAPACITY_S * MAX_PER_S)))
        print(
            "| load | capacity | sent | useful | of capacity | useful per processor second | of capacity's "
            "| processor of service and load | p99 useful | p99 others | slowest /livez | answers |"
        )
        print("|---" * 12 + "|")
        for multiple in MULTIPLES:
            bodies = new_bodies(CAPACITY_S * MAX_PER_S)
            before_s = processor_s(process.pid)
            pages_per_s = asyncio.run(capacity(port, bodies))
            used_s = processor_s(process.pid) - before_s
            bodies = new_bodies(multiple * pages_per_s * given.seconds)
            before_s, own_before_s = processor_s(process.pid), time.process_time()
            answers, livez_s = asyncio.run(load(port, bodies, multiple * pages_per_s))
            loaded_s, own_s = processor_s(process.pid) - before_s, time.process_time() - own_before_s
            useful = [seconds for kind, seconds in answers if kind == "useful" and seconds <= given.deadline_ms / 1e3]
            others = [seconds for kind, seconds in answers if kind != "useful"]
            kinds = Counter(kind for kind, _ in answers)
            per_s = len(useful) / given.seconds
            ideal, real = pages_per_s * CAPACITY_S / used_s, len(useful) / loaded_s
            print(
                f"| {multiple:g} C | {pages_per_s:.1f}/s | {multiple * pages_per_s:.0f}/s | {per_s:.1f}/s "
                f"| {per_s / min(pages_per_s, multiple * pages_per_s):.2f} "
                f"| {real:.1f} of {ideal:.1f} | {real / ideal:.2f} | {loaded_s:.1f} s and {own_s:.1f} s "
                f"| {p99_ms(useful)} | {p99_ms(others)} "
                f"| {livez_s * 1e3:.0f} ms | {dict(kinds)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
