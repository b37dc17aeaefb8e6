"""The page `docs/commands.md`: every command with an example, its guide and its options.

`python -m shelfrank.cli.reference > docs/commands.md` writes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.main import get_command

PAGE_COMMAND = "python -m shelfrank.cli.reference > docs/commands.md"


@dataclass(frozen=True)
class CommandExample:
    """A line of the overview.

    Attributes:
        line: The command line.
        meaning: What it does.
        guide: The page of the docs that explains it, if any.
    """

    line: str
    meaning: str
    guide: str | None = None


EXAMPLES: dict[str, list[CommandExample]] = {
    "Logs": [
        CommandExample(
            "shelfrank simulate --out logs/shop --searches 45000",
            "simulates the log of a shop with known truth",
            "storefront.md",
        ),
        CommandExample(
            "shelfrank import custom mapping.yaml --out logs/mine",
            "imports your own Parquet or CSV files",
            "your_own_data.md",
        ),
        CommandExample(
            "shelfrank import ubi exported/ --out logs/ubi",
            "imports OpenSearch User Behavior Insights 1.3.0",
            "ubi.md",
        ),
        CommandExample(
            "shelfrank import trivago train.csv.gz --out logs/trivago",
            "imports the RecSys Challenge 2019 data",
            "trivago.md",
        ),
        CommandExample(
            "shelfrank import kuaisearch KuaiSearch/ --out logs/kuaisearch",
            "imports KuaiSearch, whose positions and clock times are synthetic",
            "kuaisearch.md",
        ),
        CommandExample(
            "shelfrank import bestbuy train.csv.gz --out logs/bestbuy",
            "imports the ACM hackathon's Best Buy clicks, with sampled negatives",
            "bestbuy.md",
        ),
        CommandExample(
            "shelfrank import homedepot home-depot/ --out logs/homedepot",
            "imports Home Depot's judged queries: grades, no labels",
            "homedepot.md",
        ),
        CommandExample(
            "shelfrank validate logs/mine",
            "lists every violation of the data contract, with counts and example keys",
            "your_own_data.md",
        ),
    ],
    "Features and labels": [
        CommandExample(
            "shelfrank semantic train logs/mine --out model",
            "fine-tunes a text model on the log's queries and chosen products",
            "semantic.md",
        ),
        CommandExample(
            "shelfrank semantic score logs/mine --set model=model --out scores",
            "embeds queries and products, and scores every pair",
            "semantic.md",
        ),
        CommandExample(
            "shelfrank prepare logs/mine --semantic scores --out prepared",
            "splits, samples, computes point-in-time features and labels, encodes",
            "prepare.md",
        ),
        CommandExample(
            "shelfrank prepare logs/mine --engine spark --out prepared",
            "does the same on a Spark cluster",
            "spark.md",
        ),
        CommandExample(
            "shelfrank relevance prepared --log logs/shop --out agreement",
            "compares relevance labels with the true grades of a simulated shop",
            "relevance.md",
        ),
    ],
    "Training": [
        CommandExample(
            "shelfrank train prepared --ranker mmoe_dcn_v2 --out runs/mmoe_dcn_v2",
            "trains one ranker; `--resume` continues after a kill",
            "models.md",
        ),
        CommandExample(
            "torchrun --nproc-per-node 4 -m shelfrank train prepared --ranker mmoe_dcn_v2 --out runs/mmoe_dcn_v2",
            "trains with several processes or machines",
            "distributed.md",
        ),
        CommandExample(
            "shelfrank tune prepared --ranker mmoe_dcn_v2 --out tuned",
            "searches for task weights or sizes on the validation split, and draws the trade-off",
            "tune.md",
        ),
        CommandExample(
            "shelfrank tune-fusion runs/mmoe_dcn_v2 --out fused",
            "searches for the weights that fuse the scores of a finished run",
            "tune.md",
        ),
        CommandExample(
            "shelfrank rankers", "lists the rankers: simple orders, trees and every network of the paper", "models.md"
        ),
        CommandExample(
            "shelfrank describe mmoe_ftt --preset paper",
            "counts a network's parameters box by box, beside the paper's count",
            "models.md",
        ),
        CommandExample(
            "shelfrank config train --ranker mmoe_dcn_v2",
            "prints the settings that a step reads, as YAML to edit",
            "settings.md",
        ),
    ],
    "Figures": [
        CommandExample(
            "shelfrank evaluate runs/mmoe_dcn_v2 --out evals/mmoe_dcn_v2",
            "measures AUC, MRR@K, NDCG@K and Personalization Degree, with intervals",
            "results.md",
        ),
        CommandExample(
            "shelfrank compare evals/shown_order evals/mmoe_dcn_v2 --baseline shown_order --out comparison",
            "computes paired differences to a baseline and writes the report page",
            "results.md",
        ),
        CommandExample(
            "shelfrank explain runs/mmoe_dcn_v2 --search SEARCH_ID",
            "explains the order of one page, and what personalization changed",
            "explain.md",
        ),
        CommandExample(
            "shelfrank card runs/mmoe_dcn_v2 evals/mmoe_dcn_v2 --out card",
            "writes a model card: data, use, figures by segment, limits",
            "model_card.md",
        ),
        CommandExample(
            "shelfrank track runs/mmoe_dcn_v2 evals/mmoe_dcn_v2 --uri mlruns",
            "logs a run to MLflow",
            "tracking.md",
        ),
    ],
    "Serving": [
        CommandExample(
            "shelfrank export runs/mmoe_dcn_v2 --out bundle",
            "writes what serves: ONNX graphs, product vectors, feature tables, golden pages",
            "serving.md",
        ),
        CommandExample("shelfrank bundles bundle", "lists the versions of a bundle", "serving.md"),
        CommandExample("shelfrank rollback bundle", "points a bundle at an older version", "serving.md"),
        CommandExample("shelfrank serve bundle", "ranks over HTTP, with a page to search as any shopper", "serving.md"),
    ],
    "The whole path, and the paper": [
        CommandExample("shelfrank demo --out demo", "runs every step on a simulated shop", "results.md"),
        CommandExample(
            "shelfrank reproduce all --budget small",
            "makes the paper's Tables 1-5 beside its figures, and judges its claims",
            "reproduce.md",
        ),
        CommandExample(
            "shelfrank census census/ --out census-out",
            "compares MMoE, shared bottom and single task on the MMoE paper's own data",
            "census.md",
        ),
    ],
}
"""The overview, by group."""


_INTRODUCTION = """\
Every step writes one folder that is complete or absent, with the hashes of its files and of its inputs. A step whose
inputs have not changed is skipped. Settings are YAML (`--config`) or `--set train.epochs=3`; an unknown key is an error
that names the nearest one. [Settings](settings.md) lists all of them. `--json` prints the result for machines.

Progress goes to standard error: on a terminal as a bar, elsewhere, as in CI or after `!` in a notebook, as one JSON
line about every two seconds, of steps that take longer than that. `FORCE_COLOR=1` asks for the bar there too. A line:

```json
{"step": "Training 1/10", "event": "progress", "done": 410, "total": 900, "unit": "rows", "per_s": 91.1, "seconds": 4.5}
```

A run stores the path of its prepared data, and prepared data that of its log, as it was given: run later steps from the
same folder, or give absolute paths. Only a bundle is self-contained."""


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it, such as `semantic train`."""
    if group is None:
        from shelfrank.cli.commands import app

        group = get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        elif not command.hidden:
            yield f"{prefix}{name}", command


def commands_page() -> str:
    """The page `docs/commands.md`."""
    lines = [
        "# Commands",
        "",
        f"<!-- Do not edit. Made from `src/shelfrank/cli/` by: {PAGE_COMMAND} -->",
        "",
        *_INTRODUCTION.splitlines(),
    ]
    for group, examples in EXAMPLES.items():
        lines += ["", f"## {group}", "", "| Command | What it does |", "|---|---|"]
        for example in examples:
            guide = f" ([guide]({example.guide}))" if example.guide else ""
            lines.append(f"| `{example.line}` | {example.meaning}{guide} |")
    lines += ["", "## Arguments and options"]
    for name, command in sorted(commands()):
        lines += ["", f"### `shelfrank {name}`", "", command.help.strip(), "", *_table(command)]
    return "\n".join(lines) + "\n"


def _table(command: Any) -> list[str]:
    hints = get_type_hints(command.callback, include_extras=True)
    rows = [
        f"| {_cell(_spelled(param, hints[param.name]))} | {_default(param)} | {_cell(param.help or '')} |"
        for param in command.params
        if param.name in hints  # --help and the like have no parameter
    ]
    return ["| | default | meaning |", "|---|---|---|", *rows] if rows else ["It takes no arguments."]


def _spelled(param: Any, hint: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.metavar or param.name.upper()}`"
    flags = " / ".join(f"`{flag}`" for flag in [*param.opts, *param.secondary_opts])
    return flags if _plain(hint) is bool else f"{flags} `{param.metavar or _kind(hint)}`"


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if param.default is None or isinstance(param.default, bool) or callable(param.default):
        return "on" if param.default is True else ""
    return f"`{param.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(hint: Any) -> Any:
    """The type without `Annotated`, `None` and `list`."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return _plain(next(each for each in get_args(hint) if each is not type(None)))
    return _plain(get_args(hint)[0]) if get_origin(hint) is list else hint


def _kind(hint: Any) -> str:
    plain = _plain(hint)
    if get_origin(plain) is Literal:
        return "|".join(map(str, get_args(plain)))
    return {"int": "N", "float": "X", "Path": "PATH"}.get(plain.__name__, "TEXT")


if __name__ == "__main__":
    typer.echo(commands_page(), nl=False)
