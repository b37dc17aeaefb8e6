"""Settings of the networks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shelfrank.config.base import MAX_COUNT, Strict, Width

Depth = Annotated[int, Field(ge=1, le=64)]
"""Number of successive layers, blocks or steps."""
Layers = Annotated[tuple[Width, ...], Field(max_length=64)]
"""Widths of successive layers."""


class DCNV2Config(Strict):
    """The deep and cross network (Paper: Sec. 3.3, Eq. (6)-(8)).

    Attributes:
        n_cross_layers: Cross layers.
        deep_layers: Widths of the deep layers.
    """

    n_cross_layers: Depth = 2
    deep_layers: Layers = (256, 128)


class FTTransformerConfig(Strict):
    """The feature tokenizer and transformer (Paper: Sec. 3.3, Eq. (9)-(12)); its tokens are `d_embedding` wide.

    Attributes:
        n_blocks: Transformer blocks.
        n_heads: Heads of each attention; they share `d_embedding` evenly.
        ffn_multiplier: Hidden width of a block's dense half, in tokens' widths.
        attention_dropout: Share of attention weights dropped in training.
    """

    n_blocks: Depth = 2
    n_heads: Width = 4
    ffn_multiplier: float = Field(default=4 / 3, gt=0, le=64)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)


class MLPConfig(Strict):
    """A plain shared bottom of dense layers.

    Attributes:
        layers: Widths.
    """

    layers: Layers = (256, 128)


class MMoEConfig(Strict):
    """Experts and gates (Paper: Sec. 3.3, Eq. (13)-(14)).

    Attributes:
        n_experts: Experts shared by all tasks; the paper wants more experts than tasks.
        expert_layers: Widths of an expert's layers.
        balance: Weight of a penalty on gates that on average prefer some experts to others; with 0, gates may leave
            experts unused.
    """

    n_experts: int = Field(default=6, ge=1, le=1024)
    expert_layers: Layers = Field(default=(128, 64), min_length=1)
    balance: float = Field(default=0.0, ge=0, le=1e6)


class TabNetConfig(Strict):
    """TabNet (Paper: Sec. 3.6), named as in its own paper (arXiv 1908.07442).

    Attributes:
        n_steps: Decision steps.
        d_decision: Width of each step's decision, and of `x_final`.
        d_attention: Width of the input to the next step's feature mask.
        n_shared: Feature-transformer layers that all steps share.
        n_independent: Feature-transformer layers per step.
        gamma: Relaxation of feature reuse; 1 uses each feature at one step only.
        ghost_batch_size: Rows over which ghost batch normalisation normalises.
        momentum: Weight of the newest rows in its running statistics.
        sparsity: Weight of the masks' entropy in the loss.
    """

    n_steps: Depth = 3
    d_decision: Width = 64
    d_attention: Width = 64
    n_shared: int = Field(default=2, ge=0, le=64)
    n_independent: int = Field(default=2, ge=0, le=64)
    gamma: float = Field(default=1.3, ge=1, le=1000)
    ghost_batch_size: int = Field(default=128, ge=2, le=MAX_COUNT)
    momentum: float = Field(default=0.02, gt=0, le=1)
    sparsity: float = Field(default=1e-3, ge=0, le=1e6)

    @model_validator(mode="after")
    def _has_layers(self) -> "TabNetConfig":
        if self.n_shared + self.n_independent == 0:
            raise ValueError("n_shared and n_independent must not both be 0")
        return self


class TextConfig(Strict):
    """The text encoder and its matching features (Paper: Sec. 3.3, Eq. (3)-(4)).

    Attributes:
        matching: `cross` multiplies the query's and the product's vector element by element, `dot` is their dot
            product, `none` uses no text.
        model: A BERT-like encoder: a local folder, a hub name, or `packaged`, the MiniLM of the extra `offline`.
        trained_layers: Encoder layers to train, counted from the last; the others and the embeddings are frozen.
        max_tokens: Maximum tokens of a text.
        learning_rate: Adam's rate for these layers; None takes the rate of the rest of the network.
        normalise_vectors: Batch normalisation of both vectors before they are multiplied.
        dropout: Share of units dropped in the trained layers; None keeps the encoder's own.
        cache_mb: Maximum megabytes on disk for the output of one encoder's frozen layers; other texts are encoded again
            at each step.
        cache_dtype: Number format of that cache.
    """

    matching: Literal["none", "cross", "dot"] = "none"
    model: str = "huawei-noah/TinyBERT_General_6L_768D"
    trained_layers: int = Field(default=1, ge=0, le=1024)
    max_tokens: int = Field(default=64, ge=3, le=MAX_COUNT)
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    normalise_vectors: bool = False
    dropout: float | None = Field(default=None, ge=0, lt=1)
    cache_mb: float = Field(default=4096.0, ge=0, le=1e9)
    cache_dtype: Literal["fp16", "bf16"] = "fp16"


class PositionBiasConfig(Strict):
    """Additive logits by shown position: added in training, left out when rows are scored, served or exported.

    Attributes:
        n_positions: Positions with a bias of their own; later ones share the last one's. 0 learns no bias.
        by: Categorical feature whose values have biases of their own, such as the device; a log without it has one
            bias per position. None has one in any case.
        learning_rate_factor: Factor on the learning rate of the biases.
    """

    n_positions: int = Field(default=0, ge=0, le=100_000)
    by: str | None = None
    learning_rate_factor: float = Field(default=20.0, gt=0, le=1000)


class NeuralConfig(Strict):
    """inputs -> bottom -> head -> towers.

    Attributes:
        d_embedding: Width of every categorical embedding.
        bottom: Shared bottom; `none` passes the inputs through.
        head: Input of each task's tower: its mixture of experts, or, with `none`, the bottom's output.
        single_task: Learns only this task; `auto` takes add_to_cart if the log has it, else the log's first task. None
            learns all tasks together.
        dcn_v2: Sizes of the bottom `dcn_v2`.
        ft_transformer: Sizes of the bottom `ft_transformer`.
        mlp: Sizes of the bottom `mlp`.
        tabnet: Sizes of the bottom `tabnet`.
        mmoe: Experts and gates.
        text: The text encoder.
        position_bias: Logits by shown position that only training adds.
        entire_space: Learns add_to_cart and purchase as additions to the logit of the log's first task, click, over all
            rows; otherwise the tasks' logits share nothing but the layers below the towers.
        calibrate: Scales and shifts each task's logits after every epoch, so that probabilities fit the validation
            split's rows as they were shown.
        n_networks: Networks of different initial weights that are trained on the same batches and score as one, by
            their mean logit; only for a network without text.
        tower_layers: Widths of a tower's hidden layers.
        batch_norm: Batch normalisation after each hidden linear layer of bottom, experts and towers, and of the
            matching features.
        clip: Standard deviations at which numbers are cut off, so that a rare value such as a product's first purchase
            does not decide a score alone; None keeps them as they are.
        dropout: Share of hidden units dropped in training, after each hidden layer.
    """

    d_embedding: Width = 16
    bottom: Literal["none", "mlp", "dcn_v2", "ft_transformer", "tabnet"] = "dcn_v2"
    head: Literal["none", "mmoe"] = "mmoe"
    single_task: str | None = None
    dcn_v2: DCNV2Config = DCNV2Config()
    ft_transformer: FTTransformerConfig = FTTransformerConfig()
    mlp: MLPConfig = MLPConfig()
    tabnet: TabNetConfig = TabNetConfig()
    mmoe: MMoEConfig = MMoEConfig()
    text: TextConfig = TextConfig()
    position_bias: PositionBiasConfig = PositionBiasConfig()
    entire_space: bool = False
    calibrate: bool = False
    n_networks: int = Field(default=1, ge=1, le=100)
    tower_layers: Layers = (32,)
    batch_norm: bool = True
    clip: float | None = Field(default=None, gt=0, le=1e6)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @property
    def read_keys(self) -> list[str]:
        """The keys that this network uses: without unused bottoms, head or encoder."""
        unread = {"dcn_v2", "ft_transformer", "mlp", "tabnet"} - {self.bottom}
        if self.head == "none":
            unread.add("mmoe")
        if self.text.matching == "none":
            unread.add("text")
        keys = [name for name in type(self).model_fields if name not in unread]
        return keys if "text" in keys else [*keys, "text.matching"]

    @model_validator(mode="after")
    def _reads_text_alone(self) -> "NeuralConfig":
        if self.n_networks > 1 and self.text.matching != "none":
            raise ValueError(
                f"n_networks must be 1 for a network with text, but it is {self.n_networks} with text.matching "
                f"{self.text.matching}"
            )
        return self

    @model_validator(mode="after")
    def _heads_share_the_tokens(self) -> "NeuralConfig":
        n_heads = self.ft_transformer.n_heads
        if self.bottom == "ft_transformer" and self.d_embedding % n_heads:
            raise ValueError(
                f"d_embedding ({self.d_embedding}) must be a multiple of ft_transformer.n_heads ({n_heads})"
            )
        multiplier = self.ft_transformer.ffn_multiplier
        if self.bottom == "ft_transformer" and self.d_embedding * multiplier < 1:
            raise ValueError(
                f"d_embedding ({self.d_embedding}) times ft_transformer.ffn_multiplier ({multiplier:g}) must be 1 or "
                "more"
            )
        return self
