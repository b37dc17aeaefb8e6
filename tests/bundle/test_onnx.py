"""Graphs say what the networks say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from plain_loops import random_columns
from shelfrank.bundle.onnx import (
    QueryGraph,
    RankerGraph,
    SharedGraph,
    export_query_encoder,
    export_ranker,
    export_shared_encoder,
    quantize,
    scale_rows,
    untrained_layers,
)
from shelfrank.bundle.queries import QueryEncoder, QueryReader
from shelfrank.bundle.scorers import open_graph
from shelfrank.nn.bottoms.tabnet import Sparsemax, _sparsemax_by_sorting
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.matching import TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers import RANKERS
from shelfrank.text.bert import CutEncoder, load_cut_encoder
from shelfrank.text.encoder import TextEncoder, load_encoder
from tiny import tiny, tiny_bert
from tiny_encoder import save_tiny_encoder

N_NUMERICAL, SIZES, N_TASKS, D_TEXT = 4, (5, 3, 2), 3, 6
TEXTS = ["red sofa 3", "", "sofa", "a b c d e f g h i j k l m n o p", "Größe ☃ \x00"]
NETWORKS = [name for name, spec in RANKERS.items() if "neural" in spec.preset]


def network(name: str, sizes: tuple[int, ...] = SIZES) -> MultiTaskRanker:
    """A network whose batch normalisation has seen something, and whose rows differ as a trained one's do."""
    torch.manual_seed(3)
    config = tiny(name).neural
    trained = None if config.text.matching == "none" else TrainedLayers([], D_TEXT)
    model = MultiTaskRanker(N_NUMERICAL, sizes, N_TASKS, config, trained_layers=trained)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.1, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
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


def encoders(folder: Path, encoder: CutEncoder, *max_tokens: int) -> tuple[QueryEncoder, ...]:
    """What reads queries with a folder's graph."""
    encoder.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return QueryReader(folder / "query.onnx", folder / "tokenizer.json", max_tokens, cached=2).make_encoders()


@pytest.mark.parametrize("trained_layers", [0, 1, 2])
def test_queries_get_the_vector_that_training_gave_them(trained_layers: int, tmp_path: Path) -> None:
    encoder = load_cut_encoder(str(tiny_bert()), trained_layers)
    trained = TrainedLayers(encoder.trained, encoder.d).eval()
    export_query_encoder(encoder, trained, "fp16", tmp_path / "query.onnx")
    (queries,) = encoders(tmp_path, encoder, 8)
    assert [queries.tokens(text) for text in TEXTS] == encoder.tokenize(TEXTS, 8)[0]
    for text in TEXTS:
        ids = torch.tensor(encoder.tokenize([text], 8)[0])
        with torch.no_grad():
            expected = QueryGraph(encoder, trained, "fp16")(ids).numpy()
        np.testing.assert_allclose(queries.vector(text), expected, atol=1e-4)
        assert queries.vector(text) is queries.vector(text)
    assert queries.misses == len(TEXTS)


@pytest.mark.parametrize("trained_layers", [0, 1, 2])
@pytest.mark.parametrize("limits", [(8, 8), (6, 8), (8, 6)])
def test_one_pass_gives_both_vectors_of_a_query(trained_layers: int, limits: tuple[int, int], tmp_path: Path) -> None:
    encoder, semantic = both(save_tiny_encoder(tmp_path / "model"), trained_layers)
    trained = TrainedLayers(encoder.trained, encoder.d).eval()
    rest = untrained_layers(encoder, semantic)
    assert rest is not None
    assert len(rest) == trained_layers
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter.detach(), std=0.2)
    export_shared_encoder(SharedGraph(QueryGraph(encoder, trained, "fp16"), rest), tmp_path / "query.onnx")
    matching, meaning = encoders(tmp_path, encoder, *limits)
    semantic.model.max_seq_length = limits[1]
    for text in TEXTS:
        with torch.no_grad():
            vector = QueryGraph(encoder, trained, "fp16")(torch.tensor(encoder.tokenize([text], limits[0])[0]))
            embedding = semantic.forward([text])
        np.testing.assert_allclose(meaning.vector(text), embedding.numpy(), atol=1e-4)
        np.testing.assert_allclose(matching.vector(text), vector.numpy(), atol=1e-4)
        assert meaning.vector(text) is meaning.vector(text)
        assert matching.vector(text) is matching.vector(text)
    n_cut = sum(matching.tokens(text) != meaning.tokens(text) for text in TEXTS)
    assert n_cut == (limits[0] != limits[1])
    assert (meaning.misses, matching.misses) == (len(TEXTS), n_cut)


def test_a_vector_that_is_not_asked_for_is_not_computed(tmp_path: Path) -> None:
    encoder, semantic = both(save_tiny_encoder(tmp_path / "model"), 1)
    rest = untrained_layers(encoder, semantic)
    assert rest is not None
    graph = QueryGraph(encoder, TrainedLayers(encoder.trained, encoder.d), "bf16")
    export_shared_encoder(SharedGraph(graph, rest), tmp_path / "query.onnx")
    matching, meaning = encoders(tmp_path, encoder, 8, 8)
    matching.vector("sofa")
    meaning.vector("sofa")
    assert (matching.misses, meaning.misses) == (1, 1)


def both(folder: Path, trained_layers: int) -> tuple[CutEncoder, TextEncoder]:
    """A model's files as a ranker reads them, and as the semantic score does."""
    return load_cut_encoder(str(folder), trained_layers), load_encoder(str(folder))


def test_encoders_that_differ_are_two_passes(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    encoder, semantic = both(save_tiny_encoder(tmp_path / "model"), 1)
    other = load_encoder(str(save_tiny_encoder(tmp_path / "other", seed=1)))
    assert untrained_layers(encoder, other) is None
    transformer, mean, _ = semantic.model
    for modules, shared in (
        ([transformer, mean], True),
        ([transformer, mean, Dense(32, 8), Normalize()], False),
        ([transformer, Pooling(32, pooling_mode="cls"), Normalize()], False),
    ):
        model = type(semantic.model)(modules=modules, device="cpu")
        found = untrained_layers(encoder, TextEncoder("model", encoder.fingerprint, model))
        assert (found is not None) == shared


def test_the_cache_forgets_what_was_not_used_lately(tmp_path: Path) -> None:
    encoder = load_cut_encoder(str(tiny_bert()), 1)
    export_query_encoder(encoder, TrainedLayers(encoder.trained, encoder.d), "bf16", tmp_path / "query.onnx")
    (queries,) = encoders(tmp_path, encoder, 8)
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


class Products(torch.nn.Module):
    """A large product with a bias and one without, a small one, and one of a batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.biased, self.plain = torch.nn.Linear(40, 32), torch.nn.Linear(32, 32, bias=False)
        self.small, self.batch = torch.nn.Linear(32, 2), torch.nn.Parameter(torch.randn(2, 32, 8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.plain(self.biased(x))
        return self.small(hidden), torch.matmul(hidden, self.batch)


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """The graph of `Products`."""
    file = tmp_path / "products.onnx"
    axes = {"x": {0: "rows"}}
    torch.onnx.export(
        Products(),
        (torch.ones(2, 40),),
        str(file),
        dynamo=False,
        input_names=["x"],
        dynamic_axes=axes,
        opset_version=18,
    )
    return file


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_large_products_are_scaled_and_give_what_they_gave(products: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(products)
    assert [name.split("/")[1] for name in scale_rows(model)] == ["biased", "plain"]
    onnx.save(model, tmp_path / "scaled.onnx")
    x = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    x[1] = 0
    before, after = (open_graph(file).run(None, {"x": x}) for file in (products, tmp_path / "scaled.onnx"))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_row_of_large_numbers_leaves_the_others_their_precision(products: Path, tmp_path: Path) -> None:
    quantize(products, tmp_path / "int8.onnx")
    x = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    beside = x.copy()
    beside[4] *= 1000
    exact = open_graph(products).run(None, {"x": x})[0][:4]
    session = open_graph(tmp_path / "int8.onnx")
    gaps = [np.abs(session.run(None, {"x": rows})[0][:4] - exact).max() for rows in (x, beside)]
    assert 0 < max(gaps) < 0.03


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("n_columns", [2, 3, 64, 131])
def test_sums_of_the_largest_products_are_not_clipped(n_columns: int, sign: float, tmp_path: Path) -> None:
    layer = torch.nn.Linear(n_columns, 16, bias=False)
    torch.nn.init.constant_(layer.weight, 0.75 * sign)
    x, files = torch.ones(5, n_columns), (tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    torch.onnx.export(layer, (x,), str(files[0]), dynamo=False, input_names=["x"], opset_version=18)
    quantize(*files)
    (found,) = open_graph(files[1]).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, 0.75 * sign * n_columns, rtol=1e-5)
