"""Kills -9 a publication of a real bundle again and again, and loads what is there after each.

    python benchmarks/serve_kills.py BUNDLE --kills 50

A child publishes copies of the bundle's version one after the other; it is killed at a random moment. After each kill,
the version that opens must be complete, the newest that the child said it had published or a later one, and must answer
its golden pages.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shelfrank.bundle.golden import check_golden
from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.store import BundleStore
from shelfrank.core.artifact import MANIFEST, Draft

KEPT = 3


def publish_for_ever(source: Path, out: Path, number: int) -> None:
    store = BundleStore(out)

    def write(draft: Draft) -> None:
        shutil.copytree(source, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    while True:
        store.publish({"number": number}, write)
        print(number, flush=True)
        number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish_for_ever(options.bundle, options.publish, options.number)
    rng = random.Random(options.seed)
    source = BundleStore(options.bundle).open().path
    with tempfile.TemporaryDirectory(dir=options.bundle.parent) as folder:
        store = BundleStore(Path(folder) / "bundle")
        last, between = 0, 0
        one_s = None
        for kill in range(1, options.kills + 1):
            command = [sys.executable, __file__, str(source), "--publish", str(store.path), "--number", str(last + 1)]
            started = time.monotonic()
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                published = [int(process.stdout.readline())]
                one_s = one_s or time.monotonic() - started
                time.sleep(rng.random() * 2 * one_s)
                process.send_signal(signal.SIGKILL)
                published += [int(line) for line in process.stdout if line.strip()]
            version = store.open()
            number = version.manifest.inputs["number"]
            assert number >= max(published), f"published {max(published)}, but {number} opens"
            between += number > max(published)
            check_golden(Bundle.open(version.path), version.path)
            last = max(number, max(each.manifest.inputs["number"] for each in store.versions()))
            for old in store.versions()[:-KEPT]:
                shutil.rmtree(old.path)
            print(json.dumps({"kill": kill, "published": max(published), "opens": number}), flush=True)
    print(f"{options.kills} kills: the newest complete bundle loaded after each; {between} were pointed at unannounced")


if __name__ == "__main__":
    main()
