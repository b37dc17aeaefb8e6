"""Loads a service with up to ten times the pages that it can rank, and counts the useful answers.

    python benchmarks/serve_overload.py BUNDLE --seconds 10

Before each load the capacity is measured anew, two clients one page after the other, since a shared machine changes.
An answer is useful if it is ranked by the model within the deadline of its arrival. Processor time is the service's.
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


async def load(port: int, bodies: list[bytes], rate: float, seconds: float) -> tuple[list[tuple[str, float]], float]:
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
    for number in range(max(round(rate * seconds), 1)):
        due_s = started_s + number / rate
        await asyncio.sleep(max(due_s - time.perf_counter(), 0))
        sent.append(asyncio.create_task(rank(connections, bodies[number % len(bodies)], due_s)))
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
        bodies = [pages.body(given.candidates) for _ in range(2000)]
        asyncio.run(capacity(port, bodies))
        print(
            "| load | capacity | sent | useful | of capacity | useful per processor second | p99 useful | p99 others "
            "| slowest /livez | other answers |"
        )
        print("|---" * 10 + "|")
        for multiple in MULTIPLES:
            before_s = processor_s(process.pid)
            pages_per_s = asyncio.run(capacity(port, bodies))
            between_s = processor_s(process.pid)
            answers, livez_s = asyncio.run(load(port, bodies, multiple * pages_per_s, given.seconds))
            after_s = processor_s(process.pid)
            useful = [seconds for kind, seconds in answers if kind == "useful" and seconds <= given.deadline_ms / 1e3]
            others = [seconds for kind, seconds in answers if kind != "useful"]
            kinds = Counter(kind for kind, _ in answers)
            per_s = len(useful) / given.seconds
            ideal = pages_per_s * CAPACITY_S / (between_s - before_s)
            print(
                f"| {multiple:g} C | {pages_per_s:.1f}/s | {multiple * pages_per_s:.0f}/s | {per_s:.1f}/s "
                f"| {per_s / min(pages_per_s, multiple * pages_per_s):.2f} "
                f"| {len(useful) / (after_s - between_s):.1f} of {ideal:.1f} | {p99_ms(useful)} | {p99_ms(others)} "
                f"| {livez_s * 1e3:.0f} ms | {dict(kinds)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
