"""The settings of each step, printed as YAML, JSON or the page `docs/settings.md`."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from shelfrank.config import EvaluateConfig, ExperimentConfig, PrepareConfig, TuneConfig
from shelfrank.config.relevance import AgreementConfig
from shelfrank.config.semantic import SemanticConfig, SemanticTrainConfig
from shelfrank.config.settings import Setting, settings_of
from shelfrank.core.errors import UserError, unknown_name
from shelfrank.simulator.config import StorefrontConfig

STEPS: dict[str, type[BaseModel]] = {
    "simulate": StorefrontConfig,
    "semantic train": SemanticTrainConfig,
    "semantic score": SemanticConfig,
    "prepare": PrepareConfig,
    "relevance": AgreementConfig,
    "train": ExperimentConfig,
    "describe": ExperimentConfig,
    "evaluate": EvaluateConfig,
    "tune": ExperimentConfig,
}
"""The config that `--config` and `--set` of each step take, by the step's command."""

PAGE_COMMAND = "shelfrank config --markdown > docs/settings.md"
_WIDTH = 100


@dataclass(frozen=True)
class SettingRow:
    """A setting with the value that a step takes by default.

    Attributes:
        setting: The setting.
        value: Its value as plain data; what is below it for a section.
        off: Whether it belongs to a section that is null by default.
    """

    setting: Setting
    value: Any
    off: bool


@dataclass(frozen=True)
class StepSettings:
    """The settings that a step reads.

    Attributes:
        title: The command that reads them.
        rows: Those that `--config` and `--set` take.
        search_rows: Those that `--tune` takes.
    """

    title: str
    rows: list[SettingRow]
    search_rows: list[SettingRow]

    def as_yaml(self) -> str:
        """YAML that `--config` takes, with each setting's type and meaning as comments."""
        lines = [
            f"# Settings that `{self.title}` reads, with their defaults.",
            "# Pass this file with --config, or one key with --set A.B=VALUE. Keys may be left out.",
            *_yaml_lines(self.rows),
        ]
        if self.search_rows:
            lines += ["", "# Settings of the search itself. Pass them one by one with --tune A.B=VALUE."]
            lines += [f"# {line}" for line in _yaml_lines(self.search_rows)]
        return "\n".join(lines) + "\n"

    def as_list(self) -> list[dict[str, Any]]:
        """Every setting as plain data, with the option that takes it."""
        return [
            {"key": row.setting.path, "option": option, **_facts(row)}
            for option, rows in (("--set", self.rows), ("--tune", self.search_rows))
            for row in rows
            if row.setting.section is None or row.setting.optional
        ]


def step_settings(
    step: str, ranker: str | None = None, preset: Literal["default", "paper"] = "default"
) -> StepSettings:
    """Collects the settings that a step reads.

    Args:
        step: A key of `STEPS`.
        ranker: A name in `RANKERS`, for a step that takes `--ranker`; None collects the settings of all rankers.
        preset: Which sizes the ranker has by default.

    Returns:
        The settings.

    Raises:
        UserError: Where the step or ranker is unknown, or the step takes no ranker.
    """
    if step not in STEPS:
        raise unknown_name("step", step, STEPS)
    model, title = STEPS[step], f"shelfrank {step}"
    if model is not ExperimentConfig and (ranker is not None or preset != "default"):
        takers = [name for name, taken in STEPS.items() if taken is ExperimentConfig]
        raise UserError(f"--ranker and --preset need the step {' or '.join(takers)}, but the step is {step}")
    if ranker is None and preset != "default":
        raise UserError(f"--preset {preset} needs --ranker, but no ranker is given; add one")
    values = model().model_dump(mode="json")
    if ranker is not None:
        from shelfrank.rankers import read_settings
        from shelfrank.rankers.run import resolve_experiment

        title += f" {ranker}" if step == "describe" else f" --ranker {ranker}"
        title += "" if preset == "default" else f" --preset {preset}"
        values = read_settings(ranker, resolve_experiment(ranker, None, [], None, preset))
    search = TuneConfig().model_dump(mode="json")
    return StepSettings(title, _rows(model, values), _rows(TuneConfig, search) if step == "tune" else [])


def settings_page() -> str:
    """The page `docs/settings.md`."""
    same = [step for step, model in STEPS.items() if model is ExperimentConfig and step != "train"]
    lines = [
        "# Settings",
        "",
        f"<!-- Do not edit. Made from the docstrings in `src/shelfrank/config/` by: {PAGE_COMMAND} -->",
        "",
        "Pass settings to a step as a YAML file (`--config`) or one by one (`--set train.epochs=3`).",
        "`shelfrank config STEP` prints the settings of a step as such a file, and with `--ranker` only those that the",
        "ranker reads.",
    ]
    for step in STEPS:
        if step in same:
            continue
        also = f", `{'`, `'.join(same)}`" if step == "train" else ""
        lines += ["", f"## `{step}`{also}", "", *_table(step_settings(step).rows)]
        if step == "train":
            lines += ["", "### Settings that each ranker reads", "", *_ranker_table()]
    lines += ["", "## `tune`: the search itself", "", "`--tune` takes these one by one (`--tune step=0.05`).", ""]
    lines += _table(step_settings("tune").search_rows)
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], values: Mapping[str, Any]) -> list[SettingRow]:
    rows: list[SettingRow] = []
    off: list[str] = []
    for setting in settings_of(model):
        parent: Any = values
        *sections, name = setting.path.split(".")
        for section in sections:
            parent = parent.get(section) if isinstance(parent, Mapping) else None
        if isinstance(parent, Mapping) and name in parent:
            rows.append(SettingRow(setting, parent[name], off=False))
            if setting.section is not None and parent[name] is None:
                off.append(f"{setting.path}.")
        elif setting.path.startswith(tuple(off)):
            rows.append(SettingRow(setting, setting.default, off=True))
    return rows


def _yaml_lines(rows: list[SettingRow]) -> Iterator[str]:
    for row in rows:
        *sections, name = row.setting.path.split(".")
        start = ("# " if row.off else "") + "  " * len(sections)
        yield from textwrap.wrap(
            row.setting.meaning, _WIDTH, initial_indent=f"{start}# ", subsequent_indent=f"{start}# "
        )
        if row.setting.section is None:
            yield f"{start}{name}: {_flow(row.value)}  # {row.setting.values}"
        elif row.value is None and not row.off:
            yield f"{start}{name}: null  # to switch it on, remove null and the leading '# ' of the keys below"
        else:
            yield f"{start}{name}:"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=10**6).strip()[1:-1]


def _facts(row: SettingRow) -> dict[str, Any]:
    return {
        "default": row.value,
        "type": row.setting.values if row.setting.section is None else "section, or null",
        "meaning": row.setting.meaning,
    }


def _table(rows: list[SettingRow]) -> list[str]:
    lines = ["| key | default | type | meaning |", "|---|---|---|---|"]
    for row in rows:
        is_section = row.setting.section is not None
        default = "" if is_section and (row.off or row.value is not None) else f"`{_flow(row.value)}`"
        kind = "section" + (", or null" if row.setting.optional else "") if is_section else row.setting.values
        cells = (f"`{row.setting.path}`", default, kind, row.setting.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def _ranker_table() -> list[str]:
    from shelfrank.rankers import RANKERS

    whole = ExperimentConfig().model_dump(mode="json")
    lines = ["| ranker | settings |", "|---|---|"]
    for name in RANKERS:
        rows = step_settings("train", name).rows
        read = {row.setting.path.split(".")[0]: row.value for row in rows if "." not in row.setting.path}
        lines.append(f"| `{name}` | {', '.join(f'`{path}`' for path in _compact(read, whole))} |")
    return lines


def _compact(read: Mapping[str, Any], whole: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of what is read, one path for a section that is read whole."""
    for name, value in read.items():
        if isinstance(value, Mapping) and isinstance(whole[name], Mapping) and value.keys() != whole[name].keys():
            yield from _compact(value, whole[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
