"""What the package loads and names, and that its steps follow one another."""

import inspect
import json
import os
from typing import Any

import pytest
from small_steps import FAST, ROOT, TREES, Steps, in_a_new_process

import shelfrank as sr


def test_importing_the_package_loads_the_standard_library_alone() -> None:
    code = (
        "import sys; before = {*sys.modules}; import shelfrank; "
        "new = {name.partition('.')[0] for name in {*sys.modules} - before}; "
        "print(sorted(new - {*sys.stdlib_module_names}))"
    )
    assert in_a_new_process(code) == "['shelfrank']"


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_without_spinning_unless_the_user_says_otherwise(given: str | None, kept: str) -> None:
    before = "" if given is None else f"os.environ['OMP_WAIT_POLICY'] = {given!r}; "
    clear = "import os; os.environ.pop('OMP_WAIT_POLICY', None); "
    assert in_a_new_process(f"{clear}{before}import shelfrank; print(os.environ['OMP_WAIT_POLICY'])") == kept


def test_the_steps_load_neither_torch_nor_duckdb_before_they_run() -> None:
    heavy = ("torch", "duckdb", "pandas")
    code = f"import sys, shelfrank; shelfrank.train; print([name for name in {heavy} if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "import shelfrank.tune.simplex as module; import shelfrank as sr",
        "from shelfrank.tune import simplex as module; import shelfrank as sr",
        "import shelfrank as sr; sr.tune; import shelfrank.tune.simplex as module",
        "import shelfrank as sr; sr.tune; from shelfrank.tune import simplex as module",
        "import shelfrank.tune; import shelfrank as sr; sr.tune; import shelfrank.tune.simplex as module",
        "import shelfrank.tune.simplex; from shelfrank import tune; import shelfrank as sr; module = tune.simplex",
    ],
)
def test_a_step_is_a_function_and_its_namesake_a_package_in_any_order(imports: str) -> None:
    said = (
        "print(sr.tune is shelfrank.api.tune, inspect.isfunction(sr.tune), module.__name__, sr.tune.simplex is module)"
    )
    assert in_a_new_process(f"import inspect; {imports}; import shelfrank.api; {said}") == (
        "True True shelfrank.tune.simplex True"
    )


def test_every_namesake_of_a_step_can_be_imported_after_the_step_was_used() -> None:
    package = ROOT / "src" / "shelfrank"
    namesakes = [name for name in sr.__all__ if (package / name / "__init__.py").is_file()]
    modules = {
        name: next(file.stem for file in sorted((package / name).glob("*.py")) if file.stem != "__init__")
        for name in namesakes
    }
    assert len(namesakes) >= 4
    used = [
        f"try: sr.{name}(None)\nexcept sr.UserError: import shelfrank.{name}.{module} as {name}_module"
        for name, module in modules.items()
    ]
    names = ", ".join(f"{name}_module.__name__" for name in modules)
    said = in_a_new_process("\n".join(["import shelfrank as sr", *used, f"print({names})"]))
    assert said.split() == [f"shelfrank.{name}.{module}" for name, module in modules.items()]


def test_signatures_show_types_as_callers_know_them() -> None:
    signature = inspect.signature(sr.train)
    assert list(signature.parameters) == ["data", "ranker", "out", "seed", "preset", "resume", "config", "settings"]
    assert signature.parameters["data"].annotation == str | os.PathLike[str]
    assert "Annotated" not in str(inspect.signature(sr.Bundle.rank))


def test_every_public_name_is_listed_and_there() -> None:
    assert set(sr.__all__) <= set(dir(sr))
    assert all(getattr(sr, name).__doc__ for name in sr.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = sr.trian  # type: ignore[attr-defined]


def test_every_step_takes_paths_and_results_and_is_done_once(steps: Steps) -> None:
    folder = steps.folder
    assert steps.data.changed
    assert all(step.changed for step in (*steps.runs.values(), *steps.evaluations.values(), steps.comparison))
    assert steps.bundle.changed
    log = sr.SearchLog.open(steps.log)
    run, evaluation = steps.runs["lambdamart"], steps.evaluations["lambdamart"]
    again: list[Any] = [
        sr.prepare(log, out=folder / "prepared", engine={"threads": 1}),
        sr.train(str(folder / "prepared"), ranker="lambdamart", out=str(folder / "lambdamart"), seed=0, **TREES),
        sr.evaluate(folder / "lambdamart", out=evaluation, **FAST),
        sr.compare([str(each.path) for each in steps.evaluations.values()], out=folder / "comparison"),
        sr.compare(list(steps.evaluations.values()), out=folder / "comparison", baseline="shown_order"),
        sr.export(str(run.path), out=folder / "bundle", int8=False, replayed=0, compared=0),
    ]
    assert [step.changed for step in again] == [False] * len(again)
    assert (again[2].path, again[2].info) == (evaluation.path, evaluation.info)


def test_a_step_equals_the_command_line(steps: Steps) -> None:
    """The same inputs: the command of the same settings finds the step finished."""
    from typer.testing import CliRunner

    from shelfrank.cli import app

    trees = ["lambdamart.n_rounds=4", "lambdamart.min_rows_per_leaf=5", "train.threads=1", "seed=0"]
    commands = [
        ["prepare", str(steps.log), "--out", str(steps.data.path), "--set", "engine.threads=1"],
        [
            *("train", str(steps.data.path), "--ranker", "lambdamart", "--out", str(steps.runs["lambdamart"].path)),
            *(part for setting in trees for part in ("--set", setting)),
        ],
    ]
    for command in commands:
        done = CliRunner().invoke(app, [*command, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["changed"] is False
