"""What several commands share: their options, and how they tell what a step did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfrank.core.artifact import read_manifest
from shelfrank.core.progress import console

Out = Annotated[Path, typer.Option("--out", help="Folder of the result; a finished one of the same inputs is kept.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML with any keys of this step's config.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="One key; may be given again.")]
Mlflow = Annotated[
    bool, typer.Option("--mlflow", help="Log the result to MLflow too, at MLFLOW_TRACKING_URI (extra mlflow).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


def tell(
    kind: str,
    out: Path,
    changed: bool,
    as_json: bool,
    facts: Callable[[dict[str, Any]], list[str]] = lambda _: [],
) -> None:
    """Prints what a step did.

    Args:
        kind: What `out` is.
        out: The step's folder.
        changed: Whether the step did anything.
        as_json: Prints the manifest's facts for machines.
        facts: Makes the lines that people see of them.
    """
    manifest = read_manifest(out, kind)
    if as_json:
        about = {"path": str(out), "changed": changed, "fingerprint": manifest.fingerprint, **manifest.info}
        typer.echo(json.dumps(about))
        return
    if not changed:
        console.print(f"{out}: unchanged, nothing to do", highlight=False)
        return
    for line in facts(manifest.info):
        console.print(f"  {line}", highlight=False, markup=False)
    cost = manifest.info["cost"]
    console.print(f"{out}: done in {cost['wall_s']:.1f} s, at most {cost['peak_rss_mb']:,.0f} MB", highlight=False)
