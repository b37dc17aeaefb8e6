"""Census-Income becomes prepared data that `train` and `evaluate` read: tasks, features, split, encoding."""

import csv
import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from census_files import random_people, write_census, write_part

from shelfrank.config import EvaluateConfig
from shelfrank.core.errors import UserError
from shelfrank.core.schema import Side
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.evaluate.evaluation import evaluate
from shelfrank.features.encoder import Encoder
from shelfrank.paper.census.columns import COLUMNS, GROUPS
from shelfrank.paper.census.prepare import prepare_census
from shelfrank.rankers.run import Run, train
from tiny import tiny

EXCERPT = Path(__file__).resolve().parents[3] / "../shared/data/census"
COLLEGE = {
    "Associates degree-occup /vocational",
    "Associates degree-academic program",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
}

OFFICIAL_COLUMNS = ("education", "marital_status", "capital_gains", "income")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_census(tmp_path_factory.mktemp("census") / "raw")


@pytest.fixture(scope="module")
def prepared(folder: Path) -> dict[str, PreparedData]:
    """Each group prepared once for all tests, which must only read it."""
    for group in GROUPS:
        prepare_census(folder, folder.parent / group, group)
    return {group: PreparedData.open(folder.parent / group) for group in GROUPS}


def column(data: PreparedData, split: str, name: str) -> np.ndarray:
    rows = data.split(split)
    names = [code.name for code in data.categorical_columns]
    return rows.categorical[:, names.index(name)] if name in names else rows.column(name)


def plain_labels(people: list[dict[str, str]], group: str) -> list[list[int]]:
    made = {
        "income": lambda person: int(person["income"] == "50000+."),
        "education": lambda person: int(person["education"] in COLLEGE),
        "never_married": lambda person: int(person["marital_status"] == "Never married"),
    }
    return [[made[task](person) for task in GROUPS[group]] for person in people]


@pytest.mark.parametrize("group", GROUPS)
def test_labels_are_the_groups_tasks_of_all_rows_in_the_files_order(
    group: str, prepared: dict[str, PreparedData]
) -> None:
    data = prepared[group]
    assert data.tasks == (group, "never_married")
    assert data.split("train").labels.tolist() == plain_labels(random_people(300, 0), group)
    test = random_people(201, 1)
    for name in ("valid", "test"):
        rows = [int(search.removeprefix("test-")) - 1 for search in data.searches(name)["search_id"].to_pylist()]
        assert rows == sorted(rows)
        assert data.split(name).labels.tolist() == plain_labels([test[row] for row in rows], group)


@pytest.mark.parametrize(
    ("group", "targets"),
    [("income", {"income", "marital_status"}), ("education", {"education", "marital_status"})],
)
def test_features_are_the_40_attributes_without_the_groups_targets_and_every_other_column_is_told(
    group: str, targets: set[str], prepared: dict[str, PreparedData]
) -> None:
    data = prepared[group]
    features = {column.name for column in (*data.numerical_columns, *data.categorical_columns)}
    left_out = data.manifest.info["left_out_features"]
    assert {name for name, why in left_out.items() if why == "a task is made of it"} == targets
    assert {"instance_weight", "income", *targets} <= left_out.keys()
    assert not features & left_out.keys()
    assert features | left_out.keys() == set(COLUMNS)
    assert {column.side for column in (*data.numerical_columns, *data.categorical_columns)} == {Side.CUSTOMER}


def test_the_official_test_file_is_halved_into_validation_and_test(prepared: dict[str, PreparedData]) -> None:
    ids = {name: prepared["income"].searches(name)["search_id"].to_pylist() for name in SPLITS}
    assert ids["train"] == [f"data-{row}" for row in range(1, 301)]
    assert (len(ids["valid"]), len(ids["test"])) == (100, 101)
    assert {*ids["valid"], *ids["test"]} == {f"test-{row}" for row in range(1, 202)}
    for name in SPLITS:
        assert prepared["education"].searches(name)["search_id"].to_pylist() == ids[name]
    # A hash of the row's number decides, not its place: neither half is the beginning of the file.
    assert 20 < len({f"test-{row}" for row in range(1, 101)} & {*ids["valid"]}) < 80


def test_every_person_is_a_search_of_their_own(prepared: dict[str, PreparedData]) -> None:
    data = prepared["income"]
    keys, customers = set(), []
    for name in SPLITS:
        split = data.split(name)
        assert split.search_offsets.tolist() == list(range(split.n_rows + 1))
        assert data.searches(name)["customer_id"].to_pylist() == data.searches(name)["search_id"].to_pylist()
        keys |= set(split.tie_keys.tolist())
        customers += split.customer_idx.tolist()
    assert len(keys) == 501
    assert sorted(customers) == list(range(501))


def test_numbers_are_standardised_on_the_training_rows_amounts_by_their_logarithm(
    prepared: dict[str, PreparedData],
) -> None:
    train_people, test_people = random_people(300, 0), random_people(201, 1)
    order = [int(i.removeprefix("test-")) - 1 for i in prepared["income"].searches("test")["search_id"].to_pylist()]
    for name, change in (("age", np.asarray), ("capital_gains", np.log1p)):
        raw = change(np.array([float(person[name]) for person in train_people]))
        shown = change(np.array([float(test_people[row][name]) for row in order]))
        expected = (shown - raw.mean()) / raw.std()
        np.testing.assert_allclose(column(prepared["income"], "test", name), expected, rtol=1e-5)


def test_a_category_that_the_training_rows_lack_is_unknown(tmp_path: Path) -> None:
    people = random_people(60)
    # Five rows are what a category needs.
    train_codes = ["7"] * 5 + ["8"] * 4 + ["0"] * 51
    write_part(tmp_path, "data", [{**p, "industry_code": c} for p, c in zip(people, train_codes, strict=True)])
    write_part(tmp_path, "test", [{**p, "industry_code": c} for p, c in zip(people, ["9"] * 60, strict=True)])
    prepare_census(tmp_path, tmp_path / "out", "income")
    data = PreparedData.open(tmp_path / "out")
    assert column(data, "train", "industry_code").tolist() == [2] * 5 + [0] * 4 + [1] * 51
    assert not column(data, "test", "industry_code").any()
    encoder = Encoder.load(tmp_path / "out" / "encoder.json")
    assert next(e.values for e in encoder.categorical if e.name == "industry_code") == ("0", "7")


def test_the_test_file_changes_nothing_of_the_training_arrays(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "raw"
    shutil.copytree(folder, other)
    write_part(other, "test", random_people(50, seed=7))
    prepare_census(other, tmp_path / "out", "income")
    prepare_census(folder, tmp_path / "same", "income")
    files = [file.relative_to(tmp_path / "same") for file in (tmp_path / "same" / "train").iterdir()]
    for file in (*files, Path("encoder.json"), Path("columns.json")):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "same" / file).read_bytes(), file


def test_what_is_prepared_is_prepared_once_for_the_same_bytes(tmp_path: Path) -> None:
    raw = write_census(tmp_path / "raw", 60, 40)
    assert prepare_census(raw, tmp_path / "out", "income")
    assert not prepare_census(raw, tmp_path / "out", "income")
    write_part(raw, "test", random_people(40, seed=9))
    assert prepare_census(raw, tmp_path / "out", "income")


def test_an_unknown_group_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown group 'incom': choose one of education, income; did you mean 'incom"):
        prepare_census(folder, tmp_path / "out", "incom")


@pytest.mark.parametrize("ranker", ["mmoe", "mmoe_dcn_v2"])
def test_rankers_are_trained_and_measured_on_it_as_on_a_shop(
    ranker: str, prepared: dict[str, PreparedData], tmp_path: Path
) -> None:
    train(prepared["income"].path, ranker, tiny(ranker), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.ranker(run.prepared()).score(run.prepared().split("test")).shape == (101, 2)
    evaluate(tmp_path / "run", tmp_path / "evaluation", EvaluateConfig(n_resamples=10, n_resamples_auc=10))


@pytest.fixture(scope="module")
def official() -> dict[str, list[dict[str, str]]]:
    parts = {part: EXCERPT / f"census-income.{part}.gz" for part in ("data", "test")}
    if not all(file.is_file() for file in parts.values()):
        pytest.skip("the Census-Income data is not beside the checkout (shared/data/census)")
    people = {}
    for part, file in parts.items():
        with gzip.open(file, "rt", encoding="utf-8", newline="") as opened:
            rows = csv.reader(opened, skipinitialspace=True)
            people[part] = [{name: row[COLUMNS.index(name)] for name in OFFICIAL_COLUMNS} for row in rows]
    return people


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_the_official_files_agree_with_a_plain_loop(
    group: str, official: dict[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    prepare_census(EXCERPT, tmp_path / "out", group)
    data = PreparedData.open(tmp_path / "out")
    train_labels, test_labels = (np.array(plain_labels(official[part], group)) for part in ("data", "test"))
    np.testing.assert_array_equal(data.split("train").labels, train_labels)
    halves = {
        name: [int(i.removeprefix("test-")) - 1 for i in data.searches(name)["search_id"].to_pylist()]
        for name in ("valid", "test")
    }
    assert [len(rows) for rows in halves.values()] == [49_881, 49_881]
    for name, rows in halves.items():
        np.testing.assert_array_equal(data.split(name).labels, test_labels[rows])
    rates = {"income": 0.0621, "education": 0.1964, "never_married": 0.4335}
    np.testing.assert_allclose(train_labels.mean(axis=0), [rates[task] for task in GROUPS[group]], atol=5e-5)
    # What the MMoE paper prints, of 10,000 random rows.
    printed = {"income": 0.1768, "education": 0.2373}[group]
    assert abs(np.corrcoef(train_labels.T)[0, 1]) == pytest.approx(printed, abs=0.01)
    gains = np.log1p(np.array([float(person["capital_gains"]) for person in official["data"]]))
    standardised = (gains - gains.mean()) / gains.std()
    np.testing.assert_allclose(column(data, "train", "capital_gains"), standardised, atol=1e-4)
