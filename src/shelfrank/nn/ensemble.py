"""Several networks that score as one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from shelfrank.nn.calibration import Calibration
from shelfrank.nn.model import MultiTaskRanker, Outputs


class Ensemble(nn.Module):
    """Networks of one shape and different initial weights, whose logits are averaged.

    Networks err in part by chance: by where they started. The mean of a few errs less, for as many times the work.

    Differs: the paper has one network.

    Args:
        members: The networks, without text and without a calibration of their own.
        calibrate: Whether the mean is calibrated.
    """

    text = None

    def __init__(self, members: Sequence[MultiTaskRanker], calibrate: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.n_tasks = members[0].n_tasks
        self.calibration = Calibration(self.n_tasks) if calibrate else None

    def forward(
        self, numerical: Float[Tensor, "rows n_num"], categorical: Int[Tensor, "rows n_cat"], texts: None = None
    ) -> Outputs:
        """Averages the members' logits, and those of the relevance classes."""
        assert not self.training, "the members of an ensemble are trained one by one"
        outputs = [member(numerical, categorical) for member in self.members]
        logits = torch.stack([each.logits for each in outputs]).mean(dim=0)
        relevance = [each.relevance for each in outputs if each.relevance is not None]
        return Outputs(
            logits if self.calibration is None else self.calibration(logits),
            torch.stack(relevance).mean(dim=0) if relevance else None,
            None,
        )

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters by box, of all members."""
        counts = [member.parameter_counts() for member in members_of(self)]
        return {name: sum(each[name] for each in counts) for name in counts[0]}


Network = MultiTaskRanker | Ensemble
"""What scores rows."""


def members_of(model: Network) -> list[MultiTaskRanker]:
    """The networks of an ensemble, or the one there is."""
    return [model] if isinstance(model, MultiTaskRanker) else list(model.members)  # pyright: ignore[reportReturnType]
