"""Explains rows of the networks: integrated gradients, the weights of their gates, and what they attend to."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from shelfrank.core.schema import Side
from shelfrank.data.batch import Batch, SplitRows
from shelfrank.data.prepared import Split
from shelfrank.explain.explanation import Explanation, Method
from shelfrank.explain.integrated_gradients import TEXT_MATCH, integrated_gradients
from shelfrank.nn.bottoms.ft_transformer import FTTransformer
from shelfrank.nn.bottoms.tabnet import TabNet
from shelfrank.nn.ensemble import Ensemble, members_of
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.inputs import Inputs
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.rankers.neural import NeuralRanker


# Gradients are needed even where the caller has switched them off.
@torch.inference_mode(mode=False)
def explain_network(ranker: NeuralRanker, rows: Split, neutral: Split | None) -> list[Explanation]:
    """Explains each row by integrated gradients, from a baseline of its own to the row.

    An ensemble's logit is the mean of its members', and so are its contributions and attention; it has no gates.

    Args:
        ranker: A fitted network.
        rows: The rows.
        neutral: The same rows for a neutral customer, as baselines; None takes the training mean of every number, the
            default of every category, and texts without a match.

    Returns:
        One explanation per row.
    """
    model = ranker.model.eval()
    members = members_of(model)
    found = [_explain_member(ranker, member, rows, neutral) for member in members]
    contributions, start_logits, end_logits = (
        torch.stack(parts).mean(dim=0) for parts in zip(*(each[:3] for each in found), strict=True)
    )
    if isinstance(model, Ensemble) and model.calibration is not None:
        scale, shift = model.calibration.scale.double(), model.calibration.shift.double()
        contributions = contributions * scale[:, None]
        start_logits, end_logits = start_logits * scale + shift, end_logits * scale + shift
    gates = found[0].gates if len(members) == 1 else None
    read = [each.attention for each in found if each.attention is not None]
    attention = torch.stack(read).mean(dim=0) if read else None
    columns = (*rows.numerical_columns, *rows.categorical_columns)
    names, sides = tuple(column.name for column in columns), tuple(column.side for column in columns)
    if model.text is not None:
        names, sides = (*names, TEXT_MATCH), (*sides, Side.INTERACTION)
    # A task of no weight has a tower, but one that learned nothing.
    chosen = [ranker.learned_tasks.index(task) for task in ranker.scored_tasks]
    return [
        Explanation(
            method=Method.INTEGRATED_GRADIENTS,
            tasks=ranker.scored_tasks,
            features=names,
            sides=sides,
            contributions=contributions[row, chosen].cpu().numpy(),
            logits=end_logits[row, chosen].cpu().numpy(),
            baseline_logits=start_logits[row, chosen].cpu().numpy(),
            gates=None if gates is None else gates[row, chosen].cpu().numpy(),
            attention=None if attention is None else attention[row].cpu().numpy(),
        )
        for row in range(rows.n_rows)
    ]


class _OfMember(NamedTuple):
    """What explains the rows to one network."""

    contributions: Float64[Tensor, "rows n_tasks n_features"]
    start_logits: Float64[Tensor, "rows n_tasks"]
    end_logits: Float64[Tensor, "rows n_tasks"]
    gates: Float64[Tensor, "rows n_gates n_experts"] | None
    attention: Float64[Tensor, "rows n_features"] | None


def _explain_member(ranker: NeuralRanker, model: MultiTaskRanker, rows: Split, neutral: Split | None) -> _OfMember:
    start, end = read_path(ranker, rows, neutral, model)
    contributions = integrated_gradients(model, start, end)
    with torch.no_grad():
        start_logits, end_logits = model.of_inputs(start).logits.double(), model.of_inputs(end).logits.double()
        gates = model.head.gate_weights(model.bottom(end).x_final).double() if isinstance(model.head, MMoE) else None
    attention = model.bottom.attention(end).double() if isinstance(model.bottom, FTTransformer | TabNet) else None
    return _OfMember(contributions, start_logits, end_logits, gates, attention)


@torch.no_grad()
def read_path(
    ranker: NeuralRanker, rows: Split, neutral: Split | None, member: MultiTaskRanker | None = None
) -> tuple[Inputs, Inputs]:
    """What the bottom of a network, the first unless given, receives for each row's baseline and for the row itself."""
    model = member or members_of(ranker.model)[0]
    device = next(model.parameters()).device

    def batch_of(split: Split) -> Batch:
        return SplitRows(split, device, resident=False).gather(slice(None))

    of_rows = batch_of(rows)
    texts = None
    if ranker.texts is not None:
        assert model.text is not None, "a ranker with texts has a network that reads them"
        texts = ranker.texts.feed(device).of_split(rows, model.text.trained)(of_rows)
    end = model.gather_inputs(of_rows.numerical, of_rows.categorical, texts)
    of_start = batch_of(mean_rows(rows) if neutral is None else neutral)
    # The neutral customer sees the same query and products.
    matching = torch.zeros_like(end.matching) if neutral is None else end.matching
    return Inputs(of_start.numerical, model.inputs(of_start.categorical), matching), end


def mean_rows(rows: Split) -> Split:
    """As many rows with every number at its training mean and every category at its default."""
    numbers = np.array([column.mean for column in rows.numerical_columns], dtype=np.float32)
    codes = np.array([column.mean for column in rows.categorical_columns], dtype=np.int32)
    return replace(
        rows,
        numerical=np.broadcast_to(numbers, rows.numerical.shape),
        categorical=np.broadcast_to(codes, rows.categorical.shape),
    )
