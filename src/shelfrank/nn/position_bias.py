"""The additive logits by shown position that training adds and scoring leaves out."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class PositionBias(nn.Module):
    """A logit per task, position and code of a categorical column, added to a row's logits in training.

    A product near the top is clicked more often because more customers examine it. What the bias explains, the network
    beside it need not learn from features that follow the shown order; scored without the bias, all products of a page
    are compared as if they had been shown alike.

    The biases are centred over the training rows: without them, a logit is that of a row at the average position. An
    unknown position, one below 1, has no bias and so counts as average; positions beyond the last share its bias.

    Differs: the paper uses no position. This is the additive bias of YouTube's ranker (Zhao et al. 2019).

    Args:
        n_positions: Positions with a bias of their own.
        n_tasks: Tasks.
        column: Index of the categorical column by whose codes the biases differ; None has one for every row.
        n_codes: Codes of that column.
    """

    share: Tensor

    def __init__(self, n_positions: int, n_tasks: int, column: int | None = None, n_codes: int = 1) -> None:
        super().__init__()
        self.n_positions, self.column, self.n_codes = n_positions, column, n_codes
        self.table = nn.Parameter(torch.zeros(n_codes * n_positions, n_tasks))
        self.register_buffer("share", torch.zeros(n_codes * n_positions))

    def count(self, position: Int[Tensor, " rows"], codes: Int[Tensor, " rows"] | None) -> None:
        """Centres the biases over the training rows; `codes` are those of `column`, None without one."""
        known = position >= 1
        places = self._places(position[known], None if codes is None else codes[known])
        counts = torch.bincount(places, minlength=len(self.share)).double()
        self.share.copy_(counts / counts.sum().clamp(min=1))

    def centred(self) -> Float[Tensor, "places n_tasks"]:
        """The bias of each code and position; their mean over the rows that were counted is 0."""
        return self.table - self.share @ self.table

    def forward(
        self, position: Int[Tensor, " rows"], categorical: Int[Tensor, "rows n_cat"]
    ) -> Float[Tensor, "rows n_tasks"]:
        """Looks the rows' biases up."""
        codes = None if self.column is None else categorical[:, self.column]
        biases = self.centred()[self._places(position.clamp(min=1), codes)]
        return biases * (position >= 1)[:, None]

    def _places(self, position: Int[Tensor, " rows"], codes: Int[Tensor, " rows"] | None) -> Int[Tensor, " rows"]:
        places = position.long().clamp(max=self.n_positions) - 1
        return places if codes is None else places + self.n_positions * codes.long()
