"""rtdl_revisiting_models: the FT-Transformer of its authors, in the plain loop."""

from rtdl_revisiting_models import FTTransformer

from .contender import SHAPE
from .plain_loop import PlainLoop
from .rows import N_NUMERICAL, VOCABULARIES


def rtdl_in_plain_loop(bf16: bool) -> PlainLoop:
    """The package has a model and no loop."""
    notes = ("Adam at the common rate instead of the package's AdamW at 1e-4",)
    return PlainLoop({"ft_transformer": ft_transformer}, notes, bf16)


def ft_transformer(n_tasks: int) -> FTTransformer:
    """Makes the model; it maps numbers and levels to logits."""
    return FTTransformer(
        n_cont_features=N_NUMERICAL,
        cat_cardinalities=[size + 1 for size in VOCABULARIES],
        d_out=n_tasks,
        n_blocks=SHAPE.n_blocks,
        d_block=SHAPE.d_token,
        attention_n_heads=SHAPE.n_heads,
        attention_dropout=0.0,
        ffn_d_hidden_multiplier=SHAPE.ffn_multiplier,
        ffn_dropout=0.0,
        residual_dropout=0.0,
    )
