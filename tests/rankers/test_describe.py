"""Counts of parameters: the paper's, the network's own, and what has none."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shelfrank.cli import app
from shelfrank.core.errors import UserError
from shelfrank.data.prepared import PreparedData
from shelfrank.rankers import RANKERS
from shelfrank.rankers.describe import describe
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.paper import PAPER_ROWS
from shelfrank.rankers.run import problem, resolve_experiment
from tiny import add_relevance, tiny

NETWORKS = [name for name, spec in RANKERS.items() if spec.build is NeuralRanker]


@pytest.mark.parametrize("name", [name for name, row in PAPER_ROWS.items() if row.trainable])
def test_the_papers_preset_comes_within_a_tenth_of_the_papers_counts(name: str) -> None:
    found = describe(name, resolve_experiment(name, None, [], None, "paper"))
    row = PAPER_ROWS[name]
    assert found.trainable == pytest.approx(row.trainable, rel=0.1)
    assert found.total == pytest.approx(row.total, rel=0.1)
    assert (found.frozen > 0) == ("text" in name)
    assert (found.paper_label, found.paper_total) == (row.label, row.total)


def test_every_row_of_the_papers_table_2_is_a_ranker() -> None:
    assert set(PAPER_ROWS) <= set(RANKERS)
    in_table = [row for name, row in PAPER_ROWS.items() if not name.endswith("_dot")]
    assert len(in_table) == 10


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("with_relevance", [False, True])
def test_the_counts_are_those_of_the_ranker_itself(
    name: str, with_relevance: bool, small_prepared: Path, tmp_path: Path
) -> None:
    data = add_relevance(small_prepared, tmp_path / "graded") if with_relevance else small_prepared
    prepared, config = PreparedData.open(data), tiny(name)
    ranker = NeuralRanker(problem(prepared, config))
    found = describe(name, config, prepared)
    assert found.parts == ranker.model.parameter_counts()
    assert found.trainable == sum(p.numel() for p in ranker.model.parameters() if p.requires_grad)
    assert found.frozen == (ranker.texts.encoder.n_frozen if ranker.texts else 0)


@pytest.mark.parametrize("name", ["xgboost", "popularity"])
def test_what_is_no_network_is_told(name: str) -> None:
    with pytest.raises(UserError, match=f"counts the parameters of networks, but {name}"):
        describe(name, resolve_experiment(name, None, [], None))


@pytest.mark.parametrize("name", ["xgboost", "dcn_v2"])
def test_the_papers_preset_of_what_the_paper_has_not_is_told(name: str) -> None:
    with pytest.raises(UserError, match=f"needs a network of the paper's Table 2, which {name} is not"):
        resolve_experiment(name, None, [], None, "paper")


def test_own_settings_come_on_top_of_the_preset() -> None:
    config = resolve_experiment("ftt", None, ["neural.ft_transformer.n_blocks=1"], None, "paper").neural
    assert (config.d_embedding, config.ft_transformer.n_blocks, config.bottom) == (192, 1, "ft_transformer")


def test_the_command_prints_the_counts_beside_the_papers() -> None:
    run = CliRunner().invoke(app, ["describe", "mmoe", "--preset", "paper"])
    assert run.exit_code == 0
    assert "paper 100,000 (-" in run.output
    data = json.loads(CliRunner().invoke(app, ["describe", "mmoe", "--json"]).output)
    assert data["trainable"] == sum(data["parts"].values())
