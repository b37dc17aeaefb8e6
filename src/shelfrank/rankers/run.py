"""One ranker trained once: from prepared data and a config to a run folder, and back."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from shelfrank.config import ExperimentConfig, merge, resolve
from shelfrank.config.settings import settings_of
from shelfrank.core.artifact import Draft, Manifest, fingerprint, is_current, read_manifest, verify_files
from shelfrank.core.errors import UserError
from shelfrank.core.folds import FOLDS, clear_other_folds, folds_in_progress, gather_folds, holds_folds, refuse_folds
from shelfrank.core.processes import processes
from shelfrank.core.progress import measured
from shelfrank.data.prepared import KIND as PREPARED
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.rankers import RankerSpec, ranker_spec, read_settings
from shelfrank.rankers.base import Problem, Ranker, TextTables
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.rankers.renamed import RENAMED
from shelfrank.text.encoder import find_model, model_fingerprint
from shelfrank.train.checkpoint import Checkpoints
from shelfrank.train.distributed import publish_once

KIND = "run"
TREES_ALONE = "Blend (LambdaMART alone)"
"""Label of a blend whose log is too small for a network."""
NAMED_SETTINGS = 5
"""Settings at most that a note names."""
_ABSENT = object()
RUN_VERSION = 6
"""Part of every run's inputs: raise it when the same data and config give another model."""


@dataclass(frozen=True)
class Run:
    """A finished run on disk, or the same ranker trained on every fold of its data.

    Attributes:
        path: Its folder.
        manifest: Its manifest.
        name: The ranker's name in `RANKERS`.
        config: The resolved config.
        folds: The runs of the folds, from the earliest; none where the data has no folds.
    """

    path: Path
    manifest: Manifest
    name: str
    config: ExperimentConfig
    folds: tuple["Run", ...] = ()

    @classmethod
    def open_folds(cls, path: Path) -> "Run":
        """Opens a finished run, which may hold folds; a missing, half-written or damaged one is a `UserError`."""
        manifest = read_manifest(path, KIND)
        if FOLDS not in manifest.info:
            return cls.open(path)
        folds = tuple(cls.open(path / name) for name in manifest.info[FOLDS])
        return replace(folds[-1], path=path, manifest=manifest, folds=folds)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Opens a finished run; a missing, half-written or damaged one, or one of folds, is a `UserError`."""
        manifest = read_manifest(path, KIND)
        refuse_folds(path, manifest)
        # Small beside its data, so every byte is checked: a damaged model may load and score.
        verify_files(path, manifest)
        # The file holds the settings that the ranker reads; the manifest has the rest, which fingerprints depend on.
        config = resolve(ExperimentConfig, path / "config.yaml", base=manifest.inputs["config"])
        name = str(manifest.inputs["ranker"])
        return cls(path, manifest, RENAMED.get(name, name), config)

    @property
    def parts(self) -> tuple["Run", ...]:
        """The runs of the folds or, without any, the run itself."""
        return self.folds or (self,)

    @property
    def label(self) -> str:
        """How tables name it."""
        excluded = ", ".join(side.value for side in self.config.exclude_sides)
        spec = ranker_spec(self.name)
        # Runs of former versions do not name the parts' shares.
        is_alone = spec.blends and self.manifest.info.get("fitted", {}).get("shares", {}) is None
        label = TREES_ALONE if is_alone else spec.label_for(self.config)
        return label + (f" without {excluded} features" if excluded else "")

    def prepared(self) -> PreparedData:
        """The data it was trained on; a `UserError` where that has changed since."""
        prepared = PreparedData.open_folds(Path(self.manifest.info["prepared"]))
        if prepared.manifest.fingerprint != self.manifest.inputs["prepared"]:
            raise UserError(
                f"{prepared.path} must hold the data that {self.path} was trained on, but it has changed; train again"
            )
        return prepared

    def ranker(self, prepared: PreparedData) -> Ranker:
        """The fitted ranker."""
        ranker = ranker_spec(self.name).build(problem(prepared, self.config))
        ranker.load(self.path)
        return ranker

    def select(self, split: Split) -> Split:
        """A split with only the features that the ranker may see."""
        return split.select(self.config.exclude_sides, self.config.exclude_features)


def train(
    prepared_path: Path,
    name: str,
    config: ExperimentConfig,
    out: Path,
    resume: bool = False,
    ignore_foreign: bool = False,
) -> bool:
    """Trains one ranker; on data of folds, once on each.

    A checkpoint stays beside `out` until the run is finished, so that a killed training can be resumed. Processes that
    share a training all call this; the first one writes.

    Args:
        prepared_path: A finished folder of prepared data, or of its folds.
        name: A name in `RANKERS`.
        config: The resolved config.
        out: The run's folder; data of folds gives a run in it for each.
        resume: Resume from the last complete checkpoint of the same data and config, if there is one.
        ignore_foreign: Start afresh where the checkpoint is of other data or another config, and replace a run of
            another ranker or other data, instead of refusing.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the ranker is unknown, the data cannot be read, the config does not fit the data, or `out` is
            a run of another ranker or other data.
    """
    spec = ranker_spec(name)
    prepared = PreparedData.open_folds(prepared_path)
    inputs = _inputs(prepared, name, config)
    group = processes()
    group.agree(fingerprint(inputs), "data and config")
    if group.from_lead(is_current(out, KIND, inputs)):
        return False
    if not ignore_foreign:
        _refuse_other_run(out, name, prepared)
    if prepared.folds:
        _train_folds(prepared, name, config, out, resume, inputs)
        return True
    checkpoint_folder = out.with_name(f".{out.name}.checkpoint")
    if group.leads:
        # Hours of training on damaged arrays cost more than reading every byte once.
        verify_files(prepared_path, prepared.manifest)
    with publish_once(out, KIND, inputs) as draft, measured() as cost:
        # Until the folder is ours to write, the checkpoint may belong to a training in progress.
        if draft is not None and not resume:
            shutil.rmtree(checkpoint_folder, ignore_errors=True)
        splits = [
            prepared.split(part).select(config.exclude_sides, config.exclude_features) for part in ("train", "valid")
        ]
        ranker = spec.build(problem(prepared, config))
        # A run's own config.yaml, which lacks the settings that its ranker does not read, resumes the same checkpoint.
        owner = fingerprint({**inputs, "config": read_settings(name, config)})
        checkpoints = Checkpoints(checkpoint_folder, owner, resume, ignore_foreign)
        if draft is None:
            if ranker.learns_together:
                ranker.fit(splits[0], splits[1], checkpoints)
            group.wait()
            return True
        fitted = ranker.fit(splits[0], splits[1], checkpoints)
        fitted.choices.extend(unused_settings(name, config))
        ranker.save(draft.path)
        write_config(draft, name, config)
        lines = "".join(json.dumps(record) + "\n" for record in fitted.curve)
        (draft.path / "metrics.jsonl").write_text(lines, encoding="utf-8")
        draft.info.update(
            prepared=str(prepared_path),
            fitted=_plain(asdict(fitted)),
            cost=cost.stop().as_dict(),
            rows=splits[0].n_rows,
            processes=group.n,
        )
    shutil.rmtree(checkpoint_folder, ignore_errors=True)
    group.wait()
    return True


def _train_folds(
    prepared: PreparedData, name: str, config: ExperimentConfig, out: Path, resume: bool, inputs: dict[str, Any]
) -> None:
    group, finished = processes(), folds_in_progress(out, inputs)
    names = [fold.path.name for fold in prepared.folds]
    with publish_once(out, KIND, inputs) as draft:
        if draft is not None:
            clear_other_folds(finished)
        group.wait()
        for fold in prepared.folds:
            try:
                train(fold.path, name, config, finished / fold.path.name, resume)
            except UserError as error:
                raise UserError(f"{fold.path.name}: {error}") from error
        if draft is not None:
            gather_folds(finished, names, KIND, draft)
            infos = [read_manifest(finished / each, KIND).info for each in names]
            cost = {
                "wall_s": round(sum(info["cost"]["wall_s"] for info in infos), 2),
                "peak_rss_mb": max(info["cost"]["peak_rss_mb"] for info in infos),
            }
            draft.info.update(infos[-1], prepared=str(prepared.path), cost=cost, folds=names)
    if group.leads:
        shutil.rmtree(finished.parent, ignore_errors=True)
    group.wait()


def _refuse_other_run(out: Path, name: str, prepared: PreparedData) -> None:
    """Raises a `UserError` where `out` is a finished run of another ranker or of data elsewhere.

    A run of the same ranker with other settings is replaced, and so is one whose data was prepared anew in its place,
    since no later step can use it.
    """
    try:
        manifest = read_manifest(out, KIND)
    except UserError:
        return
    ranker, data = str(manifest.inputs["ranker"]), Path(manifest.info["prepared"])
    ranker = RENAMED.get(ranker, ranker)
    is_other_data = manifest.inputs["prepared"] != prepared.manifest.fingerprint
    if ranker != name:
        what = f"it is one of {ranker}"
    elif is_other_data and data.resolve() != prepared.path.resolve():
        what = f"it was trained on {data}"
    else:
        return
    raise UserError(
        f"{out} must be new or a run of {name} on {prepared.path}, but {what}; write to another folder, or remove it"
    )


def is_trained(prepared_path: Path, name: str, config: ExperimentConfig, out: Path) -> bool:
    """Whether `out` already holds the run that `train` would make of the same arguments."""
    return is_current(out, KIND, _inputs(PreparedData.open_folds(prepared_path), name, config))


def _inputs(prepared: PreparedData, name: str, config: ExperimentConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json")
    inputs = {"prepared": prepared.manifest.fingerprint, "ranker": name, "config": settings, "version": RUN_VERSION}
    if config.neural.text.matching != "none":
        # A local folder may hold another model by now.
        inputs["text_model"] = model_fingerprint(find_model(config.neural.text.model))
    return inputs


def write_config(draft: Draft, name: str, config: ExperimentConfig) -> None:
    """Writes `config.yaml` of a run: the settings that its ranker reads.

    The run's fingerprint hashes all settings, as in runs whose `config.yaml` has them all.
    """
    read, every = (
        yaml.safe_dump(settings, sort_keys=False).encode()
        for settings in (read_settings(name, config), config.model_dump(mode="json"))
    )
    (draft.path / "config.yaml").write_bytes(read)
    draft.stand_ins["config.yaml"] = every


def resolve_experiment(
    name: str,
    file: Path | None,
    overrides: list[str],
    seed: int | None,
    preset: Literal["default", "paper"] = "default",
    settings: Mapping[str, Any] | None = None,
) -> ExperimentConfig:
    """Resolves the config of a named ranker: its preset, then a file, nested settings, assignments, then the seed.

    Args:
        name: A name in `RANKERS`.
        file: YAML with any keys of the config.
        overrides: Assignments such as `train.epochs=3`.
        seed: Seed of every draw; None leaves it to the others.
        preset: `paper` takes sizes near to those of the ranker's row in the paper's Table 2.
        settings: Nested values; see `resolve`.

    Returns:
        The config.

    Raises:
        UserError: Where the ranker is unknown or has no such preset, or a setting is not as it must be.
    """
    spec: RankerSpec = ranker_spec(name)
    seeds = [] if seed is None else [f"seed={seed}"]

    def resolved(base: Mapping[str, Any]) -> ExperimentConfig:
        return resolve(ExperimentConfig, file, [*overrides, *seeds], base=dict(base), settings=settings)

    # Only the settings say which network a blend has.
    base = spec.preset_for(resolved({})) if spec.blends else dict(spec.preset)
    if preset == "paper":
        if name not in PAPER_ROWS or not PAPER_ROWS[name].sizes:
            raise UserError(f"the preset paper needs a network of the paper's Table 2, which {name} is not")
        base = merge(base, {"neural": PAPER_ROWS[name].sizes})
    return resolved(base)


def unused_settings(name: str, config: ExperimentConfig) -> list[str]:
    """A note on the settings that were changed and that the ranker does not read; none where it reads all.

    Args:
        name: A name in `RANKERS`.
        config: The resolved config.

    Returns:
        One sentence, or none.
    """
    spec = ranker_spec(name)
    preset = spec.preset_for(config) if spec.blends else dict(spec.preset)
    sizes = PAPER_ROWS[name].sizes if name in PAPER_ROWS else {}
    presets = (preset, merge(preset, {"neural": sizes}))
    read, values = read_settings(name, config), config.model_dump(mode="json")
    unused = [
        path
        for path, default in ((each.path, each.default) for each in settings_of(ExperimentConfig) if not each.section)
        if path != "seed"
        and _at(read, path) is _ABSENT
        and _at(values, path) not in (_ABSENT, default, *(_at(each, path) for each in presets))
    ]
    if not unused:
        return []
    shown, more = unused[:NAMED_SETTINGS], len(unused) - NAMED_SETTINGS
    others = f" and {more} more" if more > 0 else ""
    return [f"note: {name} does not use {', '.join(shown)}{others}, which {'was' if len(unused) == 1 else 'were'} set"]


def _at(settings: Any, path: str) -> Any:
    """The value at a dotted path of nested settings, or `_ABSENT`."""
    for key in path.split("."):
        settings = settings.get(key, _ABSENT) if isinstance(settings, Mapping) else _ABSENT
    return settings


def problem(prepared: PreparedData, config: ExperimentConfig) -> Problem:
    """The problem that the data and the config pose."""
    left = [
        column
        for column in (*prepared.numerical_columns, *prepared.categorical_columns)
        if column.side not in config.exclude_sides and column.name not in config.exclude_features
    ]
    # Folds have the same texts, and a folder of folds holds only what its step wrote.
    data = prepared.path.parent if holds_folds(prepared.path.parent, PREPARED) else prepared.path
    return Problem(
        config=config,
        tasks=prepared.tasks,
        task_weights=config.loss_weights(prepared.tasks),
        columns=tuple(column.name for column in left),
        n_numerical=sum(column.size == 0 for column in left),
        category_sizes=tuple(column.size for column in left if column.size),
        relevance_classes=prepared.relevance_classes if config.relevance_weight > 0 else 0,
        texts=TextTables(prepared, data.parent / f".{data.name}.text_states"),
    )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(data))
