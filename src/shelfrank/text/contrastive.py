"""Contrastive fine-tuning of a sentence encoder with in-batch negatives, false ones masked (Paper: Sec. 3.2)."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.core.artifact import fingerprint
from shelfrank.core.errors import UserError
from shelfrank.core.processor import has_fast_bf16
from shelfrank.core.progress import progress
from shelfrank.text.checkpoint import FineTuningProgress, load_checkpoint, save_checkpoint
from shelfrank.text.encoder import TextEncoder
from shelfrank.text.graded import GradedPairs, graded_loss
from shelfrank.text.pairs import Pairs

FORWARD_TEXTS = 32
"""Texts per forward pass, of similar length, so that a few long titles do not pad the whole batch."""


@dataclass(frozen=True)
class FineTuned:
    """Statistics of a finished fine-tuning.

    Attributes:
        steps: Number of steps.
        losses: Mean loss of each epoch.
        masked: False negatives kept out of the softmax, per pair.
        seconds: Wall time, including interrupted runs.
        pairs_per_s: Pairs per second.
        bf16: Whether matrix products were computed in bfloat16.
    """

    steps: int
    losses: tuple[float, ...]
    masked: float
    seconds: float
    pairs_per_s: float
    bf16: bool


def fine_tune(
    encoder: TextEncoder,
    pairs: Pairs,
    config: SemanticTrainConfig,
    checkpoints: Path,
    graded: GradedPairs | None = None,
) -> FineTuned:
    """Trains an encoder so that a query is closer to its own products than to those of other queries (Paper: Sec. 3.2).

    The same pairs, config and number of threads give the same weights, also if training was killed and resumed from the
    last complete checkpoint of the same initial model, pairs and config.

    Args:
        encoder: Trained in place.
        pairs: Positive pairs.
        config: Settings of the training loop.
        checkpoints: Folder of the checkpoint, which the caller removes.
        graded: Pairs with grades, whose order is learned beside; None where `graded_weight` is 0.

    Returns:
        Losses, speed and masked negatives.

    Raises:
        UserError: Where there are fewer than two pairs or the loss stops being finite.
    """
    if len(pairs) < 2:
        raise UserError(f"fine-tuning needs at least 2 different pairs, but there are {len(pairs)}; use a longer log")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16())
    # Each epoch drops an incomplete last batch, in which pairs would have fewer negatives or none.
    batch_size = min(config.batch_size, len(pairs))
    n_steps = len(pairs) // batch_size
    optimizer = torch.optim.AdamW(_groups(encoder.model, config.weight_decay), lr=config.learning_rate)
    schedule = _Schedule(config.learning_rate, config.warmup, n_steps * config.epochs)
    torch.manual_seed(config.seed)
    owner = checkpoint_owner(encoder, pairs, config, graded)
    state = load_checkpoint(checkpoints, owner, encoder.model, optimizer) or FineTuningProgress()
    started, saved = time.monotonic() - state.seconds, time.monotonic()
    encoder.model.train()
    while state.step < n_steps * config.epochs:
        epoch, first = divmod(state.step, n_steps)
        order = np.random.default_rng([config.seed, epoch]).permutation(len(pairs))
        loss_sum = state.loss_sum
        title = f"Fine-tuning {epoch + 1}/{config.epochs}"
        with progress(title, total=n_steps * batch_size, unit="pairs") as advance:
            advance(first * batch_size)
            for step in range(first, n_steps):
                batch = order[step * batch_size : (step + 1) * batch_size]
                known = torch.from_numpy(pairs.known_positives(batch))
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate(state.step)
                loss = _loss(encoder, pairs, batch, known, config, bf16)
                if graded is not None:
                    random = np.random.default_rng([config.seed, epoch, step])
                    loss = loss + config.graded_weight * _loss_of_grades(encoder, graded, random, config.scale, bf16)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                loss_sum += float(loss.detach())
                state.step += 1
                state.loss_sum = loss_sum
                state.masked += int(known.sum()) - len(batch)
                advance(len(batch), note=f"loss {loss_sum / (step + 1):.4f}")
                if time.monotonic() - saved >= config.checkpoint_every_s and step + 1 < n_steps:
                    state.seconds = time.monotonic() - started
                    save_checkpoint(checkpoints, owner, encoder.model, optimizer, state)
                    saved = time.monotonic()
        if not np.isfinite(loss_sum):
            raise UserError(f"the loss must stay finite, but it became {loss_sum:g}; lower learning_rate")
        state.losses.append(loss_sum / n_steps)
        state.loss_sum = 0.0
        state.seconds = time.monotonic() - started
        save_checkpoint(checkpoints, owner, encoder.model, optimizer, state)
    encoder.model.eval()
    seen = state.step * batch_size
    return FineTuned(state.step, tuple(state.losses), state.masked / seen, state.seconds, seen / state.seconds, bf16)


def contrastive_loss(
    queries: Float[Tensor, "batch d"],
    documents: Float[Tensor, "batch d"],
    known: Bool[Tensor, "batch batch"],
    scale: float,
    symmetric: bool = False,
) -> Float[Tensor, ""]:
    """Computes the cross-entropy of each query's own document among the batch's documents (InfoNCE).

    Without false negatives it is the MultipleNegativesRankingLoss of sentence-transformers.

    Args:
        queries: Query embeddings of length 1.
        documents: Document embeddings of length 1, in the same order.
        known: Positive pairs; off the diagonal they are excluded from the softmax.
        scale: Factor on the cosine.
        symmetric: Averages it with the loss of each document's own query among the batch's queries.

    Returns:
        The mean over the batch.
    """
    logits = scale * queries @ documents.T
    own = torch.arange(len(queries))
    false_negatives = known & ~torch.eye(len(queries), dtype=torch.bool)
    logits = logits.masked_fill(false_negatives, -torch.inf)
    loss = torch.nn.functional.cross_entropy(logits, own)
    if not symmetric:
        return loss
    return (loss + torch.nn.functional.cross_entropy(logits.T, own)) / 2


def checkpoint_owner(
    encoder: TextEncoder, pairs: Pairs, config: SemanticTrainConfig, graded: GradedPairs | None = None
) -> str:
    """Fingerprint of everything that determines the weights: initial model, pairs, settings."""
    texts = [*pairs.queries, "", *pairs.documents]
    numbers = [*pairs.query_idx.tolist(), *pairs.document_idx.tolist()]
    decides: dict[str, Any] = {"model": encoder.fingerprint, "texts": texts, "pairs": numbers}
    if graded is not None:
        numbers = [*graded.starts.tolist(), *graded.document_idx.tolist(), *graded.grades.tolist()]
        decides["graded"] = [*graded.queries, "", *graded.documents, *numbers]
    return fingerprint({**decides, "config": config.of_weights})


def _loss(
    encoder: TextEncoder,
    pairs: Pairs,
    batch: Int64[np.ndarray, " batch"],
    known: Bool[Tensor, "batch batch"],
    config: SemanticTrainConfig,
    bf16: bool,
) -> Float[Tensor, ""]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        queries = _embed(encoder, [pairs.queries[index] for index in pairs.query_idx[batch]])
        documents = _embed(encoder, [pairs.documents[index] for index in pairs.document_idx[batch]])
    return contrastive_loss(queries, documents, known, config.scale, config.symmetric)


def _loss_of_grades(
    encoder: TextEncoder, graded: GradedPairs, random: np.random.Generator, scale: float, bf16: bool
) -> Float[Tensor, ""]:
    queries, rows = graded.draw(random)
    owner = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    own = np.concatenate(rows)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        of_queries = _embed(encoder, [graded.queries[query] for query in queries.tolist()])
        of_documents = _embed(encoder, [graded.documents[at] for at in graded.document_idx[own].tolist()])
    cosines = (of_queries[torch.from_numpy(owner)] * of_documents).sum(dim=1)
    return graded_loss(cosines.float(), torch.from_numpy(graded.grades[own]).float(), torch.from_numpy(owner), scale)


def _embed(encoder: TextEncoder, texts: list[str]) -> Float[Tensor, "texts d"]:
    order = np.argsort([len(text) for text in texts], kind="stable")
    parts = [
        encoder.forward([texts[row] for row in order[start : start + FORWARD_TEXTS]])
        for start in range(0, len(texts), FORWARD_TEXTS)
    ]
    return torch.cat(parts)[torch.from_numpy(np.argsort(order))]


@dataclass(frozen=True)
class _Schedule:
    max_rate: float
    warmup: float
    n_steps: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        n_warmup = self.warmup * self.n_steps
        if step + 1 <= n_warmup:
            return self.max_rate * (step + 1) / n_warmup
        return self.max_rate * (self.n_steps - step) / max(self.n_steps - n_warmup, 1.0)


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
