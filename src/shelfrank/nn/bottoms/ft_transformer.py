"""FT-Transformer as shared bottom: every feature is a token, and a [CLS] token reads them all."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shelfrank.config import NeuralConfig
from shelfrank.core.processes import ALONE, Processes
from shelfrank.nn.bottoms.base import Bottom, BottomOutput
from shelfrank.nn.inputs import Inputs, InputShape

CHUNK_TOKENS = 8192
"""Tokens that pass the blocks at once: few enough to stay in the processor's cache from one layer to the next."""


class FeatureTokenizer(nn.Module):
    """One token per feature behind the [CLS] token, and one for the matching features at the end.

    Paper: Sec. 3.3, Eq. (9)-(11).

    Differs: to a category's embedding of Eq. (2) is added a bias per feature, as in the reference, so that what the
    tokens of a feature have in common need not be learned again for each category. It begins at 0.

    Args:
        shape: Number and width of a row's inputs.

    Attributes:
        n_tokens: Tokens of a row.
    """

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        d = shape.d_embedding
        self.cls = _uniform(d)
        self.weight = _uniform(shape.n_numerical, d)
        self.bias = _uniform(shape.n_numerical, d)
        self.category_bias = nn.Parameter(torch.zeros(shape.n_categorical, d))
        self.matching = nn.Linear(shape.d_matching, d) if shape.d_matching else None
        self.n_tokens = 1 + shape.n_numerical + shape.n_categorical + bool(shape.d_matching)

    def forward(self, inputs: Inputs) -> Float[Tensor, "rows n_tokens d"]:
        """Stacks the tokens."""
        cls = self.cls.expand(inputs.numerical.shape[0], 1, -1)
        numbers = torch.addcmul(self.bias, inputs.numerical[:, :, None], self.weight)
        tokens = [cls, numbers, inputs.embedded + self.category_bias]
        if self.matching is not None:
            tokens.append(self.matching(inputs.matching)[:, None, :])
        return torch.cat(tokens, dim=1)


class Attention(nn.Module):
    """Multi-head self-attention between the tokens of a row.

    Differs: the reference leaves the output layer out where there is one head.
    """

    def __init__(self, d: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.d_head = n_heads, d // n_heads
        self.scale = self.d_head**-0.5
        self.qkv = nn.Linear(d, 3 * d)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(d, d)
        for linear in (self.qkv, self.out):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "rows n_tokens d"]) -> Float[Tensor, "rows n_tokens d"]:
        """Lets every token read all tokens."""
        heads = self.qkv(x).unflatten(2, (3, self.n_heads, self.d_head))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        # Numerics: in bf16 on a processor, PyTorch's fused attention takes several times as long as these products.
        weights = self.dropout(((query * self.scale) @ key.transpose(2, 3)).softmax(dim=3))
        return self.out((weights @ value).transpose(1, 2).flatten(2))

    def read_first(self, x: Float[Tensor, "rows n_tokens d"]) -> Float[Tensor, "rows d"]:
        """Lets the first token alone read all tokens.

        Cost: no token needs a key or a value. A query's score is `q . (K x + b) = (K^T q) . x + q . b`, in which the
        last part is the same for all tokens and leaves the softmax as it is; and the mean of values is the value of
        the mean.
        """
        heads = (self.n_heads, self.d_head)
        to_query, to_key, to_value = self.qkv.weight.chunk(3)
        query_bias, _, value_bias = self.qkv.bias.chunk(3)
        query = nn.functional.linear(x[:, 0], to_query, query_bias).unflatten(1, heads) * self.scale
        query = torch.einsum("rhe,hed->rhd", query, to_key.unflatten(0, heads))
        tokens = x.to(query.dtype)
        weights = self.dropout((query @ tokens.transpose(1, 2)).softmax(dim=2))
        value = torch.einsum("rhd,hed->rhe", weights @ tokens, to_value.unflatten(0, heads))
        # In training, dropout leaves weights that do not sum to 1.
        value = value + weights.sum(dim=2, keepdim=True) * value_bias.unflatten(0, heads)
        return self.out(value.flatten(1))

    def first_weights(self, x: Float[Tensor, "rows n_tokens d"]) -> Float[Tensor, "rows n_heads n_tokens"]:
        """How much of each token the first token reads, by head."""
        query, key, _ = self.qkv(x).unflatten(2, (3, self.n_heads, self.d_head)).permute(2, 0, 3, 1, 4)
        return ((query[:, :, :1] * self.scale) @ key.transpose(2, 3)).softmax(dim=3)[:, :, 0]


class ReGLU(nn.Module):
    """Multiplies one half of the units by the ReLU of the other."""

    def forward(self, x: Float[Tensor, "*rows two_d"]) -> Float[Tensor, "*rows d"]:
        """Halves the width."""
        values, gates = x.chunk(2, dim=-1)
        return values * gates.relu()


class Block(nn.Module):
    """Attention and a dense half, each normalised before and added to what came in.

    The first block's attention is not normalised, as in the reference: its tokens are the features themselves.
    """

    def __init__(self, d: int, config: NeuralConfig, first: bool) -> None:
        super().__init__()
        sizes = config.ft_transformer
        d_hidden = int(d * sizes.ffn_multiplier)
        self.attention_norm = nn.Identity() if first else nn.LayerNorm(d)
        self.attention = Attention(d, sizes.n_heads, sizes.attention_dropout)
        self.ffn = nn.Sequential(
            nn.LayerNorm(d),
            nn.Linear(d, 2 * d_hidden),
            ReGLU(),
            nn.Dropout(config.dropout),
            nn.Linear(d_hidden, d),
        )

    def forward(self, x: Float[Tensor, "rows n_tokens d"]) -> Float[Tensor, "rows n_tokens d"]:
        """Computes every token."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.ffn(x)

    def read_first(self, x: Float[Tensor, "rows n_tokens d"]) -> Float[Tensor, "rows d"]:
        """Computes the first token alone."""
        first = x[:, 0] + self.attention.read_first(self.attention_norm(x))
        return first + self.ffn(first)


class FTTransformer(Bottom):
    """Transformer blocks over the features' tokens, read by the [CLS] token (Paper: Sec. 3.3, Eq. (9)-(12)).

    Equals the authors' `rtdl_revisiting_models` (arXiv 2106.11959) with the same weights. Normalises by layer, whatever
    `batch_norm` says.

    Weights begin as theirs, but for two things. The linear layer of Eq. (12) begins as the identity: theirs gives the
    logits, ours stands before a head that does, and a second layer drawn at random would only damp what passes. And
    the categories of a feature begin close to each other, so that one seen a few times is near its feature's mean
    instead of anywhere, which the layer normalisations would even enlarge.
    """

    embedding_std = 0.01

    def __init__(self, shape: InputShape, config: NeuralConfig, group: Processes = ALONE) -> None:
        super().__init__(shape, config, group)
        d = self.d_out = shape.d_embedding
        self.tokenizer = FeatureTokenizer(shape)
        n_before = config.ft_transformer.n_blocks - 1
        self.blocks = nn.Sequential(*(Block(d, config, first=i == 0) for i in range(n_before)))
        self.last_block = Block(d, config, first=n_before == 0)
        self.output = nn.Sequential(nn.LayerNorm(d), nn.ReLU(), _identity(d))

    def forward(self, inputs: Inputs) -> BottomOutput:
        """Reads the rows a chunk at a time, which changes nothing but the speed."""
        if torch.onnx.is_in_onnx_export():
            # A graph would keep the number of chunks.
            return BottomOutput(self._read(inputs))
        n_rows = max(CHUNK_TOKENS // self.tokenizer.n_tokens, 1)
        columns = (inputs.numerical, inputs.embedded, inputs.matching)
        chunks = zip(*(column.split(n_rows) for column in columns), strict=True)
        return BottomOutput(torch.cat([self._read(Inputs(*chunk)) for chunk in chunks]))

    @torch.no_grad()
    def attention(self, inputs: Inputs) -> Float[Tensor, "rows n_features"]:
        """How much the [CLS] token reads of each feature in the last block, averaged over the heads.

        Features are numbers, categories, then all matching features as one; what is missing to 1 is what the [CLS]
        token reads of itself.
        """
        tokens = self.last_block.attention_norm(self.blocks(self.tokenizer(inputs)))
        return self.last_block.attention.first_weights(tokens).mean(dim=1)[:, 1:]

    def _read(self, inputs: Inputs) -> Float[Tensor, "rows d"]:
        cls = self.last_block.read_first(self.blocks(self.tokenizer(inputs)))
        return self.output(cls)


def _identity(d: int) -> nn.Linear:
    """A layer that begins by changing nothing."""
    linear = nn.Linear(d, d)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _uniform(*shape: int) -> nn.Parameter:
    """Weights as the reference draws them."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
