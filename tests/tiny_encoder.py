"""Encoders with random weights, small enough to train in a test."""

from pathlib import Path

import torch

WORDS = "acme bolt cedar dune sofa chair lamp desk shelf red blue green small large"
DIGITS = [str(digit) for digit in range(10)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *DIGITS, *(f"##{d}" for d in DIGITS)]


def save_tiny_bert(folder: Path, seed: int = 0, dropout: float = 0.1, n_layers: int = 2) -> Path:
    """Writes a BERT, 32 wide, that reads 16 tokens."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        # Weights of the usual 0.02 make all texts alike.
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    return folder


def save_tiny_encoder(folder: Path, seed: int = 0, dropout: float = 0.1) -> Path:
    """Writes the same of two layers as a folder of sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    parts = save_tiny_bert(folder.with_name(f"{folder.name}-parts"), seed, dropout)
    model = SentenceTransformer(
        modules=[Transformer(str(parts), max_seq_length=16), Pooling(32, pooling_mode="mean"), Normalize()],
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)
    return folder
