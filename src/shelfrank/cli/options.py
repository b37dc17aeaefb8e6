"""What several commands share: their options, and how they tell what a step did."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfrank.api import Artifact
from shelfrank.config.base import assignments, merge
from shelfrank.core.errors import UserError
from shelfrank.core.progress import console

Out = Annotated[
    Path,
    typer.Option("--out", help="Folder of the result; a result of the same inputs is kept, an older one replaced."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML with any keys of this step's config.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="One key; may be given again.")]
Mlflow = Annotated[
    bool, typer.Option("--mlflow", help="Log the result to MLflow too, at MLFLOW_TRACKING_URI (extra mlflow).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


def settings_of(step: Callable[..., Any], assign: Sequence[str] | None, **options: Any) -> dict[str, Any]:
    """The settings that `--set` and a command's own options give to a step.

    Args:
        step: The function of the API that takes them as keywords.
        assign: What `--set` was given.
        **options: Settings by their path, with `__` for each dot; one that is None was not given.

    Returns:
        Nested settings; an option wins over `--set`.

    Raises:
        UserError: Where an assignment is not as it must be, or names an argument of the step that is no setting.
    """
    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    settings = assignments(assign or [])
    taken = next((name for name in settings if name in signature(step).parameters and name not in options), None)
    if taken is not None:
        raise UserError(f"--set must name a setting, but {taken} is none; `shelfrank config` lists the settings")
    for path, value in given.items():
        nested = value
        for part in reversed(path.split(".")):
            nested = {part: nested}
        settings = merge(settings, nested)
    return settings


def called_as() -> str:
    """The command line's own name as a shell takes it here: with its path where the name alone is another or none."""
    program = sys.argv[0]
    if Path(program).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m shelfrank"
    found = shutil.which(Path(program).name)
    is_on_path = found is not None and Path(found).resolve() == Path(program).resolve()
    return Path(program).name if is_on_path else shlex.quote(program)


def tell(result: Artifact, as_json: bool, facts: Callable[[Mapping[str, Any]], list[str]] = lambda _: []) -> None:
    """Prints what a step did.

    Args:
        result: What the step returned.
        as_json: Prints the manifest's facts for machines.
        facts: Makes the lines that people see of them.
    """
    manifest = result.manifest
    if as_json:
        about = {
            "path": str(result.path),
            "changed": result.changed,
            "fingerprint": manifest.fingerprint,
            **manifest.info,
        }
        typer.echo(json.dumps(about))
        return
    if not result.changed:
        console.print(f"{result.path}: unchanged, nothing to do", highlight=False)
        return
    for line in facts(manifest.info):
        console.print(f"  {line}", highlight=False, markup=False)
    cost = manifest.info["cost"]
    console.print(
        f"{result.path}: done in {cost['wall_s']:.1f} s, at most {cost['peak_rss_mb']:,.0f} MB", highlight=False
    )
