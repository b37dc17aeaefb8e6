"""FT-Transformer against its authors' package with the same weights, and its tokens against loops."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import rtdl_revisiting_models as rtdl
import torch
from torch import Tensor, nn

import plain_loops
from plain_loops import array, random_columns, random_inputs
from shelfrank.config import NeuralConfig
from shelfrank.core.errors import UserError
from shelfrank.nn.bottoms import ft_transformer
from shelfrank.nn.bottoms.ft_transformer import Attention, FeatureTokenizer, FTTransformer
from shelfrank.nn.inputs import Inputs, InputShape, TabularInputs
from shelfrank.nn.model import MultiTaskRanker
from tiny import tiny_network

N_ROWS = 7


def network(d_embedding: int, n_heads: int, n_blocks: int, *assignments: str) -> NeuralConfig:
    sizes = [f"neural.ft_transformer.n_heads={n_heads}", f"neural.ft_transformer.n_blocks={n_blocks}"]
    return tiny_network("ft_transformer", f"neural.d_embedding={d_embedding}", *sizes, *assignments)


def make_reference(n_numerical: int, sizes: Sequence[int], config: NeuralConfig) -> rtdl.FTTransformer:
    """The authors' model with its default architecture; no weight keeps a value, as 0 or 1, that would hide a use."""
    model = rtdl.FTTransformer(
        n_cont_features=n_numerical,
        cat_cardinalities=list(sizes),
        d_out=config.d_embedding,
        n_blocks=config.ft_transformer.n_blocks,
        d_block=config.d_embedding,
        attention_n_heads=config.ft_transformer.n_heads,
        attention_dropout=0.0,
        ffn_d_hidden=None,
        ffn_d_hidden_multiplier=config.ft_transformer.ffn_multiplier,
        ffn_dropout=0.0,
        residual_dropout=0.0,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def in_our_names(reference: Mapping[str, Tensor], config: NeuralConfig) -> dict[str, Tensor]:
    """The reference's weights, or their gradients, under the names of `FTTransformer`."""
    d = config.d_embedding
    renamed = {
        "tokenizer.cls": reference["cls_embedding.weight"],
        "tokenizer.weight": reference.get("cont_embeddings.weight", torch.empty(0, d)),
        "tokenizer.bias": reference.get("cont_embeddings.bias", torch.empty(0, d)),
        "tokenizer.category_bias": reference.get("cat_embeddings.bias", torch.empty(0, d)),
    }
    for kind in ("weight", "bias"):
        for i in range(config.ft_transformer.n_blocks):
            ours = f"blocks.{i}" if i < config.ft_transformer.n_blocks - 1 else "last_block"
            theirs = f"backbone.blocks.{i}"
            qkv = [reference[f"{theirs}.attention.W_{part}.{kind}"] for part in "qkv"]
            renamed[f"{ours}.attention.qkv.{kind}"] = torch.cat(qkv)
            if config.ft_transformer.n_heads > 1:
                renamed[f"{ours}.attention.out.{kind}"] = reference[f"{theirs}.attention.W_out.{kind}"]
            else:
                renamed[f"{ours}.attention.out.{kind}"] = torch.eye(d) if kind == "weight" else torch.zeros(d)
            if i > 0:
                renamed[f"{ours}.attention_norm.{kind}"] = reference[f"{theirs}.attention_normalization.{kind}"]
            renamed[f"{ours}.ffn.0.{kind}"] = reference[f"{theirs}.ffn_normalization.{kind}"]
            renamed[f"{ours}.ffn.1.{kind}"] = reference[f"{theirs}.ffn.linear1.{kind}"]
            renamed[f"{ours}.ffn.4.{kind}"] = reference[f"{theirs}.ffn.linear2.{kind}"]
        renamed[f"output.0.{kind}"] = reference[f"backbone.output.normalization.{kind}"]
        renamed[f"output.2.{kind}"] = reference[f"backbone.output.linear.{kind}"]
    return renamed


@pytest.mark.parametrize(
    ("n_numerical", "sizes", "config"),
    [
        pytest.param(4, (5, 3), network(8, 2, 3), id="three_blocks"),
        pytest.param(4, (5, 3), network(8, 4, 1), id="one_block"),
        pytest.param(30, (9,) * 20, network(24, 8, 2), id="many_features"),
        pytest.param(3, (), network(6, 3, 2), id="no_categorical"),
        pytest.param(0, (4, 3), network(6, 2, 2), id="no_numerical"),
        pytest.param(2, (4,), network(5, 1, 2), id="one_head"),
        pytest.param(2, (4,), network(6, 2, 2, "neural.ft_transformer.ffn_multiplier=0.9"), id="narrow_ffn"),
    ],
)
def test_output_and_gradients_are_the_authors(n_numerical: int, sizes: Sequence[int], config: NeuralConfig) -> None:
    torch.manual_seed(3)
    theirs = make_reference(n_numerical, sizes, config)
    ours = FTTransformer(InputShape(n_numerical, len(sizes), config.d_embedding), config)
    ours.load_state_dict(in_our_names(theirs.state_dict(), config))
    tabular = TabularInputs(sizes, config.d_embedding)
    if sizes:
        tabular.table.weight.data = torch.cat([embedding.weight for embedding in theirs.cat_embeddings.embeddings])
    numerical, codes = torch.randn(N_ROWS, n_numerical), torch.zeros(N_ROWS, 0, dtype=torch.int32)
    if sizes:
        _, codes = random_columns(N_ROWS, n_numerical, sizes)

    found = ours(Inputs(numerical, tabular(codes), torch.empty(N_ROWS, 0))).x_final
    expected = theirs(numerical if n_numerical else None, codes if sizes else None)

    assert ours.d_out == config.d_embedding
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found.sin().sum().backward()
    expected.sin().sum().backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in in_our_names(gradients, config).items():
        if config.ft_transformer.n_heads > 1 or "attention.out" not in name:
            torch.testing.assert_close(ours.get_parameter(name).grad, gradient, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("d_matching", [0, 1, 5])
def test_tokens_follow_equations_9_to_11(d_matching: int) -> None:
    torch.manual_seed(2)
    sizes = [4, 3]
    shape = InputShape(3, len(sizes), d_embedding=2, d_matching=d_matching)
    tokenizer = FeatureTokenizer(shape)
    nn.init.normal_(tokenizer.category_bias)
    inputs = random_inputs(N_ROWS, shape, sizes)
    cls, weight, bias = (array(part) for part in (tokenizer.cls, tokenizer.weight, tokenizer.bias))
    category_bias = array(tokenizer.category_bias)

    expected = []
    for numbers, embedded, matching in zip(
        array(inputs.numerical), array(inputs.embedded), array(inputs.matching), strict=True
    ):
        tokens = [cls.tolist()]
        tokens += [[weight[i][j] * x + bias[i][j] for j in range(2)] for i, x in enumerate(numbers)]
        tokens += [[embedded[i][j] + category_bias[i][j] for j in range(2)] for i in range(2)]
        if tokenizer.matching is not None:
            layer = array(tokenizer.matching.weight), array(tokenizer.matching.bias)
            tokens.append(plain_loops.linear(matching.tolist(), layer))
        expected.append(tokens)

    np.testing.assert_allclose(array(tokenizer(inputs)), expected, atol=1e-6)
    assert tokenizer.n_tokens == len(expected[0]) == 1 + 3 + 2 + (d_matching > 0)


def test_the_matching_features_move_the_output() -> None:
    torch.manual_seed(2)
    shape = InputShape(2, 1, d_embedding=4, d_matching=3)
    bottom = FTTransformer(shape, network(4, 2, 2))
    inputs = random_inputs(N_ROWS, shape, [4])
    others = Inputs(inputs.numerical, inputs.embedded, inputs.matching + 1)

    assert (bottom(inputs).x_final != bottom(others).x_final).any(dim=1).all()


@pytest.mark.parametrize("rows_at_once", [1, 3, N_ROWS])
def test_chunks_change_nothing(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    shape = InputShape(3, 2, d_embedding=4, d_matching=2)
    bottom = FTTransformer(shape, network(4, 2, 2))
    inputs = random_inputs(N_ROWS, shape, [4, 3])
    inputs = Inputs(inputs.numerical, inputs.embedded.detach(), inputs.matching)
    lengths = []
    bottom.tokenizer.register_forward_hook(lambda _, __, tokens: lengths.append(len(tokens)))

    def run() -> list[Tensor]:
        bottom.zero_grad()
        x_final = bottom(inputs).x_final
        x_final.sin().sum().backward()
        return [x_final, *(parameter.grad for parameter in bottom.parameters())]

    whole = run()
    monkeypatch.setattr(ft_transformer, "CHUNK_TOKENS", (rows_at_once + 1) * bottom.tokenizer.n_tokens - 1)
    in_chunks = run()

    assert lengths[0] == N_ROWS
    assert max(lengths[1:]) == rows_at_once
    torch.testing.assert_close(in_chunks, whole, atol=1e-5, rtol=1e-5)


def test_a_row_of_more_tokens_than_a_chunk_is_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = InputShape(3, 2, d_embedding=4)
    bottom, inputs = FTTransformer(shape, network(4, 2, 2)), random_inputs(N_ROWS, shape, [4, 3])
    monkeypatch.setattr(ft_transformer, "CHUNK_TOKENS", 2)
    assert bottom(inputs).x_final.shape == (N_ROWS, 4)


@pytest.mark.parametrize("n_rows", [0, 1])
@pytest.mark.parametrize(("n_numerical", "n_categorical", "d_matching"), [(3, 0, 0), (0, 2, 0), (0, 0, 2)])
def test_features_of_one_kind_only(n_rows: int, n_numerical: int, n_categorical: int, d_matching: int) -> None:
    bottom = FTTransformer(InputShape(n_numerical, n_categorical, 4, d_matching), network(4, 2, 2))
    inputs = Inputs(
        torch.randn(n_rows, n_numerical), torch.randn(n_rows, n_categorical, 4), torch.randn(n_rows, d_matching)
    )
    optimizer = torch.optim.Adam(bottom.parameters(), fused=True)

    x_final = bottom(inputs).x_final
    x_final.sum().backward()
    optimizer.step()

    assert x_final.shape == (n_rows, 4)
    assert torch.isfinite(bottom(inputs).x_final).all()


def test_weights_begin_as_the_authors_but_for_the_last_layer_and_the_categories() -> None:
    torch.manual_seed(2)
    config = network(64, 8, 3)
    theirs = rtdl.FTTransformer(
        n_cont_features=20, cat_cardinalities=[30] * 20, d_out=64, n_blocks=3, d_block=64, attention_n_heads=8,
        attention_dropout=0.0, ffn_d_hidden_multiplier=config.ft_transformer.ffn_multiplier, ffn_dropout=0.0,
        residual_dropout=0.0,
    )  # fmt: skip
    ours = FTTransformer(InputShape(20, 20, 64), config).state_dict()
    model = MultiTaskRanker(20, [30] * 20, 1, config)

    for name, reference in in_our_names(theirs.state_dict(), config).items():
        if name.startswith("output.2") or name == "tokenizer.category_bias":
            continue
        assert ours[name].mean().item() == pytest.approx(reference.mean().item(), abs=0.02), name
        assert ours[name].std().item() == pytest.approx(reference.std().item(), rel=0.2), name
    assert torch.equal(ours["output.2.weight"], torch.eye(64))
    assert not ours["output.2.bias"].any()
    assert not ours["tokenizer.category_bias"].any()
    assert model.inputs.table.weight.std().item() == pytest.approx(FTTransformer.embedding_std, rel=0.05)


class KeepsNoLastToken(nn.Module):
    """A dropout that always drops the same weights."""

    def forward(self, weights: Tensor) -> Tensor:
        return torch.cat([1.5 * weights[..., :-1], 0 * weights[..., -1:]], dim=-1)


def test_the_first_token_reads_the_same_with_dropped_weights() -> None:
    torch.manual_seed(2)
    attention = Attention(6, n_heads=2, dropout=0.5)
    attention.dropout = KeepsNoLastToken()
    x = torch.randn(N_ROWS, 5, 6)
    torch.testing.assert_close(attention.read_first(x), attention(x)[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_attention_is_what_the_last_blocks_first_token_reads_of_each_feature(n_blocks: int) -> None:
    torch.manual_seed(2)
    shape = InputShape(3, 2, d_embedding=4, d_matching=2)
    bottom = FTTransformer(shape, network(4, 2, n_blocks)).eval()
    inputs = random_inputs(N_ROWS, shape, [4, 3])
    used: list[Tensor] = []
    bottom.last_block.attention.dropout.register_forward_hook(lambda _, __, weights: used.append(weights))
    bottom(inputs)

    found = bottom.attention(inputs)

    assert found.shape == (N_ROWS, 3 + 2 + 1)
    torch.testing.assert_close(found, used[0].mean(dim=1)[:, 1:], atol=1e-6, rtol=1e-5)
    assert (found.sum(dim=1) < 1).all()
    assert not found.requires_grad


@pytest.mark.parametrize("share", ["neural.dropout=0.5", "neural.ft_transformer.attention_dropout=0.5"])
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_dropout_is_for_training(share: str, n_blocks: int) -> None:
    torch.manual_seed(2)
    shape = InputShape(3, 2, d_embedding=4)
    inputs = random_inputs(N_ROWS, shape, [4, 3])
    bottom = FTTransformer(shape, network(4, 2, n_blocks, share))

    assert not torch.equal(bottom(inputs).x_final, bottom(inputs).x_final)
    bottom.eval()
    assert torch.equal(bottom(inputs).x_final, bottom(inputs).x_final)


def test_heads_share_the_tokens_width_evenly() -> None:
    message = r"neural: d_embedding \(17\) must be a multiple of ft_transformer.n_heads \(4\)"
    with pytest.raises(UserError, match=message):
        network(17, 4, 1)
    assert tiny_network("mlp", "neural.d_embedding=17", "neural.ft_transformer.n_heads=4").d_embedding == 17
