"""What holds for the whole network whatever its shared bottom, and the whole network against a loop."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import plain_loops
from plain_loops import array, block_of, linear_layers, random_columns, stack_layers
from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms import BOTTOMS
from shelfrank.nn.bottoms.dcn_v2 import DCNV2
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.inputs import Inputs, InputShape, TabularInputs
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.nn.towers import Towers
from tiny import tiny_network

N_NUMERICAL, SIZES, N_TASKS, N_CLASSES = 4, (5, 3, 2), 3, 4
every_bottom = pytest.mark.parametrize("bottom", BOTTOMS)


def make(bottom: str, *assignments: str, seed: int = 5, n_classes: int = 0) -> MultiTaskRanker:
    torch.manual_seed(seed)
    return MultiTaskRanker(N_NUMERICAL, SIZES, N_TASKS, tiny_network(bottom, *assignments), n_classes)


def columns(n_rows: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    return random_columns(n_rows, N_NUMERICAL, SIZES, seed)


def warmed(model: MultiTaskRanker) -> MultiTaskRanker:
    """Gives batch normalisation running statistics that are not its initial ones."""
    with torch.no_grad():
        model.train()(*columns(64, seed=9))
    return model.eval()


def test_the_config_names_every_bottom() -> None:
    assert set(get_args(NeuralConfig.model_fields["bottom"].annotation)) == set(BOTTOMS)


@every_bottom
@pytest.mark.parametrize("n_rows", [0, 1, 17])
def test_one_logit_per_row_and_task(bottom: str, n_rows: int) -> None:
    model = warmed(make(bottom))
    logits = model(*columns(n_rows)).logits
    assert logits.shape == (n_rows, N_TASKS)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@every_bottom
def test_a_row_is_not_moved_by_its_neighbours(bottom: str) -> None:
    model = warmed(make(bottom))
    numerical, categorical = columns(17)
    other_numerical, other_categorical = columns(17, seed=1)
    other_numerical[6], other_categorical[6] = numerical[6], categorical[6]

    among, elsewhere = model(numerical, categorical).logits, model(other_numerical, other_categorical).logits

    assert torch.equal(among[6], elsewhere[6])
    assert (among[7] != elsewhere[7]).any()
    # Alone, the products of matrices are summed in another order.
    torch.testing.assert_close(model(numerical[6:7], categorical[6:7]).logits[0], among[6], atol=1e-6, rtol=1e-5)


@every_bottom
def test_a_gradient_reaches_every_parameter(bottom: str) -> None:
    # In eval mode, since in training mode batch normalisation takes every bias before it out again.
    model = warmed(make(bottom))
    model(*columns(64)).logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@every_bottom
def test_the_seed_decides_every_bit(bottom: str) -> None:
    one, same, other = make(bottom), make(bottom), make(bottom, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert torch.equal(one.eval()(*columns(9)).logits, same.eval()(*columns(9)).logits)
    assert not torch.equal(one(*columns(9)).logits, other.eval()(*columns(9)).logits)


@every_bottom
def test_saved_weights_give_the_same_logits(bottom: str, tmp_path: Path) -> None:
    model, other = warmed(make(bottom)), make(bottom, seed=6).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(model(*columns(9)).logits, other(*columns(9)).logits)


@every_bottom
@pytest.mark.parametrize("n_classes", [0, N_CLASSES])
def test_the_boxes_count_every_parameter_once(bottom: str, n_classes: int) -> None:
    model = make(bottom, n_classes=n_classes)
    counts = model.parameter_counts()
    assert ("relevance_tower" in counts) == (n_classes > 0)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert counts["embeddings"] == sum(SIZES) * 3
    assert (counts["bottom"] == 0) == (bottom == "none")


def test_the_whole_network_follows_equations_2_to_15() -> None:
    model = make("dcn_v2", "neural.batch_norm=false")
    bottom, mmoe, towers = model.bottom, model.head, model.towers
    assert isinstance(bottom, DCNV2)
    assert isinstance(mmoe, MMoE)
    numerical, categorical = columns(6)
    table, gate_weight = array(model.inputs.table.weight), array(mmoe.gates.weight)
    starts = np.cumsum([0, *SIZES])
    crosses = linear_layers(bottom.cross.layers)
    n_experts = mmoe.n_experts

    expected = []
    for numbers, codes in zip(array(numerical).tolist(), categorical.tolist(), strict=True):
        x0 = numbers + [value for i, code in enumerate(codes) for value in table[starts[i] + code].tolist()]
        x_final = plain_loops.cross(x0, crosses) + plain_loops.dense(x0, linear_layers(bottom.deep))
        experts = [plain_loops.dense(x_final, stack_layers(mmoe.experts, n_experts, e)) for e in range(n_experts)]
        logits = []
        for task in range(N_TASKS):
            weight = gate_weight[task * n_experts : (task + 1) * n_experts]
            gate = plain_loops.softmax(plain_loops.linear(x_final, (weight, np.zeros(n_experts))))
            hidden = plain_loops.dense(plain_loops.mixture(gate, experts), stack_layers(towers.hidden, N_TASKS, task))
            logits += plain_loops.linear(hidden, block_of(towers.out, task))
        expected.append(logits)

    np.testing.assert_allclose(array(model(numerical, categorical).logits), expected, atol=1e-5)


@every_bottom
def test_without_the_relevance_task_the_network_is_the_three_tasks_alone(bottom: str) -> None:
    class ThreeTasks(torch.nn.Module):
        """The boxes in the order of the figure, with nothing beside them."""

        def __init__(self) -> None:
            super().__init__()
            config = tiny_network(bottom)
            self.inputs = TabularInputs(SIZES, config.d_embedding, BOTTOMS[bottom].embedding_std)
            self.bottom = BOTTOMS[bottom](InputShape(N_NUMERICAL, len(SIZES), config.d_embedding), config)
            shape = (self.bottom.d_out, config.mmoe.n_experts, config.mmoe.expert_layers, N_TASKS)
            self.head = MMoE(*shape, config.batch_norm, config.dropout)
            self.towers = Towers(N_TASKS, self.head.d_out, config.tower_layers, config.batch_norm, config.dropout)

        def forward(self, numerical: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
            inputs = Inputs(numerical, self.inputs(categorical), torch.empty(len(numerical), 0))
            return self.towers(self.head(self.bottom(inputs).x_final))

    torch.manual_seed(5)
    alone, model = ThreeTasks(), make(bottom)
    numerical, categorical = columns(17)
    alone(numerical, categorical).square().sum().backward()
    model(numerical, categorical).logits.square().sum().backward()

    assert list(model.state_dict()) == list(alone.state_dict())
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
    outputs = model.eval()(numerical, categorical)
    assert torch.equal(outputs.logits, alone.eval()(numerical, categorical))
    assert outputs.relevance is None


@every_bottom
@pytest.mark.parametrize("n_rows", [0, 1, 17])
def test_the_relevance_classes_have_logits_beside_the_tasks(bottom: str, n_rows: int) -> None:
    model = warmed(make(bottom, n_classes=N_CLASSES))
    outputs = model(*columns(n_rows))
    assert outputs.relevance is not None
    assert outputs.relevance.shape == (n_rows, N_CLASSES)
    assert outputs.relevance.dtype == torch.float32
    assert outputs.logits.shape == (n_rows, N_TASKS)


def test_the_relevance_task_has_a_gate_and_a_tower_of_its_own() -> None:
    model = make("dcn_v2", n_classes=N_CLASSES).eval()
    numerical, categorical = columns(9)
    mmoe = model.head
    assert isinstance(mmoe, MMoE)
    x_final = model.bottom(model.gather_inputs(numerical, categorical)).x_final
    experts = mmoe.experts(x_final).view(9, mmoe.n_experts, -1)
    own_gate = mmoe.gates.weight[-mmoe.n_experts :]
    mixture = ((x_final @ own_gate.T).softmax(dim=1)[:, :, None] * experts).sum(dim=1)
    assert model.relevance_tower is not None
    expected = model.relevance_tower(mixture)

    found = model(numerical, categorical).relevance

    assert mmoe.gates.weight.shape[0] == (N_TASKS + 1) * mmoe.n_experts
    torch.testing.assert_close(found, expected)


@every_bottom
def test_the_relevance_task_teaches_what_the_tasks_share_and_no_tower_of_theirs(bottom: str) -> None:
    model = warmed(make(bottom, n_classes=N_CLASSES))
    model(*columns(64)).relevance.square().sum().backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    tasks_towers = {name for name, _ in model.named_parameters() if name.startswith("towers.")}
    assert taught == {name for name, _ in model.named_parameters()} - tasks_towers
    mmoe = model.head
    assert isinstance(mmoe, MMoE)
    assert mmoe.gates.weight.grad is not None
    assert not mmoe.gates.weight.grad[: N_TASKS * mmoe.n_experts].any()


def test_over_the_entire_space_every_logit_but_the_first_is_an_addition_to_it() -> None:
    inputs = (torch.randn(5, N_NUMERICAL), torch.zeros(5, len(SIZES), dtype=torch.int32))
    plain, added = (make("mlp", f"neural.entire_space={on}").eval()(*inputs).logits for on in ("false", "true"))
    for row in range(5):
        first, *rest = plain[row].tolist()
        assert added[row].tolist() == pytest.approx([first, *(first + each for each in rest)])


def test_calibration_is_part_of_scoring_and_not_of_training() -> None:
    model = make("mlp", "neural.calibrate=true", "neural.batch_norm=false")
    inputs = (torch.randn(5, N_NUMERICAL), torch.zeros(5, len(SIZES), dtype=torch.int32))
    before = model.eval()(*inputs).logits
    assert model.calibration is not None
    model.calibration.scale.fill_(2.0)
    model.calibration.shift.fill_(-1.0)
    torch.testing.assert_close(model(*inputs).logits, 2 * before - 1)
    torch.testing.assert_close(model.train()(*inputs).logits, before)


def test_numbers_beyond_the_clip_count_as_the_clip() -> None:
    model = warmed(make("mlp", "neural.clip=2"))
    far, near = torch.full((1, N_NUMERICAL), 900.0), torch.full((1, N_NUMERICAL), 2.0)
    codes = torch.zeros(1, len(SIZES), dtype=torch.int32)
    assert torch.equal(model(far, codes).logits, model(near, codes).logits)
    assert not torch.equal(model(near / 2, codes).logits, model(near, codes).logits)
