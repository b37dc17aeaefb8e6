"""The commands of the semantic score: `shelfrank semantic train` and `shelfrank semantic score`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfrank import api
from shelfrank.cli.options import AsJson, ConfigFile, Out, Set, settings_of, tell

semantic_app = typer.Typer(
    name="semantic",
    help="The semantic score: fine-tune a text model on the log, then score its queries and products.",
    no_args_is_help=True,
)

Log = Annotated[Path, typer.Argument(help="A search log's folder.")]


@semantic_app.command()
def train(log: Log, out: Out, config: ConfigFile = None, assign: Set = None, as_json: AsJson = False) -> None:
    """Fine-tunes a text model on the queries and chosen products of the training searches."""
    settings = settings_of(api.train_semantic, assign)
    tell(api.train_semantic(log, out=out, config=config, **settings), as_json, _trained)


@semantic_app.command()
def score(
    log: Log,
    out: Out,
    config: ConfigFile = None,
    assign: Set = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps finished shards of embeddings, for later runs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Embeds a log's queries and products and writes the cosine of every pair it shows."""
    settings = settings_of(api.score_semantic, assign)
    tell(api.score_semantic(log, out=out, cache=cache, config=config, **settings), as_json, _scored)


def _trained(info: Mapping[str, Any]) -> list[str]:
    return [
        f"{info['pairs']:,} pairs from {info['training_searches']:,} training searches",
        *(
            [f"{info['graded_pairs']:,} graded pairs of {info['graded_queries']:,} queries"]
            if "graded_pairs" in info
            else []
        ),
        *(f"left out: {count:,} pairs {reason}" for reason, count in info["left_out_pairs"].items()),
        *(f"the log has no column {column}" for column in info["missing_columns"]),
        f"loss {' -> '.join(f'{loss:.4f}' for loss in info['losses'])}; {info['pairs_per_s']:,.0f} pairs/s; "
        f"{info['masked_false_negatives_per_pair']:.2f} false negatives masked per pair",
    ]


def _scored(info: Mapping[str, Any]) -> list[str]:
    lines = [", ".join(f"{count:,} {what}" for what, count in info["rows"].items())]
    lines += [f"without text, scored NaN: {n:,} {what}" for what, n in info["without_text"].items() if n]
    lines += [f"longer than the model reads, cut: {n:,} {what}" for what, n in info["truncated_texts"].items() if n]
    lines += [f"the log has no column {column}" for column in info["missing_columns"]]
    if info["damaged_shards"]:
        lines.append(f"computed again: {info['damaged_shards']:,} shards whose bytes had changed")
    return [*lines, f"{info['texts_embedded']:,} texts embedded, {info['texts_per_s']:,.0f} a second"]
