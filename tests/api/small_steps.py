"""Every step from Python run once on a small log, for the tests of the API."""

import os
import subprocess
import sys
from pathlib import Path

import shelfrank as sr
from small_log import small_tables, write_small_log

ROOT = Path(__file__).resolve().parents[2]
FAST = {"n_resamples": 50, "n_resamples_auc": 10}
TREES = {"lambdamart": {"n_rounds": 4, "min_rows_per_leaf": 5}, "train": {"threads": 1}}


class Steps:
    """Every step run once on a small log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = write_small_log(folder / "log", small_tables(200))
        self.data = sr.prepare(self.log, out=folder / "prepared", engine={"threads": 1})
        self.runs = {
            name: sr.train(self.data, ranker=name, out=folder / name, seed=0, **TREES)
            for name in ("shown_order", "lambdamart")
        }
        self.evaluations = {
            name: sr.evaluate(run, out=folder / "evaluations" / name, **FAST) for name, run in self.runs.items()
        }
        self.comparison = sr.compare(list(self.evaluations.values()), out=folder / "comparison")
        self.bundle = sr.export(self.runs["lambdamart"], out=folder / "bundle", int8=False, replayed=0, compared=0)


def in_a_new_process(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()
