"""Contrastive fine-tuning of a sentence encoder with in-batch negatives, false ones masked (Paper: Sec. 3.2)."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shelfrank.config.semantic import SemanticTrainConfig
from shelfrank.core.artifact import fingerprint
from shelfrank.core.errors import UserError
from shelfrank.core.processor import has_fast_bf16
from shelfrank.core.progress import progress
from shelfrank.text.checkpoint import Standing, load_checkpoint, save_checkpoint
from shelfrank.text.encoder import TextEncoder
from shelfrank.text.pairs import Pairs

FORWARD_TEXTS = 32
"""Texts embedded at a time, of about equal length: a batch of a few long titles is not padded to the longest."""


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning left behind beside the encoder's weights.

    Attributes:
        steps: Steps taken.
        losses: Mean loss of each epoch.
        masked: False negatives kept out of the softmax, per pair.
        seconds: Wall time of all pieces of the training.
        pairs_per_s: Pairs over these seconds.
        bf16: Whether matrix products were computed in bfloat16.
    """

    steps: int
    losses: tuple[float, ...]
    masked: float
    seconds: float
    pairs_per_s: float
    bf16: bool


def fine_tune(encoder: TextEncoder, pairs: Pairs, config: SemanticTrainConfig, checkpoints: Path) -> FineTuned:
    """Trains an encoder so that a query lies nearer to its products than to those of other queries.

    The same pairs, config and number of threads give the same weights, also where training was killed and started
    again: it goes on from the last complete checkpoint of the same start, pairs and config.

    Args:
        encoder: Trained in place.
        pairs: Positive pairs.
        config: The loop's settings.
        checkpoints: Folder of the checkpoint, which stays until the caller removes it.

    Returns:
        Losses, rate and what was masked.

    Raises:
        UserError: Where there are fewer than two pairs or the loss stops being finite.
    """
    if len(pairs) < 2:
        raise UserError(f"fine-tuning needs at least 2 different pairs, but there are {len(pairs)}; take a longer log")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16())
    # Each epoch leaves out less than a batch: in a smaller last one a pair would have fewer negatives, or none.
    batch_size = min(config.batch_size, len(pairs))
    n_steps = len(pairs) // batch_size
    optimizer = torch.optim.AdamW(_groups(encoder.model, config.weight_decay), lr=config.learning_rate)
    schedule = _Schedule(config.learning_rate, config.warmup, n_steps * config.epochs)
    torch.manual_seed(config.seed)
    owner = checkpoint_owner(encoder, pairs, config)
    standing = load_checkpoint(checkpoints, owner, encoder.model, optimizer) or Standing()
    started, saved = time.monotonic() - standing.seconds, time.monotonic()
    encoder.model.train()
    while standing.step < n_steps * config.epochs:
        epoch, first = divmod(standing.step, n_steps)
        order = np.random.default_rng([config.seed, epoch]).permutation(len(pairs))
        loss_sum = standing.loss_sum
        title = f"Fine-tuning {epoch + 1}/{config.epochs}"
        with progress(title, total=n_steps * batch_size, unit="pairs") as advance:
            advance(first * batch_size)
            for step in range(first, n_steps):
                batch = order[step * batch_size : (step + 1) * batch_size]
                known = torch.from_numpy(pairs.known_positives(batch))
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate(standing.step)
                loss = _loss(encoder, pairs, batch, known, config, bf16)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                loss_sum += float(loss.detach())
                standing.step += 1
                standing.loss_sum = loss_sum
                standing.masked += int(known.sum()) - len(batch)
                advance(len(batch), note=f"loss {loss_sum / (step + 1):.4f}")
                if time.monotonic() - saved >= config.checkpoint_every_s and step + 1 < n_steps:
                    standing.seconds = time.monotonic() - started
                    save_checkpoint(checkpoints, owner, encoder.model, optimizer, standing)
                    saved = time.monotonic()
        if not np.isfinite(loss_sum):
            raise UserError(f"the loss must stay finite, but it became {loss_sum:g}; lower learning_rate")
        standing.losses.append(loss_sum / n_steps)
        standing.loss_sum = 0.0
        standing.seconds = time.monotonic() - started
        save_checkpoint(checkpoints, owner, encoder.model, optimizer, standing)
    encoder.model.eval()
    seen = standing.step * batch_size
    return FineTuned(
        standing.step, tuple(standing.losses), standing.masked / seen, standing.seconds, seen / standing.seconds, bf16
    )


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
        queries: Embeddings of length 1.
        documents: Those of the documents, in the same order.
        known: Pairs that are positive; off the diagonal they are kept out of the softmax.
        scale: Factor on the cosine.
        symmetric: Averages it with the loss of each document's own query among the queries.

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


def checkpoint_owner(encoder: TextEncoder, pairs: Pairs, config: SemanticTrainConfig) -> str:
    """Fingerprint of everything that decides the weights: start, pairs, settings."""
    settings = config.model_dump(mode="json", exclude={"checkpoint_every_s", "threads", "model"})
    texts = [*pairs.queries, "", *pairs.documents]
    numbers = [*pairs.query_idx.tolist(), *pairs.document_idx.tolist()]
    return fingerprint({"model": encoder.fingerprint, "texts": texts, "pairs": numbers, "config": settings})


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


def _embed(encoder: TextEncoder, texts: list[str]) -> Float[Tensor, "texts d"]:
    order = np.argsort([len(text) for text in texts], kind="stable")
    parts = [
        encoder.forward([texts[row] for row in order[start : start + FORWARD_TEXTS]])
        for start in range(0, len(texts), FORWARD_TEXTS)
    ]
    return torch.cat(parts)[torch.from_numpy(np.argsort(order))]


@dataclass(frozen=True)
class _Schedule:
    highest: float
    warmup: float
    n_steps: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        n_warmup = self.warmup * self.n_steps
        if step + 1 <= n_warmup:
            return self.highest * (step + 1) / n_warmup
        return self.highest * (self.n_steps - step) / max(self.n_steps - n_warmup, 1.0)


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
