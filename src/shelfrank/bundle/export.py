"""`export`: from a run to a version of a bundle."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from shelfrank.bundle.golden import GoldenRequest, GoldenRows, check_golden, save_requests
from shelfrank.bundle.loaded import Bundle
from shelfrank.bundle.onnx import (
    QueryGraph,
    SharedGraph,
    export_query_encoder,
    export_ranker,
    export_semantic_encoder,
    export_shared_encoder,
    quantize,
    untrained_layers,
)
from shelfrank.bundle.release import Gate, ReleaseComparison, compare_for_release, require_better
from shelfrank.bundle.replay import logged_pages, replay, spread
from shelfrank.bundle.shop import write_shop
from shelfrank.bundle.spec import (
    FEATURES,
    GOLDEN,
    MATCHING_TOKENIZER,
    PRECISIONS,
    PRODUCT_VECTORS,
    SEMANTIC_TOKENIZER,
    SHOP,
    Precision,
    Spec,
    graph_file,
)
from shelfrank.bundle.store import BundleStore
from shelfrank.core.artifact import Draft, read_manifest
from shelfrank.core.errors import UserError
from shelfrank.core.progress import measured
from shelfrank.data.prepared import PreparedData, Split
from shelfrank.evaluate.evaluation import Evaluation
from shelfrank.features.build_store import build_store
from shelfrank.features.encoder import Encoder
from shelfrank.features.request_check import RequestFeature, made_of_declared, read_by, request_features
from shelfrank.features.store import STORE_FILE, STORE_VERSION
from shelfrank.logs.search_log import SearchLog
from shelfrank.rankers.blend import network_of
from shelfrank.rankers.neural import NeuralRanker
from shelfrank.rankers.run import Run
from shelfrank.report.model_card import model_card
from shelfrank.text.encoder import TextEncoder, load_encoder
from shelfrank.text.scores import KIND as SCORES_KIND
from shelfrank.text.scores import SemanticScores

EXPORT_VERSION = 5
"""Part of every version's inputs: raise it when the same run gives another bundle."""
MODELS = {
    "shown_order": "position",
    "popularity": "rates",
    "xgboost": "xgboost",
    "lambdamart": "lambdamart",
    "xgboost_ranking": "xgboost_ranking",
    "catboost": "catboost",
    "blend": "blend",
}
"""The scorer of a ranker in the service, a name in `SCORERS`; every other ranker is a network."""
RUN_FILES = (
    "weights.safetensors",
    "text_model.json",
    "model*.txt",
    "model*.ubj",
    "model*.cbm",
    "trees.json",
    "blend.json",
    "config.yaml",
)
"""Patterns of the files of a run, and names of those of prepared data, that a version holds too."""
PREPARED_FILES = ("encoder.json", "columns.json", "schema.yaml")
VECTOR_TEXTS = 4096
"""Products whose vectors are in memory at a time."""
SAMPLED = 5000
"""Maximum number of products, queries and customers for a load test."""


@dataclass(frozen=True)
class ExportSettings:
    """Content of a version beside the run.

    Attributes:
        int8: Whether the graphs are there in 8-bit integers too.
        vectors: Numbers in which the products' text vectors are kept.
        golden_pages: Golden pages, of the test split.
        replayed: Searches of the test split, at most, on which each precision is measured; 0 measures none.
    """

    int8: bool = True
    vectors: Literal["fp32", "fp16"] = "fp32"
    golden_pages: int = 16
    replayed: int = 500


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        version: The version's name.
        changed: Whether it was written now.
        comparisons: The run against the shown order and the current version.
    """

    version: str
    changed: bool
    comparisons: tuple[ReleaseComparison, ...]


def export(
    run_path: Path,
    out: Path,
    settings: ExportSettings | None = None,
    evaluation_path: Path | None = None,
    scores_path: Path | None = None,
    gate: Gate | None = None,
) -> Exported:
    """Writes a run as a new version of a bundle, and points the bundle at it.

    Args:
        run_path: A finished run.
        out: The bundle's folder.
        settings: Content beside the run.
        evaluation_path: An evaluation of the run, for the model card.
        scores_path: The semantic scores that the data was prepared with; None looks beside the prepared data.
        gate: References that the run must beat; None compares and publishes any run.

    Returns:
        The version's name, whether it was written now, and the comparisons.

    Raises:
        UserError: Where the run, its data or its log cannot be read, the semantic scores cannot be found, or the run is
            not better than it must be: then nothing is published.
    """
    settings, gate = settings or ExportSettings(), gate or Gate()
    run = Run.open(run_path)
    prepared = run.prepared()
    evaluation = None if evaluation_path is None else Evaluation.open(evaluation_path)
    scores = _semantic_scores(prepared, scores_path)
    inputs = {
        "run": run.manifest.fingerprint,
        "evaluation": evaluation and evaluation.manifest.fingerprint,
        "settings": vars(settings),
        "version": EXPORT_VERSION,
        "features": STORE_VERSION,
    }

    store = BundleStore(out)
    comparisons = compare_for_release(run, prepared, store, gate)
    require_better(comparisons, gate)

    def write(draft: Draft) -> None:
        draft.info["comparisons"] = [each.as_dict() for each in comparisons]
        with measured() as cost, _one_thread():
            _Export(run, prepared, settings, draft, scores).write(evaluation)
            draft.info["cost"] = cost.stop().as_dict()

    return Exported(*store.publish(inputs, write), tuple(comparisons))


class _Export:
    """One version being written."""

    def __init__(
        self, run: Run, prepared: PreparedData, settings: ExportSettings, draft: Draft, scores: SemanticScores | None
    ) -> None:
        self.run, self.prepared, self.settings, self.draft, self.scores = run, prepared, settings, draft, scores
        self.folder = draft.path
        self.ranker = run.ranker(prepared)
        self.network = network_of(self.ranker)
        self.log = SearchLog.open(Path(prepared.manifest.info["log"]))
        self.semantic = None if scores is None else _encoder_of(scores)
        self.shares_encoder = False

    def write(self, evaluation: Evaluation | None) -> None:
        """Writes every file."""
        for pattern, source in [
            *((name, self.run.path) for name in RUN_FILES),
            *((name, self.prepared.path) for name in PREPARED_FILES),
        ]:
            for file in source.glob(pattern):
                shutil.copyfile(file, self.folder / file.name)
        for folder in ("onnx", "text", "semantic", GOLDEN):
            (self.folder / folder).mkdir()
        scores = None if self.scores is None else self.scores.path
        build_store(self.log.path, self.prepared.path, self.folder / FEATURES, scores)
        graphs = [*self._write_ranker(), *self._write_encoders()]
        precisions: tuple[Precision, ...] = ("fp32",)
        if self.settings.int8 and graphs:
            precisions = PRECISIONS
            for name in graphs:
                quantize(self.folder / graph_file(name, "fp32"), self.folder / graph_file(name, "int8"))
        spec = self._spec(precisions)
        spec.save(self.folder)
        if self.network is not None and self.network.texts is not None:
            self._write_product_vectors(self.network)
        quality = self._write_golden(spec)
        self._write_samples()
        self.draft.info["no_page"] = write_shop(self.log, self.prepared, self.folder / SHOP)
        card = _short_card(self.run) if evaluation is None else model_card(self.run, evaluation)
        (self.folder / "model_card.md").write_text(card, encoding="utf-8")
        for empty in ("onnx", "text", "semantic"):
            with contextlib.suppress(OSError):
                (self.folder / empty).rmdir()
        self.draft.info.update(
            run=str(self.run.path),
            ranker=self.run.name,
            label=self.run.label,
            precisions=precisions,
            quality=quality,
            request_features=[asdict(each) for each in spec.request_features],
        )

    def _spec(self, precisions: tuple[Precision, ...]) -> Spec:
        run, prepared, ranker = self.run, self.prepared, self.ranker
        config = run.config
        sides, names = config.exclude_sides, config.exclude_features

        def kept(columns: tuple[Any, ...]) -> tuple[int, ...]:
            return tuple(i for i, each in enumerate(columns) if each.side not in sides and each.name not in names)

        numerical, categorical = kept(prepared.numerical_columns), kept(prepared.categorical_columns)
        seen = [prepared.numerical_columns[i] for i in numerical] + [
            prepared.categorical_columns[i] for i in categorical
        ]
        places = {column.name: i for i, column in enumerate(prepared.numerical_columns)}
        texts = None if self.network is None else self.network.texts
        return Spec(
            ranker=run.name,
            label=run.label,
            model=MODELS.get(run.name, "onnx"),
            tasks=prepared.tasks,
            scored_tasks=ranker.scored_tasks,
            gives_probabilities=ranker.gives_probabilities,
            task_weights=dict(run.config.fusion_weights(prepared.tasks)),
            numerical=numerical,
            categorical=categorical,
            columns=tuple((column.name, column.side.value, float(column.mean)) for column in seen),
            rates=tuple(places[f"product_{task}_rate"] for task in prepared.tasks) if run.name == "popularity" else (),
            matching_tokens=None if texts is None else min(config.neural.text.max_tokens, texts.encoder.max_tokens),
            semantic_tokens=None if self.semantic is None else self.semantic.max_tokens,
            shares_encoder=self.shares_encoder,
            precisions=precisions,
            request_features=self._request_features([column.name for column in seen]) if ranker.uses_features else (),
        )

    def _request_features(self, columns: list[str]) -> tuple[RequestFeature, ...]:
        facts = json.loads((self.folder / FEATURES / STORE_FILE).read_text(encoding="utf-8"))
        features = request_features(facts, Encoder.load(self.folder / FEATURES / "encoder.json"))
        return read_by(features, columns, made_of_declared(facts))

    def _write_ranker(self) -> Iterator[str]:
        network = self.network
        if network is None:
            return
        problem = network.problem
        model = network.model.cpu().eval()
        export_ranker(
            model, problem.n_numerical, len(problem.category_sizes), self.folder / graph_file("ranker", "fp32")
        )
        yield "ranker"

    def _write_encoders(self) -> Iterator[str]:
        network, semantic = self.network, self.semantic
        if network is not None and network.texts is not None:
            encoder, text = network.texts.encoder, network.model.text
            assert text is not None, "a ranker with texts has a network that reads them"
            encoder.frozen.cpu()
            trained, cache_dtype = text.trained.cpu(), network.config.text.cache_dtype
            tokenizer = _tokenizer(encoder.name, encoder.tokenizer)
            (self.folder / MATCHING_TOKENIZER).write_text(tokenizer, encoding="utf-8")
            graph = self.folder / graph_file("query", "fp32")
            rest = None
            if semantic is not None and tokenizer == _tokenizer(semantic.name, semantic.model.tokenizer):
                rest = untrained_layers(encoder, semantic)
            if rest is not None:
                export_shared_encoder(SharedGraph(QueryGraph(encoder, trained, cache_dtype), rest), graph)
                self.shares_encoder = True
            else:
                export_query_encoder(encoder, trained, cache_dtype, graph)
            yield "query"
        if semantic is not None and not self.shares_encoder:
            tokenizer = _tokenizer(semantic.name, semantic.model.tokenizer)
            (self.folder / SEMANTIC_TOKENIZER).write_text(tokenizer, encoding="utf-8")
            export_semantic_encoder(semantic, self.folder / graph_file("semantic", "fp32"))
            yield "semantic"

    def _write_product_vectors(self, ranker: NeuralRanker) -> None:
        """Every product's vector, and last that of a product without text."""
        assert ranker.texts is not None
        assert ranker.model.text is not None
        feed, trained = ranker.texts.feed(torch.device("cpu")), ranker.model.text.trained
        texts = feed.product_text.astype(np.int64)
        dtype = np.float32 if self.settings.vectors == "fp32" else np.float16
        shape = (len(texts) + 1, trained.d)
        file = self.folder / PRODUCT_VECTORS
        vectors = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        vectors[:] = 0
        vectors.flush()
        for start in range(0, len(texts), VECTOR_TEXTS):
            some = texts[start : start + VECTOR_TEXTS]
            vectors[start : start + len(some)] = feed.read(some, trained).numpy()
        # The graph that reads queries reads the empty text too.
        matching = Bundle.open(self.folder).matching
        assert matching is not None
        vectors[-1] = matching.vector("")[0]
        vectors.flush()

    def _write_golden(self, spec: Spec) -> dict[str, Any]:
        rows = self.prepared.split("test")
        chosen = spread(rows.n_searches, self.settings.golden_pages)
        some = rows.searches(chosen)
        queries = self.prepared.queries()["query"].to_pylist()
        GoldenRows(
            queries=tuple(queries[int(some.query_idx[start])] for start in some.search_offsets[:-1]),
            offsets=some.search_offsets,
            numerical=np.array(some.numerical),
            categorical=np.array(some.categorical),
            product_idx=np.array(some.product_idx),
            position=np.array(some.position),
            expected=self._offline(some),
        ).save(self.folder / GOLDEN)
        pages = logged_pages(self.log, self.prepared, "test", chosen)
        bundles: dict[Precision, Bundle] = {
            precision: Bundle.open(self.folder, precision) for precision in spec.precisions
        }
        requests = []
        for page in pages:
            expected: dict[Precision, list[list[float]]] = {
                name: np.asarray(each.score(page).scores).tolist() for name, each in bundles.items()
            }
            requests.append(GoldenRequest(page, expected))
        save_requests(self.folder / GOLDEN, requests)
        for precision, bundle in bundles.items():
            try:
                check_golden(bundle, self.folder)
            except UserError as error:
                if precision == "fp32":
                    raise
                # The service serves float32 instead, unless its processor computes them more exactly.
                self.draft.info["missed"] = {precision: str(error)}
        return self._quality(rows, bundles)

    def _quality(self, rows: Split, bundles: dict[Precision, Bundle]) -> dict[str, Any]:
        chosen = spread(rows.n_searches, self.settings.replayed)
        if not len(chosen):
            return {}
        some = rows.searches(chosen)
        offline = self._offline(some)
        pages = logged_pages(self.log, self.prepared, "test", chosen)
        quality = {name: replay(bundle, pages, some, offline) for name, bundle in bundles.items()}
        (self.folder / "quality.json").write_text(json.dumps(quality, indent=1), encoding="utf-8")
        return quality

    def _offline(self, rows: Split) -> np.ndarray:
        return np.array(self.ranker.score(self.run.select(rows)), dtype=np.float32)

    def _write_samples(self) -> None:
        """Ids and queries of which load tests are made."""
        rng = np.random.default_rng(0)
        searches = self.prepared.searches("test")["customer_id"].drop_null().unique().to_pylist()
        known = {
            "products": self.prepared.products()["product_id"].to_pylist(),
            "queries": self.prepared.queries()["query"].to_pylist(),
            "customers": searches,
        }
        samples = {
            name: [values[int(i)] for i in rng.permutation(len(values))[:SAMPLED]] for name, values in known.items()
        }
        (self.folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")


def _semantic_scores(prepared: PreparedData, path: Path | None) -> SemanticScores | None:
    needed = prepared.manifest.inputs.get("semantic_scores")
    if needed is None:
        return None
    beside = sorted(folder.parent for folder in prepared.path.parent.glob("*/manifest.json"))
    for folder in beside if path is None else [path]:
        with contextlib.suppress(UserError):
            if read_manifest(folder, SCORES_KIND).fingerprint == needed:
                return SemanticScores.open(folder)
    raise UserError(
        f"export needs the semantic scores that {prepared.path} was prepared with, but they are not "
        f"{'beside it' if path is None else f'in {path}'}; name their folder as `semantic`"
    )


def _encoder_of(scores: SemanticScores) -> TextEncoder:
    name = str(scores.manifest.info["model"])
    encoder = load_encoder(name)
    if encoder.fingerprint != scores.manifest.info["model_fingerprint"]:
        raise UserError(
            f"the text model {name!r} must be the one that {scores.path} was made with, but its files have changed; "
            "restore them or score the log again"
        )
    return encoder


def _tokenizer(model: str, tokenizer: Any) -> str:
    """The text of its `tokenizer.json`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"model {model!r} must have a tokenizer.json, but it has an older tokenizer; convert it first")
    backend.no_truncation()
    backend.no_padding()
    return backend.to_str(pretty=True)


def _short_card(run: Run) -> str:
    tasks = run.prepared().tasks
    weights = ", ".join(f"{task} {weight:.3g}" for task, weight in run.config.fusion_weights(tasks).items())
    return (
        f"# {run.label}\n\n"
        f"A ranker of shelfrank ({run.name}), trained on {run.manifest.info['rows']:,} rows.\n"
        f"Its score weighs {weights}.\n\n"
        "It has not been evaluated here: export it with an evaluation for figures, uses and limits.\n"
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Graphs are traced, and text vectors computed, as a service with one core would."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
