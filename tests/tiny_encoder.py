"""A sentence encoder with random weights, small enough to train in a test."""

from pathlib import Path

import torch

WORDS = "acme bolt cedar dune sofa chair lamp desk shelf red blue green small large"
DIGITS = [str(digit) for digit in range(10)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *DIGITS, *(f"##{d}" for d in DIGITS)]


def save_tiny_encoder(folder: Path, seed: int = 0, dropout: float = 0.1) -> Path:
    """Writes a BERT of two layers, 32 wide, as a folder of sentence-transformers that reads 16 tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    parts = folder.with_name(f"{folder.name}-parts")
    parts.mkdir(parents=True)
    (parts / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        # Weights of the usual 0.02 make all texts alike.
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(parts)
    BertTokenizerFast(vocab=str(parts / "vocab.txt"), model_max_length=16).save_pretrained(parts)
    model = SentenceTransformer(
        modules=[Transformer(str(parts), max_seq_length=16), Pooling(32, pooling_mode="mean"), Normalize()],
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)
    return folder
