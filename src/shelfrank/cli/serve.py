"""The commands of the service: `export`, `bundles`, `rollback` and `serve`."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shelfrank import api
from shelfrank.cli.options import AsJson
from shelfrank.core.errors import UserError
from shelfrank.core.progress import console

BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder.")]
ServedPrecision = Annotated[Literal["fp32", "int8"], typer.Option(help="Precision of the graphs.")]

serve_app = typer.Typer()


@serve_app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run.")],
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder; older versions in it are kept.")],
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", help="An evaluation of the run, for the model card.")
    ] = None,
    semantic: Annotated[
        Path | None, typer.Option("--semantic", help="The semantic scores of the data, where they are not beside it.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8/--no-int8", help="Add graphs in 8-bit integers.")] = True,
    vectors: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="Numbers in which the products' text vectors are kept.")
    ] = "fp32",
    replayed: Annotated[
        int, typer.Option(min=0, help="Test searches on which each precision is measured; 0 skips it.")
    ] = 500,
    better_than: Annotated[
        list[str] | None,
        typer.Option(
            "--require-better-than",
            metavar="shown_order|current",
            help="Publish nothing unless the run's MRR@10 is above this by its whole interval; may be given twice.",
        ),
    ] = None,
    margin: Annotated[float, typer.Option(help="Margin of MRR@10 for --require-better-than.", min=0.0, max=1.0)] = 0.0,
    compared: Annotated[
        int,
        typer.Option(min=0, help="Test searches on which the run is compared with the current version; 0 skips it."),
    ] = 1000,
    as_json: AsJson = False,
) -> None:
    """Writes a run as a version of a bundle, checks it and points the bundle at it."""
    bundle = api.export(
        run_folder,
        out=out,
        evaluation=evaluation,
        semantic=semantic,
        int8=int8,
        vectors=vectors,
        replayed=replayed,
        require_better_than=better_than or [],
        margin=margin,
        compared=compared,
    )
    about = {
        "path": str(bundle.folder),
        "version": bundle.version,
        "changed": bundle.changed,
        "bytes": bundle.n_bytes,
        **bundle.info,
        "comparisons": [each.as_dict() for each in bundle.comparisons],
    }
    for each in bundle.comparisons:
        if warning := each.warning():
            console.print(
                f"warning: {warning}; it was published all the same, see --require-better-than",
                style="yellow",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if as_json:
        typer.echo(json.dumps(about))
        return
    done = "done" if bundle.changed else "unchanged"
    typer.echo(f"{bundle.folder}: {done}, {about['bytes'] / 1e6:,.1f} MB, {about['label']}")
    for line in (
        *_quality_lines(about.get("quality") or {}),
        *(each.line() for each in bundle.comparisons),
        *_request_lines(about.get("request_features") or []),
    ):
        typer.echo(f"  {line}")
    for missed, why in (about.get("missed") or {}).items():
        typer.echo(f"  {missed}: float32 will serve in its place because {why}")
    if about.get("no_page"):
        typer.echo(f"  page: left out because {about['no_page']}")


@serve_app.command()
def bundles(store: BundleFolder, as_json: AsJson = False) -> None:
    """Lists a bundle's complete versions; a star marks the current one."""
    versions = api.bundle_versions(store)
    if as_json:
        typer.echo(json.dumps([vars(each) for each in versions]))
        return
    for each in versions:
        typer.echo(f"{'*' if each.current else ' '} {each.version}  {each.label}  {each.run}")


@serve_app.command()
def rollback(
    store: BundleFolder,
    to: Annotated[
        str | None, typer.Option("--to", help="The version; the one before the current if not given.")
    ] = None,
) -> None:
    """Points a bundle at an older version; running services follow within seconds."""
    typer.echo(f"{store}: {api.rollback(store, to=to)} serves now")


@serve_app.command()
def serve(
    store: BundleFolder,
    host: Annotated[str, typer.Option(help="Address; any but loopback needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; one per core.")] = 1,
    precision: ServedPrecision = "fp32",
    api_key_file: Annotated[
        Path | None, typer.Option(help="File of accepted API keys, one a line; else the variable SHELFRANK_API_KEY.")
    ] = None,
    deadline_ms: Annotated[
        float, typer.Option(min=1, help="Time after which the engine's own order is returned.")
    ] = 200.0,
    max_body_kb: Annotated[int, typer.Option(min=1, help="Maximum size of a body in kilobytes.")] = 2000,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two checks for another version.")] = 2.0,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds on SIGTERM in which requests are answered while /readyz is 503.")
    ] = 0.0,
    state: Annotated[Path | None, typer.Option(help="Folder of recent events, which survive a restart there.")] = None,
    page: Annotated[
        bool | None,
        typer.Option("--page/--no-page", help="Serve the page at /; default: on a loopback address only."),
    ] = None,
    overload: Annotated[
        Literal["refuse", "engine_order"],
        typer.Option(help="What a page gets that cannot be ranked in time: 503 at once, or the engine's own order."),
    ] = "refuse",
    max_connections: Annotated[int, typer.Option(min=1, help="Connections of each process.")] = 1000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name by which a service without a key may be called; may be given again."),
    ] = None,
) -> None:
    """Serves a bundle over HTTP until SIGTERM."""
    api.serve(
        store,
        host=host,
        port=port,
        workers=workers,
        precision=precision,
        keys=_keys(api_key_file),
        deadline_ms=deadline_ms,
        max_body_kb=max_body_kb,
        poll_s=poll_s,
        drain_s=drain_s,
        state=state,
        page=page,
        overload=overload,
        max_connections=max_connections,
        allowed_hosts=tuple(allowed_host or ()),
    )


def _keys(file: Path | None) -> tuple[str, ...]:
    if file is None:
        key = os.environ.get("SHELFRANK_API_KEY", "").strip()
        return (key,) if key else ()
    try:
        keys = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise UserError(f"{file} must hold API keys, one a line, but it is no text") from error
    if not keys:
        raise UserError(f"{file} must hold API keys, one a line, but it is empty")
    return keys


def _quality_lines(quality: dict[str, Any]) -> list[str]:
    lines = []
    for precision, found in quality.items():
        figures = [
            f"{measure} {task} {value:.4f}"
            for measure in ("auc", "mrr@10")
            for task, value in found[measure].items()
            if value is not None
        ]
        lines.append(
            f"{precision}: {', '.join(figures)} over {found['searches']} searches; "
            f"scores within {found['largest_gap']:.2g} of the run's"
        )
    return lines


def _request_lines(features: list[dict[str, Any]]) -> list[str]:
    lines = []
    for needed, when in (
        ("always", "a request must bring"),
        ("unknown product", "for a product that the bundle does not know, also"),
        ("unknown customer", "for a customer that it does not know, also"),
    ):
        named = [
            f"{each['name']} ({each['kind']}, in {each['place']})" for each in features if each["needed"] == needed
        ]
        if named:
            lines.append(f"{when}: {', '.join(named)}")
    return lines
