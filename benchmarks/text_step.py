"""Races one epoch of MMoE + DCN-V2 + text: encoding every row's two texts, against encoding each text once.

Both train the same network on the same batches of the same prepared data and must come to the same loss. The naive
contender runs the whole encoder on every row's query and document, padded to the longest of the batch, as a loop over
rows would. Ours keeps the frozen layers' output of each different text, and runs the trained layers once for each
different text of a batch, in buckets of about equal length. The race is over the first `--rows` training rows, whole
searches; an epoch over all rows is told from the rates.

    shelfrank demo --out demo --searches 45000     # or any prepared data with product texts
    python benchmarks/text_step.py demo/prepared
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from shelfrank.config import ExperimentConfig
from shelfrank.data import batch
from shelfrank.data.batch import Batch, ShuffledBatches, SplitRows
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.nn.matching import Bucket, RowTexts
from shelfrank.rankers.base import TextTables
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import problem, resolve_experiment
from shelfrank.text.bert import DEFAULT_TYPE, KNOWN_SHAPES, CutEncoder
from shelfrank.text.encoder import PACKAGED, find_model
from shelfrank.train.losses import task_losses
from shelfrank.train.protocol import pick_protocol

RANKER = "mmoe_dcn_v2_text_cross"
TINYBERT = "huawei-noah/TinyBERT_General_6L_768D"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    prepared = PreparedData.open(args.prepared)
    rows = first_rows(prepared.split("train"), args.rows)
    figures = []
    with tempfile.TemporaryDirectory(prefix="text-step-") as folder:
        for model in args.models:
            name = PACKAGED if model == "minilm" else str(save_random(Path(folder) / "tinybert"))
            figures += race(model, name, prepared, rows, args, Path(folder))
    all_rows = prepared.split("train").n_rows
    print(report(figures, rows, all_rows, args))
    size = figures[0]["batch_size"]
    grouped, alone = (texts_per_row(prepared.split("train"), size, group) for group in (batch.GROUP_SEARCHES, 1))
    print(f"over all rows {grouped:.2f} different texts a row, {alone:.2f} if searches were not grouped")
    if args.out:
        args.out.write_text(json.dumps({"rows": rows.n_rows, "all_rows": all_rows, "races": figures}, indent=1))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="a folder of prepared data with product texts")
    parser.add_argument("--rows", type=int, default=8192, help="training rows of the race, about")
    parser.add_argument("--batch-size", type=int, help="rows of a step; the protocol's choice if not given")
    parser.add_argument("--models", nargs="+", choices=("minilm", "tinybert"), default=["minilm", "tinybert"])
    parser.add_argument("--contenders", nargs="+", choices=("naive fp32", "naive bf16", "ours"),
                        default=["naive fp32", "naive bf16", "ours"])  # fmt: skip
    parser.add_argument("--clock", choices=CLOCKS, default="wall",
                        help="cpu counts processor seconds: for a machine that others use too")  # fmt: skip
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    return parser.parse_args()


def race(
    model: str, name: str, prepared: PreparedData, rows: Split, args: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Trains an epoch with each contender from the same weights on the same batches."""
    batch_size = args.batch_size or pick_protocol(settings(name).train, prepared.split("train").n_rows).batch_size
    figures = []
    for contender in args.contenders:
        ranker = build(prepared, name, folder / f"{model}-cache")
        assert ranker.texts is not None
        clock = CLOCKS[args.clock]
        started = clock()
        feed = ranker.texts.feed(torch.device("cpu"), rows) if contender == "ours" else None
        build_s = clock() - started
        texts_of = feed.of_batch if feed else Naive(ranker.texts.encoder, ranker, prepared).of_batch
        batches = ShuffledBatches(SplitRows(rows), batch_size, seed=0, whole_searches=True)
        trained = train(ranker, batches, texts_of, contender != "naive fp32", clock)
        about = {"model": model, "contender": contender, "batch_size": batch_size, "build_s": build_s, **trained}
        if feed is not None:
            use = feed.frozen.use
            about |= {"cache_mb": use.mb, "texts": use.computed + use.found}
        figures.append(about)
        print(json.dumps(about), flush=True)
    return figures


def train(
    ranker: NeuralRanker,
    batches: ShuffledBatches,
    texts_of: Callable[[Batch], RowTexts],
    bf16: bool,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """One epoch by Adam: seconds, rows a second, and mean loss."""
    network = ranker.model.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    losses, n_rows = [], 0
    started = clock()
    for some in batches.epoch(0):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = network(some.numerical, some.categorical, texts_of(some))
        loss = task_losses(outputs.logits, some.labels).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        n_rows += len(some.labels)
    seconds = clock() - started
    return {
        "epoch_s": seconds,
        "rows_per_s": n_rows / seconds,
        "loss": float(np.mean(losses)),
        "steps": len(losses),
    }


def texts_per_row(rows: Split, batch_size: int, group_searches: int) -> float:
    """Different texts a row in an epoch's batches, where so many searches that share a product lie together."""
    with mock.patch.object(batch, "GROUP_SEARCHES", group_searches):
        texts = [
            len(np.unique(some.query_idx)) + len(np.unique(some.product_idx))
            for some in ShuffledBatches(SplitRows(rows), batch_size, seed=0, whole_searches=True).epoch(0)
        ]
    return sum(texts) / rows.n_rows


class Naive:
    """Runs the whole encoder on the query and on the document of every row."""

    def __init__(self, encoder: CutEncoder, ranker: NeuralRanker, prepared: PreparedData) -> None:
        assert ranker.problem.texts is not None
        self.encoder = encoder
        texts = ranker.problem.texts
        most = ranker.config.text.max_tokens
        self.queries, _ = encoder.tokenize(texts.queries(), most)
        self.documents, _ = encoder.tokenize(texts.documents(), most)
        self.trained = ranker.model.text.trained if ranker.model.text else None

    def of_batch(self, batch: Batch) -> RowTexts:
        """Vectors of every row's two texts."""
        vectors = torch.cat(
            [
                self.encode([self.queries[index] for index in batch.query_idx.tolist()]),
                self.encode([self.documents[index] for index in batch.product_idx.tolist()]),
            ]
        )
        rows = torch.arange(len(batch.labels))
        return RowTexts(vectors, rows, rows + len(rows))

    def encode(self, ids: list[list[int]]) -> Tensor:
        """Frozen layers, trained layers and pooling of some texts, padded to the longest."""
        assert self.trained is not None
        return self.trained([Bucket(*self.encoder.hidden(ids))])


def build(prepared: PreparedData, model: str, cache: Path) -> NeuralRanker:
    """The network without dropout, whose contenders could not come to the same loss with it."""
    of_data = problem(prepared, settings(model))
    return NeuralRanker(replace(of_data, texts=TextTables(prepared, cache), relevance_classes=0))


def settings(model: str) -> ExperimentConfig:
    """The ranker's config with this encoder."""
    given = [f"neural.text.model={model}", "neural.text.dropout=0.0"]
    return resolve_experiment(RANKER, None, given, seed=0)


def first_rows(split: Split, n_rows: int) -> Split:
    """The first searches with about this many rows."""
    n_searches = max(1, int(np.searchsorted(split.search_offsets, n_rows, side="right")) - 1)
    return split.searches(np.arange(n_searches, dtype=np.int64))


def save_random(folder: Path) -> Path:
    """Writes an encoder of TinyBERT's shape with random weights; the packaged model's vocabulary is the same."""
    from transformers import AutoConfig, AutoModel

    folder.mkdir()
    for file in find_model(PACKAGED).glob("*"):
        if file.name.startswith(("tokenizer", "vocab", "special_tokens")):
            shutil.copy(file, folder / file.name)
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(DEFAULT_TYPE, **KNOWN_SHAPES[TINYBERT])).save_pretrained(folder)
    return folder


def report(figures: list[dict[str, Any]], rows: Split, all_rows: int, args: argparse.Namespace) -> str:
    """The figures as a Markdown table, and how many times fewer seconds ours takes."""
    lines = [
        f"{rows.n_rows:,} rows in batches of {figures[0]['batch_size']}, {torch.get_num_threads()} threads, seconds by "
        f"the {args.clock} clock",
        "",
        "| encoder | contender | loss | epoch s | rows/s | frozen layers, once, s | cache MB | epoch of "
        f"{all_rows:,} rows, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in figures:
        mb = f"{each['cache_mb']:.0f}" if "cache_mb" in each else "-"
        once = f"{each['build_s']:.1f}" if "cache_mb" in each else "-"
        lines.append(
            f"| {each['model']} | {each['contender']} | {each['loss']:.4f} | {each['epoch_s']:.1f} | "
            f"{each['rows_per_s']:,.0f} | {once} | {mb} | {all_rows / each['rows_per_s']:,.0f} |"
        )
    lines += ["", *ratios(figures)]
    return "\n".join(lines)


def ratios(figures: list[dict[str, Any]]) -> Iterator[str]:
    """How many times the seconds of ours each naive contender takes."""
    for ours in (each for each in figures if each["contender"] == "ours"):
        for other in figures:
            if other["model"] == ours["model"] and other is not ours:
                epoch, first = ours["epoch_s"], ours["epoch_s"] + ours["build_s"]
                yield (
                    f"{ours['model']}: {other['contender']} takes {other['epoch_s'] / epoch:.1f} times as long as an "
                    f"epoch of ours, {other['epoch_s'] / first:.1f} times with the frozen layers' output computed first"
                )


if __name__ == "__main__":
    main()
