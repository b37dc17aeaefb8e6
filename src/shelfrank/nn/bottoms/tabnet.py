"""TabNet as shared bottom: every decision step reads the few features that a mask picks for the row.

Published in arXiv 1908.07442. Activations here are `[units, ghosts, ghost_rows]`: the rows of a ghost batch lie side by
side, so that one kernel normalises all ghost batches, and a matrix product still covers every row at once.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.batch_norm import normalise_together
from shelfrank.nn.bottoms.base import Bottom, BottomOutput, ghost_rows
from shelfrank.nn.inputs import Inputs, InputShape

INPUT_MOMENTUM = 0.01
"""Share of the newest batch in the running statistics of the inputs."""

FIRST_SPREAD = 0.01
"""How far apart features are wanted before anything is learned: so little that every mask begins nearly even."""

LOG_EPSILON = 1e-15
"""Added to a mask before its logarithm, which is then finite where a feature is left out."""


class Sparsemax(torch.autograd.Function):
    """Projection of each column on the probability simplex, with its gradient (arXiv 1602.02068)."""

    @staticmethod
    def forward(ctx: Any, z: Float[Tensor, "n_features ..."]) -> Float[Tensor, "n_features ..."]:
        """Finds the threshold for which `max(z - threshold, 0)` adds up to 1, exactly and without sorting.

        Newton's steps from below never overshoot, as that sum is convex, and each leaves out more entries or is the
        last.
        """
        z = z - z.amax(dim=0)
        threshold = torch.full_like(z[0], -1.0)
        n_chosen = torch.zeros_like(threshold)
        mask = z
        for _ in range(len(z)):
            mask = (z - threshold).relu_()
            n_before, n_chosen = n_chosen, mask.sign().sum(dim=0)
            if torch.equal(n_chosen, n_before):
                break
            threshold += (mask.sum(dim=0) - 1.0) / n_chosen
        ctx.save_for_backward(mask, n_chosen)
        return mask

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Float[Tensor, "n_features ..."]
    ) -> Float[Tensor, "n_features ..."]:
        """Takes from each chosen entry's gradient the mean over the chosen ones."""
        mask, n_chosen = ctx.saved_tensors
        chosen = mask.sign()
        return (grad - (grad * chosen).sum(dim=0) / n_chosen) * chosen


def sparsemax(z: Float[Tensor, "n_features ..."]) -> Float[Tensor, "n_features ..."]:
    """The point of the probability simplex that is nearest to each column; most of its entries are exactly 0.

    Args:
        z: How much each feature is wanted.

    Returns:
        Values that are 0 or more and add up to 1 in each column.

    Example:
        >>> sparsemax(torch.tensor([[0.5], [0.3], [-2.0]])).flatten()
        tensor([0.6000, 0.4000, 0.0000])
    """
    return _sparsemax_by_sorting(z) if torch.onnx.is_in_onnx_export() else Sparsemax.apply(z)


def _sparsemax_by_sorting(z: Float[Tensor, "n_features ..."]) -> Float[Tensor, "n_features ..."]:
    """The same as a fixed number of operations, which a graph can hold."""
    descending = z.sort(dim=0, descending=True).values
    sums = descending.cumsum(dim=0)
    ranks = torch.arange(1, len(z) + 1, dtype=z.dtype).view(-1, *(1 for _ in z.shape[1:]))
    n_chosen = (1 + ranks * descending > sums).sum(dim=0, keepdim=True)
    return (z - (sums.gather(0, n_chosen - 1) - 1) / n_chosen).relu()


class GhostBatchNorm(nn.Module):
    """Batch normalisation by the statistics of each ghost batch (arXiv 1705.08741); in eval mode by the running ones.

    The running statistics are updated ghost after ghost. A ghost batch of a single row has no statistics: it is
    normalised by the running ones, which it leaves as they are. Where several processes share a batch, each has whole
    ghost batches, in the order of the ranks, and the running statistics follow all of them.

    Args:
        d: Units.
        momentum: Share of the newest ghost batch in the running statistics.
        is_shared: Whether there is one ghost batch, of which each process has some rows.
        group: The processes that share a batch.
    """

    running_mean: Float[Tensor, " d"]
    running_var: Float[Tensor, " d"]

    def __init__(self, d: int, momentum: float, is_shared: bool = False, group: Processes = ALONE) -> None:
        super().__init__()
        self.momentum, self.epsilon, self.is_shared, self.group = momentum, 1e-5, is_shared, group
        self.weight, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))

    def forward(self, x: Float[Tensor, "d ghosts ghost_rows"]) -> Float[Tensor, "d ghosts ghost_rows"]:
        """Normalises, scales and shifts each unit."""
        d, n_ghosts, n_rows = x.shape
        if self.training and self.is_shared and self.group.n > 1:
            rows, mean, var = normalise_together(
                x.flatten(1).T, self.weight, self.bias, self.epsilon, (self.running_mean, self.running_var), self.group
            )
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
            return rows.T.contiguous().view(x.shape)
        if not self.training or n_rows < 2:
            running = (self.running_mean, self.running_var)
            rows = x.flatten(1)[None]
            return nn.functional.batch_norm(rows, *running, self.weight, self.bias, eps=self.epsilon).view_as(x)
        if x.is_cuda:
            # Numerics: there the kernel wants the rows in the type of weight and bias.
            x = x.float()
        if n_ghosts == 0:
            none = self.running_mean.new_zeros(d, 0)
            self._follow(none, none, n_rows)
            return x
        # Numerics: with a group per unit and ghost batch, one pass normalises and gives the statistics.
        n_groups = d * n_ghosts
        groups = x.contiguous().view(1, n_groups, n_rows)
        weight, bias = (parameter.repeat_interleave(n_ghosts) for parameter in (self.weight, self.bias))
        normalised, means, inverse_stds = torch.native_group_norm(
            groups, weight, bias, 1, n_groups, n_rows, n_groups, self.epsilon
        )
        self._follow(means.view(d, n_ghosts), inverse_stds.view(d, n_ghosts), n_rows)
        return normalised.view(x.shape)

    @torch.no_grad()
    def _follow(self, means: Float[Tensor, "d ghosts"], inverse_stds: Float[Tensor, "d ghosts"], n_rows: int) -> None:
        """Updates the running statistics as one update a ghost batch, `r <- (1 - momentum) r + momentum s`, would."""
        n_ghosts = means.shape[1]
        kept = 1.0 - self.momentum
        updates_after = torch.arange(n_ghosts - 1, -1, -1, dtype=means.dtype, device=means.device)
        shares = self.momentum * kept**updates_after
        unbiased = (inverse_stds.pow(-2) - self.epsilon) * (n_rows / (n_rows - 1))
        if self.group.n == 1:
            self.running_mean.addmv_(means, shares, beta=kept**n_ghosts)
            self.running_var.addmv_(unbiased, shares, beta=kept**n_ghosts)
            return
        own = torch.cat([means.new_tensor([kept**n_ghosts]), means @ shares, unbiased @ shares])
        for still, mean, var in (part.split([1, len(means), len(means)]) for part in self.group.stack(own)):
            self.running_mean.mul_(still).add_(mean)
            self.running_var.mul_(still).add_(var)


def linear(
    x: Float[Tensor, "d_in ghosts ghost_rows"], weight: Float[Tensor, "d_out d_in"]
) -> Float[Tensor, "d_out ghosts ghost_rows"]:
    """W x for every row."""
    return (weight @ x.flatten(1)).view(len(weight), x.shape[1], x.shape[2])


def gated(
    x: Float[Tensor, "d_in ghosts ghost_rows"], weight: Float[Tensor, "twice_d_out d_in"], norm: nn.Module
) -> Float[Tensor, "d_out ghosts ghost_rows"]:
    """A gated linear layer: one matrix product gives the values and the gates that multiply them."""
    return nn.functional.glu(norm(linear(x, weight)), dim=0)


def gated_weights(d_in: int, d_out: int, n_layers: int) -> nn.ParameterList:
    """Weights of gated linear layers, the first of which reads another width than the others."""
    return nn.ParameterList(uniform(2 * d_out, d_out if layer else d_in) for layer in range(n_layers))


def uniform(d_out: int, d_in: int) -> Float[Tensor, "d_out d_in"]:
    """Initial weights, drawn as those of `nn.Linear`."""
    bound = 1.0 / math.sqrt(d_in)
    return torch.empty(d_out, d_in).uniform_(-bound, bound)


class FeatureTransformer(nn.Module):
    """Gated linear layers: first those whose weights all steps share, then a step's own."""

    def __init__(
        self, d_in: int, d_out: int, n_shared: int, n_independent: int, momentum: float, group: Processes
    ) -> None:
        super().__init__()
        self.weights = gated_weights(d_out if n_shared else d_in, d_out, n_independent)
        n_layers = n_shared + n_independent
        self.norms = nn.ModuleList(GhostBatchNorm(2 * d_out, momentum, group=group) for _ in range(n_layers))

    def forward(
        self, x: Float[Tensor, "d_in ghosts ghost_rows"], shared: nn.ParameterList
    ) -> Float[Tensor, "d_out ghosts ghost_rows"]:
        """Runs the layers; each but the first is added to its input, and the sum scaled by the root of a half."""
        weights = [*shared, *self.weights]
        h = gated(x, weights[0], self.norms[0])
        for weight, norm in zip(weights[1:], self.norms[1:], strict=True):
            h = (h + gated(h, weight, norm)) * math.sqrt(0.5)
        return h


class AttentiveTransformer(nn.Module):
    """Chooses a step's features.

    Differs: in pytorch-tabnet the untrained scale is 1, so that the first masks hide most features from each row at
    random, and learning takes several times as long.
    """

    def __init__(self, d_attention: int, n_features: int, momentum: float, group: Processes) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform(n_features, d_attention))
        self.norm = GhostBatchNorm(n_features, momentum, group=group)
        nn.init.constant_(self.norm.weight, FIRST_SPREAD)

    def forward(
        self,
        attention: Float[Tensor, "d_attention ghosts ghost_rows"],
        prior: Float[Tensor, "n_features ghosts ghost_rows"],
    ) -> Float[Tensor, "n_features ghosts ghost_rows"]:
        """Computes the mask; a small `prior` keeps a feature that earlier steps used from being chosen again."""
        # Numerics: the prior is in float32, and so is then the mask, whatever the products are in.
        return sparsemax(self.norm(linear(attention, self.weight)) * prior)


def entropy_sum(mask: Float[Tensor, "n_features ghosts ghost_rows"]) -> Float[Tensor, ""]:
    """Entropy of each row's mask, added up over the rows."""
    return -(mask * (mask + LOG_EPSILON).log()).sum()


class TabNet(Bottom):
    """Sums the decisions of steps that each choose their own features (Paper: Sec. 3.6).

    Unstated: all but the name. This is the encoder of pytorch-tabnet 4.1, whose every output it gives with the same
    weights. A feature is a number, a category with its whole embedding, or the matching features together; a mask has
    one value for each, which multiplies all of its columns.
    """

    feature_of_column: Int[Tensor, " d_flat"]

    def __init__(self, shape: InputShape, config: NeuralConfig, group: Processes = ALONE) -> None:
        super().__init__(shape, config, group)
        tabnet, self.group = config.tabnet, group
        self.gamma, self.sparsity, self.ghost_batch_size = tabnet.gamma, tabnet.sparsity, tabnet.ghost_batch_size
        self.widths = (tabnet.d_decision, tabnet.d_attention)
        self.d_out = tabnet.d_decision
        feature_widths = [1] * shape.n_numerical + [shape.d_matching] * (shape.d_matching > 0)
        feature_widths += [shape.d_embedding] * shape.n_categorical
        self.n_features = len(feature_widths)
        feature_of_column = [feature for feature, width in enumerate(feature_widths) for _ in range(width)]
        self.register_buffer("feature_of_column", torch.tensor(feature_of_column), persistent=False)

        self.input_norm = GhostBatchNorm(shape.d_flat, INPUT_MOMENTUM, is_shared=True, group=group)
        d_hidden = sum(self.widths)
        layers = (shape.d_flat, d_hidden, tabnet.n_shared, tabnet.n_independent, tabnet.momentum, group)
        self.shared = gated_weights(shape.d_flat, d_hidden, tabnet.n_shared)
        self.first_transformer = FeatureTransformer(*layers)
        self.transformers = nn.ModuleList(FeatureTransformer(*layers) for _ in range(tabnet.n_steps))
        attention = (tabnet.d_attention, self.n_features, tabnet.momentum, group)
        self.attentions = nn.ModuleList(AttentiveTransformer(*attention) for _ in range(tabnet.n_steps))

    def forward(self, inputs: Inputs) -> BottomOutput:
        """Runs the steps; the penalty is the masks' entropy, averaged over steps and rows, times `sparsity`."""
        parts = [self._decide(x) for x in self._ghosts(inputs)]
        x_final = torch.cat([torch.stack(decisions).sum(dim=0).flatten(1).T for decisions, _ in parts])
        if not self.training:
            return BottomOutput(x_final)
        entropy = torch.stack([entropy_sum(mask) for _, masks in parts for mask in masks]).sum()
        n_rows = self.group.total(len(x_final))
        return BottomOutput(x_final, self.sparsity / (len(self.attentions) * n_rows) * entropy)

    @torch.no_grad()
    def masks(self, inputs: Inputs) -> Float[Tensor, "rows n_steps n_features"]:
        """How much of each feature each step reads, features in the order of `Inputs.flat`; a mask adds up to 1."""
        assert not self.training, "masks explain a trained network, in eval mode"
        (x,) = self._ghosts(inputs)
        return torch.stack([mask.flatten(1).T for mask in self._decide(x)[1]], dim=1)

    @torch.no_grad()
    def attention(self, inputs: Inputs) -> Float[Tensor, "rows n_features"]:
        """How much all steps together read of each feature, each step for as much as it decides.

        The aggregate of arXiv 1908.07442, scaled to add up to 1; 0 where no step decides anything. Features are
        numbers, categories, then all matching features as one.
        """
        assert not self.training, "attention explains a trained network, in eval mode"
        (x,) = self._ghosts(inputs)
        steps = zip(*self._decide(x), strict=True)
        read = torch.stack([decision.sum(dim=0) * mask for decision, mask in steps]).sum(dim=0).flatten(1).T
        read = read / read.sum(dim=1, keepdim=True).clamp(min=torch.finfo(read.dtype).tiny)
        kinds = (inputs.numerical.shape[1], min(inputs.matching.shape[1], 1), inputs.embedded.shape[1])
        numbers, matching, categories = read.split(kinds, dim=1)
        return torch.cat([numbers, categories, matching], dim=1)

    def _ghosts(self, inputs: Inputs) -> Iterator[Float[Tensor, "d_flat ghosts ghost_rows"]]:
        """The normalised inputs: in training ghost batches of equal size and then one of the rest, else all rows."""
        x = self.input_norm(inputs.flat().T.contiguous()[:, None])
        # Numerics: masking in the products' own type spares each product a conversion of its input.
        kind = x.device.type
        x = x.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype)
        n_rows = self.group.total(x.shape[2]) if self.training else 0
        if n_rows == 0:
            yield x
            return
        size = ghost_rows(n_rows, self.ghost_batch_size)
        rest = n_rows % size
        # Of a batch that processes share, each has whole ghost batches, perhaps none, and one of them has the rest.
        n_ghosts, own_rest = divmod(x.shape[2], size)
        assert own_rest in (0, rest), "processes must share a batch where ghost batches end"
        yield x[..., : n_ghosts * size].reshape(len(x), n_ghosts, size)
        if rest:
            yield x[..., n_ghosts * size :].reshape(len(x), int(own_rest > 0), rest).contiguous()

    def _decide(
        self, x: Float[Tensor, "d_flat ghosts ghost_rows"]
    ) -> tuple[
        list[Float[Tensor, "d_decision ghosts ghost_rows"]], list[Float[Tensor, "n_features ghosts ghost_rows"]]
    ]:
        """Each step's decision, and its mask."""
        _, attention = self.first_transformer(x, self.shared).split(self.widths)
        prior = torch.ones(self.n_features, x.shape[1], x.shape[2], device=x.device)
        decisions, masks = [], []
        for attentive, transformer in zip(self.attentions, self.transformers, strict=True):
            mask = attentive(attention, prior)
            prior = prior * (self.gamma - mask)
            masked = x * mask.to(x.dtype).index_select(0, self.feature_of_column)
            decision, attention = transformer(masked, self.shared).split(self.widths)
            decisions.append(decision.relu())
            masks.append(mask)
        return decisions, masks
