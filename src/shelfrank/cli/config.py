"""The command `shelfrank config`: the settings that a step reads."""

import json
from typing import Annotated

import typer

from shelfrank.cli.options import AsJson
from shelfrank.cli.rankers import Preset, ranker_names


def _step_words() -> list[str]:
    from shelfrank.settings import STEPS

    return sorted({word for step in STEPS for word in step.split()})


def config(
    step: Annotated[
        list[str] | None,
        typer.Argument(help="A step's command, such as train or semantic train.", autocompletion=_step_words),
    ] = None,
    ranker: Annotated[
        str | None,
        typer.Option(
            "--ranker",
            help="What this ranker reads, at its sizes; of train, blend unless named.",
            autocompletion=ranker_names,
        ),
    ] = None,
    preset: Preset = "default",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md, without STEP.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prints the settings that a step reads as YAML for --config, with types and meanings."""
    from shelfrank.core.errors import UserError
    from shelfrank.settings import STEPS, settings_page, step_settings

    if markdown:
        if step or ranker or as_json or preset != "default":
            raise UserError(
                "--markdown prints the page of all steps, so it must be the only argument; leave out the others"
            )
        typer.echo(settings_page(), nl=False)
        return
    if not step:
        raise UserError(f"a step must be named: choose one of {', '.join(STEPS)}")
    if step == ["train"] and ranker is None and preset == "default":
        # A file for `train --config` must train what `train` does.
        from shelfrank.config.rankers import DEFAULT_RANKER

        ranker = DEFAULT_RANKER
    found = step_settings(" ".join(step), ranker, preset)
    typer.echo(json.dumps(found.as_list(), ensure_ascii=False) if as_json else found.as_yaml().rstrip("\n"))
