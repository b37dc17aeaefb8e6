"""Graphs say what the networks say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from plain_loops import random_columns
from shelfrank.bundle.onnx import QueryGraph, RankerGraph, export_query_encoder, export_ranker, quantize
from shelfrank.bundle.queries import QueryEncoder
from shelfrank.bundle.scorers import open_graph
from shelfrank.nn.bottoms.tabnet import Sparsemax, _sparsemax_by_sorting
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.matching import TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers import RANKERS
from shelfrank.text.bert import load_cut_encoder
from tiny import tiny, tiny_bert

N_NUMERICAL, SIZES, N_TASKS, D_TEXT = 4, (5, 3, 2), 3, 6
NETWORKS = [name for name, spec in RANKERS.items() if "neural" in spec.preset]


def network(name: str, sizes: tuple[int, ...] = SIZES) -> MultiTaskRanker:
    """A network whose batch normalisation has seen something."""
    torch.manual_seed(3)
    config = tiny(name).neural
    trained = None if config.text.matching == "none" else TrainedLayers([], D_TEXT)
    model = MultiTaskRanker(N_NUMERICAL, sizes, N_TASKS, config, trained_layers=trained)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.1, 0.5)
    torch.nn.init.uniform_(model.towers.out.weight, -4, 4)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_and_its_graph_agree_for_any_number_of_rows(name: str, tmp_path: Path) -> None:
    model = network(name)
    export_ranker(model, N_NUMERICAL, len(SIZES), tmp_path / "graph.onnx")
    session = open_graph(tmp_path / "graph.onnx")
    for n_rows in (1, 2, 40):
        numerical, categorical = random_columns(n_rows, N_NUMERICAL, SIZES, n_rows)
        given = {"numerical": numerical, "categorical": categorical}
        if model.text is not None:
            given |= {"query": torch.rand(1, D_TEXT), "products": torch.rand(n_rows, D_TEXT)}
        with torch.no_grad():
            expected = RankerGraph(model)(*given.values())
        probs, *gates = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        assert probs.shape == (n_rows, N_TASKS)
        np.testing.assert_allclose(probs, expected[0].numpy(), atol=1e-4)
        assert len(gates) == len(expected) - 1 == isinstance(model.head, MMoE)
        if gates:
            np.testing.assert_allclose(gates[0], expected[1].numpy(), atol=1e-4)
            np.testing.assert_allclose(gates[0].sum(axis=2), 1, atol=1e-5)
    spread = float(probs.std(axis=0).max())
    assert spread > 1e-3, "rows that all score alike would test nothing"


def test_a_network_without_categories_has_a_graph(tmp_path: Path) -> None:
    model = network("mmoe", sizes=())
    export_ranker(model, N_NUMERICAL, 0, tmp_path / "graph.onnx")
    session = open_graph(tmp_path / "graph.onnx")
    numerical = torch.rand(7, N_NUMERICAL)
    given = {"numerical": numerical.numpy(), "categorical": np.empty((7, 0), np.int32)}
    (probs,) = session.run(["probs"], {each.name: given[each.name] for each in session.get_inputs()})
    with torch.no_grad():
        expected = RankerGraph(model)(numerical, torch.empty(7, 0, dtype=torch.int32))[0]
    np.testing.assert_allclose(probs, expected.numpy(), atol=1e-5)


def test_sparsemax_by_sorting_is_sparsemax() -> None:
    z = torch.randn(9, 1, 50, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 3, 50)
    torch.testing.assert_close(_sparsemax_by_sorting(z), Sparsemax.apply(z))


@pytest.mark.parametrize("trained_layers", [0, 1, 2])
def test_queries_get_the_vector_that_training_gave_them(trained_layers: int, tmp_path: Path) -> None:
    encoder = load_cut_encoder(str(tiny_bert()), trained_layers)
    trained = TrainedLayers(encoder.trained, encoder.d).eval()
    export_query_encoder(encoder, trained, "fp16", tmp_path / "query.onnx")
    encoder.tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    queries = QueryEncoder(tmp_path / "query.onnx", tmp_path / "tokenizer.json", 8, cached=2)
    texts = ["red sofa 3", "", "sofa", "a b c d e f g h i j k l m n o p", "Größe ☃ \x00"]
    assert [queries.tokens(text) for text in texts] == encoder.tokenize(texts, 8)[0]
    for text in texts:
        ids = torch.tensor(encoder.tokenize([text], 8)[0])
        with torch.no_grad():
            expected = QueryGraph(encoder, trained, "fp16")(ids).numpy()
        np.testing.assert_allclose(queries.vector(text), expected, atol=1e-4)
        assert queries.vector(text) is queries.vector(text)
    assert queries.misses == len(texts)


def test_the_cache_forgets_what_was_not_used_lately(tmp_path: Path) -> None:
    encoder = load_cut_encoder(str(tiny_bert()), 1)
    export_query_encoder(encoder, TrainedLayers(encoder.trained, encoder.d), "bf16", tmp_path / "query.onnx")
    encoder.tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    queries = QueryEncoder(tmp_path / "query.onnx", tmp_path / "tokenizer.json", 8, cached=2)
    for text in ("sofa", "lamp", "sofa", "desk", "sofa", "lamp"):
        queries.vector(text)
    assert (queries.hits, queries.misses) == (2, 4)


def test_eight_bits_come_near(tmp_path: Path) -> None:
    model = network("mmoe_dcn_v2")
    export_ranker(model, N_NUMERICAL, len(SIZES), tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    numerical, categorical = random_columns(30, N_NUMERICAL, SIZES, 1)
    given = {"numerical": numerical.numpy(), "categorical": categorical.numpy()}
    (exact,), (near,) = (open_graph(tmp_path / f"{name}.onnx").run(["probs"], given) for name in ("fp32", "int8"))
    assert 0 < np.abs(exact - near).max() < 0.05
