"""TabNet against pytorch-tabnet's encoder with the same weights, its parts against loops and their own definitions."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_tabnet import sparsemax as reference_sparsemax
from pytorch_tabnet.tab_network import GBN, TabNetEncoder
from torch import Tensor, nn

from plain_loops import random_inputs
from shelfrank.config import NeuralConfig
from shelfrank.core.errors import UserError
from shelfrank.nn.bottoms.tabnet import FeatureTransformer, GhostBatchNorm, TabNet, sparsemax
from shelfrank.nn.inputs import Inputs, InputShape
from tiny import tiny_network

SIZES = (4, 3, 5)
MIXED = InputShape(n_numerical=5, n_categorical=3, d_embedding=2, d_matching=4)
GHOST = 16
"""Rows of a ghost batch at most, in `tiny_network`."""

every_schema = pytest.mark.parametrize(
    "shape",
    [
        MIXED,
        InputShape(n_numerical=5, n_categorical=0, d_embedding=2),
        InputShape(n_numerical=0, n_categorical=3, d_embedding=2),
        InputShape(n_numerical=0, n_categorical=0, d_embedding=2, d_matching=4),
    ],
    ids=["mixed", "numbers", "categories", "text"],
)
every_depth = pytest.mark.parametrize(
    ("n_shared", "n_independent"), [(2, 2), (1, 1), (0, 2), (2, 0), (0, 1)], ids=lambda n: str(n)
)


def network(n_shared: int = 2, n_independent: int = 2, *assignments: str) -> NeuralConfig:
    layers = (f"neural.tabnet.n_shared={n_shared}", f"neural.tabnet.n_independent={n_independent}")
    return tiny_network("tabnet", *layers, *assignments)


def make(shape: InputShape = MIXED, config: NeuralConfig | None = None, seed: int = 3) -> TabNet:
    """A bottom whose every weight and running statistic is drawn, so that no 0 or 1 hides its use."""
    torch.manual_seed(seed)
    bottom = TabNet(shape, config or network())
    with torch.no_grad():
        for norm in bottom.modules():
            if isinstance(norm, GhostBatchNorm):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(std=0.3)
                norm.running_mean.normal_(std=0.3)
                norm.running_var.uniform_(0.5, 1.5)
    return bottom


def inputs_of(n_rows: int, shape: InputShape = MIXED, seed: int = 0) -> Inputs:
    torch.manual_seed(seed)
    if shape.n_categorical:
        return random_inputs(n_rows, shape, SIZES, seed)
    return Inputs(
        torch.randn(n_rows, shape.n_numerical),
        torch.empty(n_rows, 0, shape.d_embedding),
        torch.randn(n_rows, shape.d_matching),
    )


def columns_of_features(shape: InputShape) -> Tensor:
    """Which columns of `Inputs.flat` belong to each feature, as pytorch-tabnet's group matrix."""
    widths = [1] * shape.n_numerical + [shape.d_matching] * (shape.d_matching > 0)
    widths += [shape.d_embedding] * shape.n_categorical
    return torch.block_diag(*(torch.ones(1, width) for width in widths))


def make_reference(bottom: TabNet, shape: InputShape, config: NeuralConfig) -> TabNetEncoder:
    """pytorch-tabnet's encoder with the bottom's weights and running statistics."""
    tabnet = config.tabnet
    reference = TabNetEncoder(
        shape.d_flat,
        1,
        n_d=tabnet.d_decision,
        n_a=tabnet.d_attention,
        n_steps=tabnet.n_steps,
        gamma=tabnet.gamma,
        n_independent=tabnet.n_independent,
        n_shared=tabnet.n_shared,
        virtual_batch_size=tabnet.ghost_batch_size,
        momentum=tabnet.momentum,
        group_attention_matrix=columns_of_features(shape).to(bottom.input_norm.weight.dtype),
    ).to(bottom.input_norm.weight.dtype)
    with torch.no_grad():
        for ours, theirs in pairs(bottom, reference):
            theirs.copy_(ours)
    return reference.train(bottom.training)


def pairs(bottom: TabNet, reference: TabNetEncoder) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter and running statistic of the bottom with its counterpart."""
    yield from zip(state(bottom.input_norm), state(reference.initial_bn), strict=True)
    if len(bottom.shared):
        layers = reference.initial_splitter.shared.shared_layers
        yield from zip(bottom.shared, (layer.weight for layer in layers), strict=True)
    transformers = [bottom.first_transformer, *bottom.transformers]
    references = [reference.initial_splitter, *reference.feat_transformers]
    for ours, theirs in zip(transformers, references, strict=True):
        assert isinstance(ours, FeatureTransformer)
        blocks = [block for block in (theirs.shared, theirs.specifics) if not isinstance(block, nn.Identity)]
        layers = [layer for block in blocks for layer in block.glu_layers]
        own = [layer.fc.weight for layer in layers[len(bottom.shared) :]]
        yield from zip(ours.weights, own, strict=True)
        for norm, layer in zip(ours.norms, layers, strict=True):
            yield from zip(state(norm), state(layer.bn.bn), strict=True)
    for ours, theirs in zip(bottom.attentions, reference.att_transformers, strict=True):
        yield from zip((ours.weight, *state(ours.norm)), (theirs.fc.weight, *state(theirs.bn.bn)), strict=True)


def state(norm: nn.Module) -> tuple[Tensor, ...]:
    return tuple(getattr(norm, name) for name in ("weight", "bias", "running_mean", "running_var"))


def test_every_parameter_and_statistic_has_a_counterpart() -> None:
    config = network()
    bottom = make(config=config)
    paired = list(pairs(bottom, make_reference(bottom, MIXED, config)))
    assert len({id(ours) for ours, _ in paired}) == len(paired) == len(bottom.state_dict())


@every_schema
@every_depth
def test_in_eval_mode_it_is_pytorch_tabnets_encoder(shape: InputShape, n_shared: int, n_independent: int) -> None:
    config = network(n_shared, n_independent)
    bottom = make(shape, config).eval()
    inputs = inputs_of(37, shape)
    reference = make_reference(bottom, shape, config)
    decisions, _ = reference(inputs.flat())
    _, masks = reference.forward_masks(inputs.flat())

    x_final, penalty = bottom(inputs)

    torch.testing.assert_close(x_final, sum(decisions), atol=1e-5, rtol=1e-5)
    assert x_final.shape == (37, bottom.d_out)
    assert penalty is None
    of_columns = bottom.masks(inputs) @ columns_of_features(shape)
    torch.testing.assert_close(of_columns, torch.stack([*masks.values()], dim=1), atol=1e-5, rtol=1e-5)


@every_schema
@every_depth
# Ghost batches of one size; nearly of one size, 13 + 13 + 13 + 11; a single one; and 16 times 14 and a rest of 2.
@pytest.mark.parametrize("n_rows", [48, 50, 7, 226])
def test_a_training_step_is_pytorch_tabnets(
    shape: InputShape, n_shared: int, n_independent: int, n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ghost batches of few rows make much of rounding; so all is in float64, the root of a half in the reference too.
    monkeypatch.setattr(torch, "FloatTensor", torch.DoubleTensor)
    config = network(n_shared, n_independent, "neural.tabnet.sparsity=0.5", "neural.tabnet.momentum=0.1")
    bottom = make(shape, config).double()
    reference = make_reference(bottom, shape, config)
    inputs, weights = inputs_of(n_rows, shape), torch.randn(n_rows, bottom.d_out)
    numerical, embedded, matching = (
        x.detach().double().requires_grad_() for x in (inputs.numerical, inputs.embedded, inputs.matching)
    )
    inputs = Inputs(numerical, embedded, matching)
    flat = inputs.flat().detach().requires_grad_()
    decisions, negative_entropy = reference(flat)
    ((sum(decisions) * weights).sum() - 0.5 * negative_entropy).backward()

    x_final, penalty = bottom(inputs)
    assert penalty is not None
    ((x_final * weights).sum() + penalty).backward()

    torch.testing.assert_close(x_final, sum(decisions), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(penalty, -0.5 * negative_entropy, atol=1e-5, rtol=1e-5)
    gradient = torch.cat([x.grad.flatten(1) for x in (numerical, matching, embedded) if x.grad is not None], dim=1)
    torch.testing.assert_close(gradient, flat.grad, atol=1e-5, rtol=1e-5)
    for ours, theirs in pairs(bottom, reference):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        if ours.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 2, GHOST * (GHOST + 1) + 1], ids=["one row", "two", "a rest of one"])
def test_a_ghost_batch_of_one_row_is_normalised_by_the_running_statistics(n_rows: int) -> None:
    bottom = make()
    x_final, penalty = bottom(inputs_of(n_rows))
    assert penalty is not None
    (x_final.sum() + penalty).backward()
    assert torch.isfinite(x_final).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in bottom.parameters() if parameter.grad is not None)
    if n_rows == 1:
        torch.testing.assert_close(x_final, bottom.eval()(inputs_of(1)).x_final)
        assert_same_statistics(bottom, make())


def assert_same_statistics(bottom: TabNet, other: TabNet) -> None:
    ours, theirs = dict(bottom.named_buffers()), dict(other.named_buffers())
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_running_statistics_are_those_of_one_ghost_batch_after_the_other() -> None:
    norm = GhostBatchNorm(3, momentum=0.3).double()
    reference = GBN(3, virtual_batch_size=5, momentum=0.3).double()
    for seed in range(2):
        x = torch.randn(20, 3, dtype=torch.float64, generator=torch.manual_seed(seed))
        x = x * torch.tensor([1.0, 100.0, 0.01]) + 3.0
        torch.testing.assert_close(norm(x.T.reshape(3, 4, 5)).flatten(1).T, reference(x))
    torch.testing.assert_close(norm.running_mean, reference.bn.running_mean)
    torch.testing.assert_close(norm.running_var, reference.bn.running_var)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(UserError, match="n_shared and n_independent must not both be 0"):
        network(0, 0)


def test_each_steps_mask_is_a_sparse_distribution_over_features() -> None:
    masks = make().eval().masks(inputs_of(200))
    assert masks.shape == (200, 3, 5 + 1 + 3)
    torch.testing.assert_close(masks.sum(dim=2), torch.ones(200, 3))
    assert (masks >= 0).all()
    assert (masks == 0).float().mean() > 0.3


def test_before_it_learns_every_mask_reads_every_feature() -> None:
    torch.manual_seed(3)
    bottom = TabNet(MIXED, network())
    bottom(inputs_of(48))
    masks = bottom.eval().masks(inputs_of(48))
    assert masks.min() > 0.5 / bottom.n_features
    assert masks.max() < 2.0 / bottom.n_features


@every_schema
def test_attention_is_pytorch_tabnets_aggregate_of_the_masks(shape: InputShape) -> None:
    config = network()
    bottom, inputs = make(shape, config).eval(), inputs_of(31, shape)
    with torch.no_grad():
        by_column, _ = make_reference(bottom, shape, config).forward_masks(inputs.flat())
    groups = columns_of_features(shape)
    read = by_column @ (groups / groups.sum(dim=1, keepdim=True)).T
    # There, the matching features lie between numbers and categories.
    numbers, matching, categories = read.split((shape.n_numerical, shape.d_matching > 0, shape.n_categorical), dim=1)
    expected = torch.cat([numbers, categories, matching], dim=1) / read.sum(dim=1, keepdim=True)

    found = bottom.attention(inputs)

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(31))


def test_where_no_step_decides_anything_no_feature_has_attention() -> None:
    bottom = make().eval()
    with torch.no_grad():
        for transformer in bottom.transformers:
            for weight in transformer.weights:
                weight.zero_()
            for norm in transformer.norms:
                norm.weight.zero_()
                norm.bias.fill_(-1.0)
    assert not bottom.attention(inputs_of(5)).any()


@pytest.mark.parametrize("asked", ["masks", "attention"])
def test_the_masks_of_a_network_in_training_are_refused(asked: str) -> None:
    with pytest.raises(AssertionError, match="in eval mode"):
        getattr(make(), asked)(inputs_of(3))


def test_autocast_keeps_statistics_masks_and_penalty_in_float32() -> None:
    exact, rough = make(), make()
    expected, expected_penalty = exact(inputs_of(48))
    with torch.autocast("cpu", torch.bfloat16):
        x_final, penalty = rough(inputs_of(48))
        masks = rough.eval().masks(inputs_of(48))
    assert x_final.dtype == torch.bfloat16
    assert penalty is not None
    assert expected_penalty is not None
    assert penalty.dtype == masks.dtype == torch.float32
    assert (x_final - expected).norm() < 0.1 * expected.norm()
    torch.testing.assert_close(penalty, expected_penalty, rtol=0.02, atol=0.0)
    torch.testing.assert_close(masks.sum(dim=2), torch.ones(48, 3))
    for name, statistic in rough.named_buffers():
        torch.testing.assert_close(statistic, exact.get_buffer(name), rtol=0.02, atol=0.02)


columns_of_numbers = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.lists(st.one_of(st.floats(-4, 4, width=32), st.integers(-2, 2), st.sampled_from([-1e6, 1e6])),
                 min_size=n, max_size=n),
        min_size=1, max_size=6,
    )
)  # fmt: skip


@given(columns_of_numbers)
def test_sparsemax_is_the_nearest_point_of_the_simplex(columns: list[list[float]]) -> None:
    # The nearest point p of the simplex is the one for which z - p is the same wherever p > 0, and nowhere larger.
    z = torch.tensor(columns, dtype=torch.float64).T
    p = sparsemax(z)
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(dim=0), torch.ones(len(columns), dtype=torch.float64))
    taken = z - p
    threshold = taken.amax(dim=0)
    torch.testing.assert_close(torch.where(p > 0, taken, threshold), threshold.expand_as(z), atol=1e-9, rtol=0.0)


@given(columns_of_numbers)
def test_sparsemax_and_its_gradient_are_pytorch_tabnets(columns: list[list[float]]) -> None:
    z = torch.tensor(columns, dtype=torch.float32).T.clone()
    weights = torch.randn(z.shape, generator=torch.manual_seed(0))
    ours, theirs = z.clone().requires_grad_(), z.T.clone().requires_grad_()
    found, expected = sparsemax(ours), reference_sparsemax.sparsemax(theirs.clone(), 1).T
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # Where an entry is at the threshold but for rounding, either gradient is right.
    if torch.equal(found > 0, expected > 0):
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad.T, atol=1e-5, rtol=1e-5)


def test_sparsemax_by_hand() -> None:
    # Threshold 0.7: (1.5, 0.9, 0.2) - 0.7 leaves 0.8 and 0.2; of a tie each gets half; no number is too big.
    z = torch.tensor([[1.5, 0.0, 3e38], [0.9, 0.0, -3e38], [0.2, -1.0, 0.0]])
    assert sparsemax(z).T.tolist() == pytest.approx(np.array([[0.8, 0.2, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))


def test_the_gradient_of_sparsemax_is_its_slope() -> None:
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(sparsemax, z)


def test_sparsemax_ends_where_a_number_is_none() -> None:
    assert torch.isnan(sparsemax(torch.full((3, 2), torch.nan))).all()
