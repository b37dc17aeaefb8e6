"""Graphs of ONNX: the network, and the encoders that read a query."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jaxtyping
import numpy as np
import torch
from torch import Tensor, nn

from shelfrank.core.errors import UserError
from shelfrank.nn.ensemble import Ensemble, Network
from shelfrank.nn.heads.mmoe import MMoE
from shelfrank.nn.inputs import Inputs
from shelfrank.nn.matching import Bucket, TrainedLayers
from shelfrank.nn.model import MultiTaskRanker
from shelfrank.text.bert import CutEncoder
from shelfrank.text.encoder import TextEncoder
from shelfrank.text.frozen import DTYPES

OPSET = 18
TRACED_ROWS = 3
TRACED_TOKENS = 5
SMALL = 1 / 16
"""Weights that are fewer than this share of those of the largest product stay in float32."""


class RankerGraph(nn.Module):
    """A network from columns, and from finished text vectors where it reads texts, to probabilities and gates.

    An ensemble has no gates: each of its members mixes experts of its own.
    """

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, numerical: Tensor, categorical: Tensor, query: Tensor | None = None, products: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Probabilities per row and task, then, of a mixture, the weight per row, task and expert.

        `query` is one vector, `products` has one per row.
        """
        if isinstance(self.model, Ensemble):
            return (torch.sigmoid(self.model(numerical, categorical).logits),)
        if self.model.text is None or query is None or products is None:
            matching = numerical[:, :0]
        else:
            matching = self.model.text.compare(query.expand_as(products), products)
        inputs = Inputs(self.model.numbers(numerical), self.model.inputs(categorical), matching)
        out = self.model.bottom(inputs)
        probs = torch.sigmoid(self.model.of_bottom(out).logits)
        head = self.model.head
        return (probs, head.gate_weights(out.x_final)[:, : self.model.n_tasks]) if isinstance(head, MMoE) else (probs,)


class QueryGraph(nn.Module):
    """A cut encoder from the tokens of one text to its pooled vector.

    Numerics: the frozen layers' output is rounded as their cache rounds it, so that a text has one meaning.
    """

    def __init__(self, encoder: CutEncoder, trained: TrainedLayers, cache_dtype: Literal["fp16", "bf16"]) -> None:
        super().__init__()
        self.frozen, self.trained, self.rounded = encoder.frozen, trained, DTYPES[cache_dtype]

    def forward(self, ids: Tensor) -> Tensor:
        """The vector of one text, `[1, d]`."""
        return self.pool(self.frozen(input_ids=ids).last_hidden_state)

    def pool(self, hidden: Tensor) -> Tensor:
        """The same from the frozen layers' output, `[1, tokens, d]`."""
        return self.trained([Bucket(hidden.to(self.rounded).float(), None)])


class SemanticGraph(nn.Module):
    """A sentence encoder from the tokens of one text to its embedding of length 1."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.model = encoder.model

    def forward(self, ids: Tensor) -> Tensor:
        """The embedding of one text, `[1, d]`."""
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return nn.functional.normalize(self.model(features)["sentence_embedding"].float(), dim=1)


class SharedGraph(nn.Module):
    """Both of the above in one pass, where both are the same encoder.

    The layers before the cut run once; those after it as the ranker trained them, and as they were.

    Args:
        query: The cut encoder.
        untrained: The layers after the cut as they were, which `untrained_layers` finds.
    """

    def __init__(self, query: QueryGraph, untrained: Sequence[nn.Module]) -> None:
        super().__init__()
        self.query, self.untrained = query, nn.ModuleList(untrained)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The vector and the embedding of one text, each `[1, d]`."""
        hidden = self.query.frozen(input_ids=ids).last_hidden_state
        vector = self.query.pool(hidden)
        for layer in self.untrained:
            hidden = layer(hidden, None)
        return vector, nn.functional.normalize(hidden.mean(dim=1), dim=1)


def untrained_layers(encoder: CutEncoder, semantic: TextEncoder) -> list[nn.Module] | None:
    """Finds the layers with which `SharedGraph` continues a cut encoder to a sentence encoder.

    Args:
        encoder: The cut encoder.
        semantic: The sentence encoder.

    Returns:
        The layers after the cut; None where the two are not of the same files, or where a sentence's embedding is
        something else than the mean of its tokens' vectors at length 1.
    """
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules: list[Any] = list(semantic.model)
    kinds = [type(module) for module in modules]
    if encoder.fingerprint != semantic.fingerprint or kinds not in (
        [Transformer, Pooling],
        [Transformer, Pooling, Normalize],
    ):
        return None
    transformer, pooling = modules[:2]
    if pooling.pooling_mode != "mean":
        return None
    layers = list(transformer.auto_model.encoder.layer)
    return layers[len(layers) - len(encoder.trained) :]


def has_gates(model: Network) -> bool:
    """Whether a network's graph gives the weights of its experts."""
    return isinstance(model, MultiTaskRanker) and isinstance(model.head, MMoE)


def export_ranker(model: Network, n_numerical: int, n_categorical: int, out: Path) -> None:
    """Writes a network's graph, for any number of rows.

    Args:
        model: The network, on the processor.
        n_numerical: Its numerical columns.
        n_categorical: Its categorical columns.
        out: The file.
    """
    inputs: dict[str, Tensor] = {
        "numerical": torch.zeros(TRACED_ROWS, n_numerical),
        "categorical": torch.zeros(TRACED_ROWS, n_categorical, dtype=torch.int32),
    }
    outputs = ["probs", "gates"] if has_gates(model) else ["probs"]
    axes = {name: {0: "rows"} for name in (*inputs, *outputs)}
    if isinstance(model, MultiTaskRanker) and model.text is not None:
        d = model.text.trained.d
        inputs |= {"query": torch.zeros(1, d), "products": torch.zeros(TRACED_ROWS, d)}
        axes["products"] = {0: "rows"}
    _export(RankerGraph(model), inputs, outputs, axes, out)


def export_query_encoder(
    encoder: CutEncoder, trained: TrainedLayers, cache_dtype: Literal["fp16", "bf16"], out: Path
) -> None:
    """Writes the graph that turns a query's tokens into the vector that the network compares.

    Args:
        encoder: The encoder, its frozen layers on the processor.
        trained: The layers after the cut with the run's weights.
        cache_dtype: How training rounded the frozen layers' output.
        out: The file.
    """
    _export(QueryGraph(encoder, trained, cache_dtype), *_tokens(), out)


def export_semantic_encoder(encoder: TextEncoder, out: Path) -> None:
    """Writes the graph that turns a query's tokens into the embedding of the semantic score.

    Args:
        encoder: The sentence encoder.
        out: The file.
    """
    _export(SemanticGraph(encoder), *_tokens(), out)


def export_shared_encoder(graph: SharedGraph, out: Path) -> None:
    """Writes the graph that computes both vectors of a query: the network's, then the semantic score's.

    Args:
        graph: The graph.
        out: The file.
    """
    inputs, _, axes = _tokens()
    _export(graph, inputs, ["matching", "semantic"], axes, out)


def quantize(graph: Path, out: Path) -> None:
    """Writes a graph whose large matrix products and tables are in 8-bit integers, with a scale per row.

    Products much smaller than the largest stay in float32: gates and outputs, which cost little and change scores most.

    Numerics: crossed features have heavy tails, 50 times the median and more. With one scale for a page, as the library
    has it, one outlier takes the precision of all rows; with one per row it takes its own row's only. Weights are
    unsigned like their inputs: without VNNI, processors add two products of signed and unsigned
    bytes in 16 bits, where large ones are clipped. Unsigned bytes are widened first, so sums are exact everywhere.

    Args:
        graph: A graph in float32.
        out: The file.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    # The library advises steps that change nothing here.
    logging.disable(logging.WARNING)
    try:
        # Naming no node would mean all of them.
        names = scale_rows(model) or ["none"]
        quantize_dynamic(model, out, weight_type=QuantType.QUInt8, per_channel=True, nodes_to_quantize=names)
    finally:
        logging.disable(logging.NOTSET)


def scale_rows(model: Any) -> list[str]:
    """Rewrites the large matrix products of a graph in place so that they see rows whose largest number is 1.

    Args:
        model: The graph, of the library onnx.

    Returns:
        The names of these products and of the tables that are as large.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    # Products of batches of matrices are left alone: the library would give all of a batch the scales of one.
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer if len(each.dims) == 2}
    read = [(node, _weights_of(node)) for node in graph.node]
    least = SMALL * max(
        (weights[name].size for node, name in read if node.op_type != "Gather" and name in weights), default=0
    )
    large, nodes, scaled = [], [], set[str]()
    for node, name in read:
        if name not in weights or weights[name].size < least:
            nodes.append(node)
            continue
        large.append(node.name)
        if node.op_type == "Gather":
            nodes.append(node)
            continue
        rows, (made,) = node.input[0], node.output
        if rows not in scaled:
            scaled.add(rows)
            nodes += [
                helper.make_node("Abs", [rows], [f"{rows}_sizes"]),
                helper.make_node("ReduceMax", [f"{rows}_sizes", "last_axis"], [f"{rows}_largest"]),
                helper.make_node("Max", [f"{rows}_largest", "above_zero"], [f"{rows}_scale"]),
                helper.make_node("Div", [rows, f"{rows}_scale"], [f"{rows}_scaled"]),
            ]
        matrix = weights[name]
        if any(each.name == "transB" and each.i for each in node.attribute):
            matrix = np.ascontiguousarray(matrix.T)
        graph.initializer.append(numpy_helper.from_array(matrix, f"{made}_weights"))
        nodes.append(helper.make_node("MatMul", [f"{rows}_scaled", f"{made}_weights"], [f"{made}_product"], node.name))
        biases = list(node.input[2:])
        product = f"{made}_rows" if biases else made
        nodes.append(helper.make_node("Mul", [f"{made}_product", f"{rows}_scale"], [product]))
        nodes += [helper.make_node("Add", [product, bias], [made]) for bias in biases]
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last_axis"))
    graph.initializer.append(numpy_helper.from_array(np.array(1e-30, np.float32), "above_zero"))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return large


def _weights_of(node: Any) -> str | None:
    """The input of a product or a table that may hold its weights."""
    place = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op_type)
    return None if place is None else node.input[place]


def _tokens() -> tuple[dict[str, Tensor], list[str], dict[str, dict[int, str]]]:
    ids = torch.ones(1, TRACED_TOKENS, dtype=torch.int64)
    return {"ids": ids}, ["vector"], {"ids": {1: "tokens"}}


def _export(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: list[str],
    axes: Mapping[str, Mapping[int, str]],
    out: Path,
) -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise UserError("export needs the package onnx; install it with: pip install 'shelfrank[export]'") from error
    with _quiet(), torch.no_grad():
        # The tracing exporter: the newer one takes 15 times as long on these graphs, and fixes FT-Transformer's rows.
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(out),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: dict(axis) for name, axis in axes.items()},
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps tracing from warning of Python's branches, which tests of the finished graphs cover, and from checks."""
    config: Any = jaxtyping.config
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.update("jaxtyping_disable", before)
