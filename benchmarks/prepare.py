"""Whole preparation of simulated logs of growing size: rows/s, peak memory, and whether time grows in a straight line.

`python benchmarks/prepare.py --logs FOLDER` simulates each log once into FOLDER and keeps it there; `--sizes` picks
sizes in millions of impressions, `--all-features` prepares with everything that the log allows, `--unsampled` keeps
every training row.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from shelfrank.core.artifact import read_manifest
from shelfrank.simulator import StorefrontConfig, simulate

SEARCHES = {1: 45_000, 10: 450_000, 59: 2_660_000}
"""Searches that give so many million impressions."""

STATISTICS = ["text=false", "page=false", "history.customer=false", "history.session=false", "history.affinity=[]"]
"""Leaves the point-in-time statistics of products, queries and pairs, at all windows."""

SAMPLING = ["sampling.beta=0.5"]
"""Asks for half of the training rows, half of these positive; there are fewer positive ones, and all are taken."""

RUN = """
import sys
from pathlib import Path
from shelfrank.config import PrepareConfig, resolve
from shelfrank.prepare.pipeline import prepare
prepare(Path(sys.argv[1]), Path(sys.argv[2]), resolve(PrepareConfig, None, sys.argv[3:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, default=Path("prepare_logs"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 59], choices=sorted(SEARCHES))
    parser.add_argument("--all-features", action="store_true")
    parser.add_argument("--unsampled", action="store_true")
    parser.add_argument("--set", dest="assign", action="append", default=[], help="Further settings of prepare.")
    arguments = parser.parse_args()
    settings = ["engine.memory_limit=4GB", *([] if arguments.all_features else STATISTICS)]
    settings += [*([] if arguments.unsampled else SAMPLING), *arguments.assign]
    results = [
        measure(simulated(arguments.logs, size), arguments.logs / "prepared", settings) for size in arguments.sizes
    ]
    for result in results:
        print(json.dumps(result))
    if len(results) > 1:
        growth = results[-1]["us_per_row"] / results[0]["us_per_row"]
        print(f"time per row from {results[0]['rows']:,} to {results[-1]['rows']:,} rows: {growth:.2f} times")


def simulated(folder: Path, size: int) -> Path:
    """The log of a shop whose catalogue and customers stay the same while its log grows."""
    log = folder / f"{size}m"
    shop = {"searches": SEARCHES[size], "products": 60_000, "customers": 300_000, "queries": {"intents": 60_000}}
    simulate(log, StorefrontConfig.model_validate(shop))
    return log


def measure(log: Path, out: Path, settings: list[str]) -> dict[str, Any]:
    """Prepares a log in a process of its own and reads what it cost."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, "-c", RUN, str(log), str(out), *settings], check=True, stderr=subprocess.DEVNULL)
    info = read_manifest(out, "prepared_data").info
    rows = int(read_manifest(log, "search_log").info["rows"]["impressions"])
    kept = sum(split["impressions"] for split in info["splits"].values())
    seconds = float(info["cost"]["wall_s"])
    result = {
        "rows": rows,
        "kept_rows": kept,
        "features": sum(info["features"].values()),
        "seconds": seconds,
        "rows_per_s": round(rows / seconds),
        "us_per_row": round(seconds / rows * 1e6, 2),
        "peak_mb": round(info["cost"]["peak_rss_mb"]),
        "output_mb": round(sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6),
        "cores": len(os.sched_getaffinity(0)),
    }
    shutil.rmtree(out)
    return result


if __name__ == "__main__":
    main()
