"""Contributions add up for every network, and are the textbook's where it can be computed."""

import numpy as np
import pytest
import torch

from plain_loops import array, block_of, random_columns
from shelfrank.explain.integrated_gradients import TOLERANCE, Points, by_feature, integrate, integrated_gradients
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.heads import HEADS
from shelfrank.nn.inputs import EMBEDDING_STD, Inputs
from shelfrank.nn.matching import RowTexts, TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from tiny import tiny_network

N_NUMERICAL, SIZES, N_TASKS, D_TEXT = 4, (5, 3, 2), 3, 6
N_FEATURES = N_NUMERICAL + len(SIZES)


def network(bottom: str, *assignments: str, text: bool = False) -> MultiTaskRanker:
    """A network in eval mode, rougher than it begins: larger weights, normalisations that have seen rows."""
    torch.manual_seed(5)
    trained = TrainedLayers([], D_TEXT) if text else None
    matching = ["neural.text.matching=cross"] if text else []
    # Layer normalisation of three numbers is nearly a step, and so is attention with much larger weights: no sum over a
    # path can follow them.
    width = ["neural.d_embedding=12"] if bottom == "ft_transformer" else []
    config = tiny_network(bottom, *width, *assignments, *matching)
    model = MultiTaskRanker(N_NUMERICAL, SIZES, N_TASKS, config, 0, trained)
    with torch.no_grad():
        # Categories differ as trained ones do.
        model.inputs.table.weight.normal_(std=EMBEDDING_STD)
        for weight in (parameter for parameter in model.parameters() if parameter.ndim > 1):
            weight.mul_(2.0 if bottom == "ft_transformer" else 3.0)
        model.train()(*random_columns(64, N_NUMERICAL, SIZES, 9), texts(64) if text else None)
    return model.eval()


def texts(n_rows: int) -> RowTexts:
    """Random vectors of one query and of a product per row."""
    vectors = torch.from_numpy(np.random.default_rng(3).normal(size=(n_rows + 1, D_TEXT)).astype(np.float32))
    return RowTexts(vectors, torch.zeros(n_rows, dtype=torch.int64), torch.arange(1, n_rows + 1))


@torch.no_grad()
def path(model: MultiTaskRanker, n_rows: int) -> tuple[Inputs, Inputs]:
    """From zeros, code 0 and no matching to random rows."""
    numerical, categorical = random_columns(n_rows, N_NUMERICAL, SIZES)
    end = model.gather_inputs(numerical, categorical, texts(n_rows) if model.text else None)
    embedded = model.inputs(torch.zeros_like(categorical))
    return Inputs(torch.zeros_like(numerical), embedded, torch.zeros_like(end.matching)), end


def at(inputs: Inputs, rows: slice) -> Inputs:
    return Inputs(inputs.numerical[rows], inputs.embedded[rows], inputs.matching[rows])


@torch.no_grad()
def change(model: MultiTaskRanker, start: Inputs, end: Inputs) -> torch.Tensor:
    return model.of_inputs(end).logits.double() - model.of_inputs(start).logits.double()


@pytest.mark.parametrize("bottom", BOTTOMS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("text", [False, True], ids=["columns", "columns and text"])
def test_contributions_add_up_to_the_change_of_the_logits(bottom: str, head: str, text: bool) -> None:
    model = network(bottom, f"neural.head={head}", text=text)
    start, end = path(model, 23)
    found = integrated_gradients(model, start, end)
    expected = change(model, start, end)
    assert found.shape == (23, N_TASKS, N_FEATURES + text)
    assert (found.sum(dim=2) - expected).abs().max() <= TOLERANCE
    assert expected.abs().max() > 10 * TOLERANCE
    assert (found.abs().amax(dim=(0, 1)) > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_linear_network_has_weight_times_distance() -> None:
    model = network("none", "neural.head=none", "neural.tower_layers=[]", text=True)
    start, end = path(model, 11)
    found = array(integrated_gradients(model, start, end))
    way = array(end.flat() - start.flat())
    for task in range(N_TASKS):
        terms = way * block_of(model.towers.out, task)[0][0]
        # The flat vector: numbers, matching, then each category's embedding.
        numbers, matching, embedded = np.split(terms, [N_NUMERICAL, N_NUMERICAL + D_TEXT], axis=1)
        categories = embedded.reshape(11, len(SIZES), -1).sum(axis=2)
        expected = np.column_stack([numbers, categories, matching.sum(axis=1)])
        np.testing.assert_allclose(found[:, task], expected, atol=1e-6)


@pytest.mark.parametrize("bottom", ["none", "mlp", "dcn_v2"])
def test_a_feature_has_the_integral_of_its_gradient(bottom: str) -> None:
    model = network(bottom)
    start, end = path(model, 3)
    n_points = 4000
    expected = np.zeros((3, N_TASKS, N_NUMERICAL))
    for row in range(3):
        where = ((torch.arange(n_points) + 0.5) / n_points)[:, None]
        first, last = at(start, slice(row, row + 1)), at(end, slice(row, row + 1))
        numerical = (first.numerical + where * (last.numerical - first.numerical)).requires_grad_()
        embedded = first.embedded + where[:, :, None] * (last.embedded - first.embedded)
        logits = model.of_inputs(Inputs(numerical, embedded, torch.empty(n_points, 0))).logits
        for task in range(N_TASKS):
            (slopes,) = torch.autograd.grad(logits[:, task].sum(), [numerical], retain_graph=True)
            expected[row, task] = array(slopes).mean(axis=0) * array(last.numerical - first.numerical)[0]
    found = array(integrated_gradients(model, start, end))[:, :, :N_NUMERICAL]
    np.testing.assert_allclose(found, expected, atol=3 * TOLERANCE)
    assert np.abs(expected).max() > 30 * TOLERANCE


def test_the_neighbours_of_a_row_and_how_many_there_are_change_nothing() -> None:
    model = network("dcn_v2")
    # More than are read at a time.
    start, end = path(model, 60)
    page = integrated_gradients(model, start, end)
    for row in (0, 31, 59):
        alone = integrated_gradients(model, at(start, slice(row, row + 1)), at(end, slice(row, row + 1)))
        torch.testing.assert_close(alone[0], page[row], atol=TOLERANCE / 10, rtol=0)


def test_no_way_no_contribution() -> None:
    model = network("dcn_v2")
    start, end = path(model, 5)
    mixed = Inputs(end.numerical, start.embedded, end.matching)
    found = integrated_gradients(model, mixed, end)
    assert not found[:, :, :N_NUMERICAL].any()
    assert found[:, :, N_NUMERICAL:].any()


def segment(rates: list[float], at: float, logit: float) -> Points:
    return Points(
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([at], dtype=torch.float64),
        torch.tensor([[logit]], dtype=torch.float64),
        torch.tensor([[rates]], dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("change", "shares", "gap"),
    [
        pytest.param(2.0, [1.0, 1.0], 0.0, id="kink in the middle"),
        # Three quarters of the way at rates (0, 1), then a quarter at (2, 1).
        pytest.param(1.5, [0.5, 1.0], 0.0, id="kink at three quarters"),
        pytest.param(4.0, [2.0, 1.0], 1.0, id="more than any one kink makes"),
    ],
)
def test_a_known_change_tells_where_the_kink_lies(change: float, shares: list[float], gap: float) -> None:
    left, right = segment([0.0, 1.0], at=0.0, logit=5.0), segment([2.0, 1.0], at=1.0, logit=5.0 + change)
    found, left_over = integrate(left, right)
    assert found[0, 0].tolist() == shares
    assert left_over.tolist() == [gap]


def test_equal_rates_at_both_ends_are_shares_of_the_width() -> None:
    left, right = segment([3.0, -1.0], at=0.5, logit=0.0), segment([3.0, -1.0], at=0.75, logit=0.5)
    found, left_over = integrate(left, right)
    assert found[0, 0].tolist() == [0.75, -0.25]
    assert left_over.tolist() == [0.0]


def test_embeddings_and_matching_are_summed() -> None:
    slopes = [torch.tensor([[1.0, 2.0]]), torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]), torch.tensor([[1.0, 1.0, 1.0]])]
    ways = [torch.tensor([[3.0, 4.0]]), torch.tensor([[[1.0, 2.0], [5.0, 6.0]]]), torch.tensor([[1.0, 2.0, 3.0]])]
    assert by_feature(slopes, ways).tolist() == [[3.0, 8.0, 3.0, 12.0, 6.0]]
    without = torch.empty(1, 0)
    assert by_feature([*slopes[:2], without], [*ways[:2], without]).tolist() == [[3.0, 8.0, 3.0, 12.0]]
