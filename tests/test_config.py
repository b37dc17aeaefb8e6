from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from shelfrank import config
from shelfrank.config import (
    EngineConfig,
    EvaluateConfig,
    ExperimentConfig,
    NeuralConfig,
    PrepareConfig,
    SplitConfig,
    TuneConfig,
    resolve,
)
from shelfrank.config.settings import attribute_meanings, settings_of
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.settings import STEPS
from shelfrank.simulator.config import StorefrontConfig

DOTTED: list[tuple[type[BaseModel], str, Any]] = [
    (ExperimentConfig, "neural.mmoe.n_experts=3", 3),
    (ExperimentConfig, "neural.mmoe.expert_layers=[8, 4]", (8, 4)),
    (ExperimentConfig, "neural.tower_layers=[]", ()),
    (ExperimentConfig, "train.learning_rate=1e-3", 0.001),
    (ExperimentConfig, "train.learning_rate=null", None),
    (ExperimentConfig, "exclude_sides=[customer]", (Side.CUSTOMER,)),
    (ExperimentConfig, "task_weights={click: 1, purchase: 2}", {"click": 1.0, "purchase": 2.0}),
    (PrepareConfig, "upstream_order=true", True),
    (PrepareConfig, "split.by=search_id", "search_id"),
    (PrepareConfig, " page =no", False),
    (EvaluateConfig, "ks=[10]", (10,)),
]


@pytest.mark.parametrize(("model", "assignment", "value"), DOTTED, ids=[case[1] for case in DOTTED])
def test_set_takes_a_yaml_value_at_a_path(model: type[BaseModel], assignment: str, value: Any) -> None:
    found: Any = resolve(model, overrides=[assignment])
    for part in assignment.partition("=")[0].strip().split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("train.pointwise_weight=0",), r"train: pointwise_weight and listwise_weight must not both be 0"),
        (
            ("neural.n_networks=2", "neural.text.matching=dot"),
            r"neural: n_networks must be 1 .* 2 with text.matching dot",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(ExperimentConfig, overrides=assignments)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("min_count", "--set must look like a.b=value, but it is 'min_count'"),
        ("=3", "--set must look like a.b=value, but it is '=3'"),
        ("history.affinity=[brand", r"--set history.affinity must have a YAML value, but it is '\[brand'"),
        ("history.afinity=[brand]", r"config: history.afinity: unknown key, did you mean history.affinity\?$"),
        ("min_count=many", r"config: min_count: Input should be a valid integer.* \(given 'many'\)"),
        ("min_count=0", r"config: min_count: Input should be greater than or equal to 1 \(given 0\)"),
        ("min_count.deep=1", r"min_count: Input should be a valid integer \(given \{'deep': 1\}\)"),
        ("engine.memory_limit=lots", r"engine.memory_limit: .* \(given 'lots'\)"),
        ("split.train=0.95", r"split: train and valid must leave a share for test, but they add up to 1.05"),
        ("history.prior_rates={view: 1}", "history.prior_rates.view"),
    ],
)
def test_a_wrong_assignment_is_one_sentence_that_names_its_path(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve(PrepareConfig, overrides=[assignment])
    assert "\n" not in str(caught.value)


def test_set_wins_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "prepare.yaml"
    file.write_text("min_count: 2\nhistory: {query: false, session: false}\n")
    base = {"min_count": 1, "max_categories": 7, "history": {"customer": False, "session": True}}
    config = resolve(PrepareConfig, file, ["history.session=true", "history.session=false", "page=false"], base)
    assert (config.min_count, config.max_categories, config.page) == (2, 7, False)
    history = config.history
    assert (history.customer, history.query, history.session, history.product) == (False, False, False, True)
    assert base["history"] == {"customer": False, "session": True}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["lambdamart=5", "lambdamart.n_rounds=3"],
            r"lambdamart must .* lambdamart.n_rounds is set, .* set to 5 before",
        ),
        (
            ["neural.mmoe=no", "neural.mmoe.n_experts=3"],
            r"neural.mmoe must .* neural.mmoe.n_experts is set.* set to False",
        ),
        (
            ["neural=[1]", "neural={d_embedding: 4}"],
            r"neural must .* neural.d_embedding is set, .* set to \[1\] before",
        ),
    ],
)
def test_a_key_below_a_value_that_is_no_mapping_is_an_error(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(ExperimentConfig, overrides=overrides)


def test_a_key_below_a_value_of_a_file_that_is_no_mapping_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("lambdamart: 5\n")
    with pytest.raises(UserError, match="lambdamart must hold keys and values"):
        resolve(ExperimentConfig, file, ["lambdamart.n_rounds=3"])


def test_weights_of_a_later_layer_replace_the_earlier_ones_whole() -> None:
    base = {"task_weights": {"click": 0.5, "purchase": 0.5}}
    config = resolve(ExperimentConfig, overrides=["task_weights={add_to_cart: 1}"], base=base)
    assert config.task_weights == {"add_to_cart": 1.0}


def test_an_error_of_a_file_begins_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "prepare.yaml"
    file.write_text("split: {by: moon}\nfoo: 1\n")
    with pytest.raises(
        UserError, match=r"prepare.yaml: split.by: .*'time', 'search_id' or 'forward' \(given 'moon'\); foo: unk"
    ):
        resolve(PrepareConfig, file)
    file.write_text("- 1\n")
    with pytest.raises(UserError, match=r"prepare.yaml must hold keys and values, but it holds list"):
        resolve(PrepareConfig, file)


def test_an_error_blames_the_place_that_has_the_key(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("lambdamart: {n_rounds: 3}\ntrain: {epoch: 1}\n")
    with pytest.raises(UserError) as caught:
        resolve(ExperimentConfig, file, ["seed=-1"], settings={"train": {"epochs": "x"}})
    mine, _, of_file = str(caught.value).partition(f"; {file}: ")
    assert mine.startswith("config: ")
    assert ("train.epochs: " in mine, "seed: " in mine) == (True, True)
    assert of_file.startswith("train.epoch: unknown key")
    file.write_text("split: {train: 0.9}\n")
    with pytest.raises(UserError, match=r"^config: split: train and valid must leave a share"):
        resolve(PrepareConfig, file, settings={"split": {"valid": 0.2}})


def test_a_file_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a YAML file, but it is a folder$"):
        resolve(PrepareConfig, tmp_path)


def test_a_key_with_dots_is_answered_with_how_keys_are_nested() -> None:
    with pytest.raises(UserError, match=r"train.epochs: unknown key, since keys are nested; write epochs under train$"):
        resolve(ExperimentConfig, settings={"train.epochs": 3})
    with pytest.raises(UserError, match=r"train.epoch: unknown key, did you mean train.epochs\?$"):
        resolve(ExperimentConfig, settings={"train.epoch": 3})


def test_a_long_value_is_cut_in_an_error() -> None:
    with pytest.raises(UserError) as caught:
        resolve(ExperimentConfig, settings={"train": {"epochs": "\n".join(["x"] * 5000)}})
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [PrepareConfig, ExperimentConfig, EvaluateConfig])
def test_the_resolved_config_reads_back_as_itself(model: type[BaseModel]) -> None:
    assert model.model_validate(model().model_dump(mode="json")) == model()


@pytest.mark.parametrize("size", ["1000MB", "1.5GB", "2 GiB", "300KB", "1TB"])
def test_sizes_as_the_engine_spells_them(size: str) -> None:
    assert EngineConfig(memory_limit=size).memory_limit == size


def test_a_split_leaves_room_for_the_test_searches() -> None:
    with pytest.raises(ValueError, match=r"must leave a share for test, but they add up to 1 "):
        SplitConfig(train=0.9, valid=0.1)


@pytest.mark.parametrize(
    ("model", "assignment", "advice"),
    [
        (ExperimentConfig, "train.epoch=3", "train.epoch: unknown key, did you mean train.epochs?"),
        (ExperimentConfig, "epochs=3", "epochs: unknown key, did you mean train.epochs?"),
        (ExperimentConfig, "n_epochs=3", "n_epochs: unknown key, did you mean train.epochs?"),
        (ExperimentConfig, "trian.epochs=3", "trian: unknown key, did you mean train.epochs?"),
        (ExperimentConfig, "mmoe.n_expert=3", "mmoe: unknown key, did you mean neural.mmoe.n_experts?"),
        (ExperimentConfig, "neural.text.modle=x", "neural.text.modle: unknown key, did you mean neural.text.model?"),
        (ExperimentConfig, "task_weight={click: 1}", "task_weight: unknown key, did you mean task_weights?"),
        (
            ExperimentConfig,
            "n_rounds=9",
            "did you mean xgboost.n_rounds, lambdamart.n_rounds, xgboost_ranking.n_rounds or ",
        ),
        (ExperimentConfig, "neural.mmoe.zzz=3", "neural.mmoe.zzz: unknown key, choose one of neural.mmoe.n_experts, "),
        (ExperimentConfig, "zzz={}", "zzz: unknown key, choose one of seed, task_weights, "),
        (PrepareConfig, "sampling.alhpa=0.5", "sampling.alhpa: unknown key, did you mean sampling.alpha?"),
        (PrepareConfig, "split.test=0.1", "split.test: unknown key, choose one of split.by, split.train, split.valid"),
        (PrepareConfig, "tests=0.1", "tests: unknown key, choose one of split, "),
        (
            ExperimentConfig,
            "train.n_rounds=3",
            "did you mean xgboost.n_rounds, lambdamart.n_rounds, xgboost_ranking.n_rounds or ",
        ),
        (StorefrontConfig, "search=9", "search: unknown key, did you mean searches?"),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" in value else "",
)
def test_an_unknown_key_is_answered_with_the_nearest(model: type[BaseModel], assignment: str, advice: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(model, overrides=[assignment])
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_of_a_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("train: {epoch: 3}\nlearningrate: 1\n")
    with pytest.raises(UserError, match=r"train.yaml: train.epoch: .*train.epochs\?; learningrate: .*train.learning"):
        resolve(ExperimentConfig, file)


def config_classes(model: type[BaseModel]) -> set[type[BaseModel]]:
    return {model, *(setting.section for setting in settings_of(model) if setting.section is not None)}


CONFIG_CLASSES = sorted(
    {each for model in [*STEPS.values(), TuneConfig] for each in config_classes(model)}, key=lambda each: each.__name__
)


@pytest.mark.parametrize("model", CONFIG_CLASSES)
def test_every_setting_has_a_meaning(model: type[BaseModel]) -> None:
    assert [setting.path for setting in settings_of(model) if not setting.meaning] == []
    assert attribute_meanings(model).keys() <= model.model_fields.keys()


def test_every_config_class_belongs_to_a_step() -> None:
    assert {name for name in config.__all__ if name.endswith("Config")} <= {each.__name__ for each in CONFIG_CLASSES}


def test_the_meaning_of_an_attribute_is_parsed_as_one_line() -> None:
    class Described:
        """Has attributes.

        Attributes:
            first: Ends here: soon.
            second: Goes on
                in the next line.

        More prose, with a word: and a colon.
        """

    assert attribute_meanings(Described) == {"first": "Ends here: soon.", "second": "Goes on in the next line."}
    assert attribute_meanings(int) == {}


@pytest.mark.parametrize(
    ("model", "path", "values", "default"),
    [
        (ExperimentConfig, "train.epochs", "whole number from 1 to 100000", 10),
        (ExperimentConfig, "train.batch_size", "whole number of 1 or more, or null", None),
        (ExperimentConfig, "train.learning_rate", "number above 0 up to 10, or null", None),
        (ExperimentConfig, "train.compile", "true or false", False),
        (ExperimentConfig, "neural.dropout", "number from 0 below 1", 0.0),
        (ExperimentConfig, "neural.text.matching", "none, cross or dot", "none"),
        (ExperimentConfig, "neural.mmoe.expert_layers", "list (not empty): whole number from 1 to 16384", [128, 64]),
        (ExperimentConfig, "exclude_sides", "list: customer, query, product, interaction or context", []),
        (PrepareConfig, "engine.spark.settings", "mapping of any name to text", {}),
        (TuneConfig, "sizes.n_layers", "list of 2: whole number from 1 to 64", [1, 4]),
    ],
)
def test_a_setting_has_its_values_in_words_and_its_default(
    model: type[BaseModel], path: str, values: str, default: Any
) -> None:
    found = [(setting.values, setting.default) for setting in settings_of(model) if setting.path == path]
    assert found == [(values, default)]


def test_of_a_config_object_only_what_was_set_counts() -> None:
    merged = config.merge({"neural": {"bottom": "none", "d_embedding": 8}}, {"neural": NeuralConfig(d_embedding=4)})
    assert merged == {"neural": {"bottom": "none", "d_embedding": 4}}
