"""Training with settings that nobody should set: it trains, or one sentence says what must hold."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from shelfrank.config import (
    AgreementConfig,
    EvaluateConfig,
    ExperimentConfig,
    PrepareConfig,
    SemanticConfig,
    SemanticTrainConfig,
    TuneConfig,
)
from shelfrank.core.errors import UserError
from shelfrank.rankers.run import train
from small_log import prepare_small_log, small_tables
from tiny import tiny

RANKERS = ("xgboost", "lambdamart", "mmoe", "mmoe_dcn_v2", "ftt", "tabnet", "dcn_v2_single", "mmoe_dcn_v2_text_dot")
"""One of each family."""

HOSTILE = (
    "0", "1", "2", "-1", "0.5", "1e-300", "1e30", ".nan", ".inf", "-.inf", "131073", str(2**31 - 1), str(2**31),
    str(2**63), str(10**400), "true", "x", "''", "null", "[]", "{}", "[0]", "[1]", "[-3, 2]", "[1000000000000]",
    "[.nan]",
    "{click: 0}", "{click: -1}", "{click: .nan}", "{click: 31}", "{click: 32}", "{click: 1e308, purchase: 1e308}",
    "[customer, query, product, interaction, context]", "[no_such_feature]",
)  # fmt: skip

ENDLESS = {"train.compile", "train.threads", "neural.text.model"}
"""Settings of the machine rather than of the ranker: a compiler, threads by the thousand, folders."""


def leaves(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The dotted path of every setting."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}"


SETTINGS = [path for path in leaves(ExperimentConfig) if path not in ENDLESS]


@pytest.fixture(scope="module")
def tiny_prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small_log(tmp_path_factory.mktemp("hostile"), small_tables(30, seed=3, n_products=20))


def train_or_tell(prepared: Path, out: Path, ranker: str, *assignments: str) -> str | None:
    """Trains, or returns the sentence that says why not; any other error passes through."""
    shutil.rmtree(out, ignore_errors=True)
    try:
        train(prepared, ranker, tiny(ranker, "train.epochs=1", "train.batch_size=64", *assignments), out)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.timeout(900)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    ranker=st.sampled_from(RANKERS),
    assignments=st.lists(
        st.tuples(st.sampled_from(SETTINGS), st.sampled_from(HOSTILE)), min_size=1, max_size=2, unique_by=lambda x: x[0]
    ),
)
def test_any_setting_trains_or_is_told(
    tiny_prepared: Path, tmp_path: Path, ranker: str, assignments: list[tuple[str, str]]
) -> None:
    given = (f"{path}={value}" for path, value in assignments)
    assert "\n" not in (train_or_tell(tiny_prepared, tmp_path / "run", ranker, *given) or "")


TOLD = [
    ("xgboost", "xgboost.max_depth=31", "max_depth"),
    ("xgboost", "xgboost.learning_rate=1e-300", "learning_rate"),
    ("xgboost", "seed=2147483648", "seed"),
    ("lambdamart", "lambdamart.n_leaves=131073", "n_leaves"),
    ("lambdamart", "lambdamart.n_leaves=1", "n_leaves"),
    ("lambdamart", "lambdamart.min_rows_per_leaf=2147483648", "min_rows_per_leaf"),
    ("lambdamart", "lambdamart.grades={click: 32}", r"grades\.click"),
    ("lambdamart", "lambdamart.grades={click: -1}", r"grades\.click"),
    ("lambdamart", "lambdamart.grades={click: 0}", "grades must have one above 0"),
    ("lambdamart", "lambdamart.learning_rate=.inf", "learning_rate.*finite"),
    ("mmoe", "train.learning_rate=.nan", "learning_rate.*finite"),
    ("mmoe", "train.learning_rate=1e30", "learning_rate"),
    ("mmoe", "task_weights={click: .inf}", "task_weights.click.*finite"),
    ("mmoe", "score_weights={click: -1}", "score_weights.click"),
    ("mmoe", "neural.tower_layers=[0]", "tower_layers"),
    ("mmoe", "neural.mmoe.expert_layers=[-8]", "expert_layers"),
    ("mmoe", "neural.mmoe.n_experts=1024", None),
    ("mmoe", "neural.mmoe.expert_layers=[16384, 16384, 16384, 16384, 16384, 16384]", "parameters take"),
    ("ftt", "neural.ft_transformer.ffn_multiplier=0.01", "ffn_multiplier"),
    ("mmoe", "train.batch_size=1", None),
    ("mmoe", "train.batch_size=2", None),
    ("tabnet", "train.batch_size=1", None),
    ("mmoe_dcn_v2_text_dot", "train.batch_size=1", None),
    ("xgboost", "xgboost.n_rounds=1", None),
    ("lambdamart", "lambdamart.min_rows_per_leaf=2147483647", None),
]


@pytest.mark.parametrize(("ranker", "assignment", "sentence"), TOLD, ids=[case[1][:60] for case in TOLD])
def test_a_limit_is_named_or_none_is_met(
    tiny_prepared: Path, tmp_path: Path, ranker: str, assignment: str, sentence: str | None
) -> None:
    if sentence is None:
        assert train_or_tell(tiny_prepared, tmp_path / "run", ranker, assignment) is None
    else:
        with pytest.raises(UserError, match=sentence):
            train(tiny_prepared, ranker, tiny(ranker, assignment), tmp_path / "run")


PARTS = (
    ExperimentConfig,
    PrepareConfig,
    EvaluateConfig,
    TuneConfig,
    AgreementConfig,
    SemanticConfig,
    SemanticTrainConfig,
)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_number_has_bounds(part: type[BaseModel]) -> None:
    schema = part.model_json_schema()

    def numbers(found: Any) -> Iterator[dict[str, Any]]:
        if isinstance(found, dict):
            if found.get("type") in {"integer", "number"}:
                yield found
            for inner in found.values():
                yield from numbers(inner)
        elif isinstance(found, list):
            for inner in found:
                yield from numbers(inner)

    for number in numbers(schema):
        assert {"minimum", "exclusiveMinimum"} & number.keys(), number
        assert {"maximum", "exclusiveMaximum"} & number.keys(), number
