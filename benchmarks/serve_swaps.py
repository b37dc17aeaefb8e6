"""Swaps the bundle of a running service under load, every fifth one corrupt.

    python benchmarks/serve_swaps.py BUNDLE --swaps 20 --rate 20

Requests come when they are due, whatever the service does. No answer may be anything but a 200, and no corrupt bundle
may serve; pages that came back in the engine's own order are counted.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path

from serve_load import Connections, LoadSettings, Pages, running_service
from shelfrank.bundle.store import CURRENT, VERSIONS, BundleStore
from shelfrank.core.artifact import MANIFEST, Draft, write_atomic

EVERY = 5
PATIENCE_S = 300.0
KEPT = 3


def publish(store: BundleStore, source: Path, number: int, is_corrupt: bool) -> str:
    def write(draft: Draft) -> None:
        shutil.copytree(source, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    before = store.current()
    name, _ = store.publish({"number": number}, write)
    if is_corrupt:
        assert before is not None
        write_atomic(store.path / CURRENT, f"{before}\n".encode())
        file = max((store.path / VERSIONS / name).rglob("*.onnx"), key=lambda each: each.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
        write_atomic(store.path / CURRENT, f"{name}\n".encode())
    return name


async def load(port: int, pages: Pages, n_candidates: int, rate: float, ended: asyncio.Event) -> list[dict]:
    connections = Connections(port)
    answers: list[dict] = []

    async def send(body: bytes, due: float) -> None:
        try:
            status, content = await asyncio.wait_for(connections.rank(body), 30)
            found = json.loads(content)
            answers.append(
                {
                    "status": status,
                    "degraded": found["degraded"],
                    "bundle": found["bundle"],
                    "s": time.monotonic() - due,
                }
            )
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            answers.append({"status": type(error).__name__, "degraded": False, "bundle": None, "s": 0.0})

    sent = []
    while not ended.is_set():
        sent.append(asyncio.create_task(send(pages.body(n_candidates), time.monotonic())))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*sent)
    connections.close()
    return answers


async def swap(store: BundleStore, source: Path, options: argparse.Namespace, port: int, pages: Pages) -> None:
    ended = asyncio.Event()
    loading = asyncio.create_task(load(port, pages, options.candidates, options.rate, ended))
    connections = Connections(port)

    async def wait_for(text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in (await connections.get("/metrics")).decode():
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.25)

    refused, corrupt = 0, set()
    for number in range(1, options.swaps + 1):
        is_corrupt = number % EVERY == 0
        name = await asyncio.to_thread(publish, store, source, number, is_corrupt)
        if is_corrupt:
            refused += 1
            corrupt.add(name)
            await wait_for(f'shelfrank_bundle_loads_total{{result="refused"}} {refused:.1f}')
        else:
            await wait_for(f'shelfrank_bundle_info{{version="{name}"}} 1.0')
        print(json.dumps({"swap": number, "bundle": name, "refused": is_corrupt}), flush=True)
        for old in store.versions()[:-KEPT]:
            if old.path != source:
                shutil.rmtree(old.path)
    ended.set()
    answers = await loading
    connections.close()
    failed = [answer for answer in answers if answer["status"] != 200]
    assert not any(answer["bundle"] in corrupt for answer in answers), "a corrupt bundle served"
    seconds = sorted(answer["s"] for answer in answers)
    print(
        f"{options.swaps} swaps, {refused} of them refused: {len(answers)} requests, {len(failed)} failed, "
        f"{sum(answer['degraded'] for answer in answers)} in the engine's own order, "
        f"p99 {seconds[int(len(seconds) * 0.99)] * 1e3:.0f} ms"
    )
    assert not failed, failed[:3]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--candidates", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.bundle.parent) as folder:
        store = BundleStore(Path(folder) / "bundle")
        source = BundleStore(options.bundle).open().path
        publish(store, source, 0, is_corrupt=False)
        settings = LoadSettings(store.path, poll_s=0.5)
        samples = json.loads((source / "samples.json").read_text(encoding="utf-8"))
        with running_service(settings, "fp32") as (_, port):
            asyncio.run(swap(store, source, options, port, Pages(samples, 0)))


if __name__ == "__main__":
    main()
