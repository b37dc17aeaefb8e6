"""Calibration against a brute-force minimum, and what it keeps."""

import numpy as np
import pytest
import torch

from shelfrank.nn.calibration import MIN_SCALE, PULL, Calibration


def objective(scale: float, shift: float, logits: np.ndarray, positive: np.ndarray) -> float:
    z = scale * logits + shift
    return float((np.logaddexp(0, z) - positive * z).sum() + (PULL[0] * (scale - 1) ** 2 + PULL[1] * shift**2) / 2)


def fitted(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    calibration = Calibration(labels.shape[1])
    calibration.fit(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.int8)))
    return calibration


def test_it_starts_as_the_identity_and_can_be_it_again() -> None:
    logits, calibration = torch.randn(5, 2), Calibration(2)
    assert torch.equal(calibration(logits), logits)
    calibration.fit(logits, torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1]], dtype=torch.int8))
    assert not torch.equal(calibration(logits), logits)
    calibration.reset()
    assert torch.equal(calibration(logits), logits)


@pytest.mark.parametrize(("scale", "shift"), [(0.3, -2.0), (1.0, 0.0), (2.5, 4.0), (0.5, 12.0)])
def test_it_finds_the_scale_and_shift_that_were_planted(scale: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 1)) * 2 - shift / scale
    labels = rng.random((20_000, 1)) < 1 / (1 + np.exp(-(scale * logits + shift)))
    found = fitted(logits, labels)
    assert found.scale.item() == pytest.approx(scale, rel=0.08)
    assert found.shift.item() == pytest.approx(shift, abs=0.12 * (1 + abs(shift)))
    probs = torch.sigmoid(found(torch.from_numpy(logits))).numpy()
    assert probs.mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_no_neighbour_is_better() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(60, 2)) * 3, rng.integers(-1, 2, (60, 2))
    found = fitted(logits, labels)
    for task in range(2):
        known = labels[:, task] >= 0
        own = (logits[known, task], labels[known, task])
        scale, shift = found.scale[task].item(), found.shift[task].item()
        if scale == pytest.approx(MIN_SCALE):
            continue
        least = objective(scale, shift, *own)
        around = [objective(scale + a, shift + b, *own) for a in (-0.01, 0, 0.01) for b in (-0.01, 0, 0.01)]
        assert min(around) >= least - 1e-9


def test_logits_that_fall_with_the_labels_keep_their_order_and_give_the_labels_mean() -> None:
    logits = np.linspace(2.0, 6.0, 400)[:, None]
    found = fitted(logits, np.arange(400)[:, None] < 80)
    assert found.scale.item() == pytest.approx(MIN_SCALE)
    assert torch.sigmoid(found(torch.from_numpy(logits))).mean().item() == pytest.approx(0.2, abs=1e-3)


def test_tasks_without_labels_or_positives_stay_finite_and_in_order() -> None:
    logits = np.array([[-1.0, -1.0, 2.0], [1.0, 1.0, -2.0], [0.0, 0.0, 1.0]])
    found = fitted(logits, np.array([[-1, 0, 0], [-1, 0, 1], [-1, 0, 0]]))
    assert (found.scale[0].item(), found.shift[0].item()) == (1.0, 0.0)
    # No row of the second has a positive, which says nothing about how likely one is.
    assert (found.scale[1].item(), found.shift[1].item()) == (1.0, 0.0)
    # The third task's labels contradict its logits; its order stays all the same.
    assert found.scale.min().item() >= MIN_SCALE - 1e-7
    assert torch.isfinite(torch.stack([found.scale, found.shift])).all()
