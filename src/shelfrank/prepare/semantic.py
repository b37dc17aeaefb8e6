"""The semantic score of a search log: a text model fine-tuned on its searches, and the cosines (Paper: Sec. 3.2)."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from ibis.backends.duckdb import Backend

from shelfrank.config.prepare import SplitConfig
from shelfrank.config.semantic import SemanticConfig, SemanticTrainConfig
from shelfrank.core.artifact import is_current, publish, read_manifest, refuse_foreign
from shelfrank.core.errors import UserError
from shelfrank.core.progress import measured
from shelfrank.data.prepared import SPLITS, PreparedData
from shelfrank.logs.engine import open_engine
from shelfrank.logs.search_log import SearchLog
from shelfrank.prepare.relevance import PAIRS_FILE, RelevanceLabels
from shelfrank.prepare.split import assign_splits
from shelfrank.text.contrastive import fine_tune
from shelfrank.text.documents import chosen_pairs, graded_pairs, read_documents, read_queries, read_searches
from shelfrank.text.encoder import find_model, load_encoder, model_fingerprint
from shelfrank.text.graded import GradedPairs
from shelfrank.text.pairs import Pairs
from shelfrank.text.scores import KIND
from shelfrank.text.write_scores import write_pairs, write_products, write_queries

MODEL_KIND = "semantic_model"


def train_semantic(log_path: Path, out: Path, config: SemanticTrainConfig) -> bool:
    """Fine-tunes a text model on the training searches: queries and the documents of products chosen for them.

    Unstated: the paper says only that GTE was fine-tuned. A killed training goes on from its last checkpoint.

    Args:
        log_path: A finished search log.
        out: Where the model goes, a folder of sentence-transformers that `model` can name.
        config: Where to start, which pairs, how to train.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the log has too few pairs, or the model cannot be loaded.
    """
    log = SearchLog.open(log_path)
    refuse_foreign(out, MODEL_KIND)
    settings = {**config.of_weights, "split": config.search_split().plain()}
    start = model_fingerprint(find_model(config.model))
    labelled = _labelled(log, config)
    inputs = {"log": log.manifest.fingerprint, "model": start, "config": settings}
    inputs |= {} if labelled is None else {"grades": labelled.manifest.fingerprint}
    checkpoints = _beside(out, "checkpoint")
    if is_current(out, MODEL_KIND, inputs):
        shutil.rmtree(checkpoints, ignore_errors=True)
        return False
    log.verify()
    with publish(out, MODEL_KIND, inputs) as draft, measured() as cost:
        pairs, graded, facts = _training_pairs(log, config, labelled)
        encoder = load_encoder(config.model)
        tuned = fine_tune(encoder, pairs, config, checkpoints, graded)
        encoder.model.save(str(draft.path), create_model_card=False)
        draft.info.update(
            facts,
            model=config.model,
            steps=tuned.steps,
            losses=list(tuned.losses),
            masked_false_negatives_per_pair=round(tuned.masked, 4),
            pairs_per_s=round(tuned.pairs_per_s, 1),
            bf16=tuned.bf16,
            cost=cost.stop().as_dict(),
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return True


def score_semantic(log_path: Path, out: Path, config: SemanticConfig, cache: Path | None = None) -> bool:
    """Embeds every query and product of a log, and writes the cosine of every pair that the log shows.

    A killed run goes on where it stopped. Embeddings are of texts alone, so no search's outcome is in them; a model
    fine-tuned on the log has seen the outcomes of its training searches.

    Args:
        log_path: A finished search log.
        out: Where the scores go; see `SemanticScores`.
        config: Which model, which documents.
        cache: Folder of finished shards, which are kept there; None keeps them beside `out` until it is finished.

    Returns:
        False where `out` already holds the result of the same inputs, and nothing was done.

    Raises:
        UserError: Where the model cannot be loaded, or the products have none of the document's columns.
    """
    log = SearchLog.open(log_path)
    refuse_foreign(out, KIND)
    settings = config.model_dump(mode="json", exclude={"threads", "model"})
    folder = find_model(config.model)
    inputs = {
        "log": log.manifest.fingerprint,
        "model": model_fingerprint(folder),
        "tuned_on": _tuned_on(folder),
        "config": settings,
    }
    shards = cache or _beside(out, "shards")
    if is_current(out, KIND, inputs):
        _remove_shards(shards, cache)
        return False
    log.verify()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with publish(out, KIND, inputs) as draft, measured() as cost, open_engine() as engine:
        encoder = load_encoder(config.model)
        queries, documents = read_queries(log, engine), read_documents(log, engine, config.document)
        bf16 = config.precision == "bf16"
        of_queries = write_queries(draft.path, encoder, queries, shards, bf16)
        of_products = write_products(draft.path, encoder, documents, config.per_attribute, shards, bf16)
        n_pairs, n_missing = write_pairs(draft.path, log, engine)
        seconds = cost.stop().wall_s
        computed = of_queries.computed + of_products.computed
        draft.info.update(
            log=str(log_path),
            model=config.model,
            model_fingerprint=encoder.fingerprint,
            document_columns=list(documents.columns),
            missing_columns=list(documents.missing_columns),
            rows={"queries": len(queries), "products": len(documents.product_ids), "pairs": n_pairs},
            without_text={
                "queries": sum(not query.strip() for query in queries),
                "products": sum(not texts for texts in documents.attributes),
                "pairs": n_missing,
            },
            truncated_texts={"queries": of_queries.truncated, "products": of_products.truncated},
            damaged_shards=of_queries.damaged_shards + of_products.damaged_shards,
            texts_embedded=computed,
            texts_per_s=round(computed / seconds, 1),
            cost=cost.as_dict(),
        )
    _remove_shards(shards, cache)
    return True


def _remove_shards(shards: Path, cache: Path | None) -> None:
    # A run that was killed after it had published left them beside its result.
    if cache is None:
        shutil.rmtree(shards, ignore_errors=True)


def _tuned_on(model: Path) -> dict[str, Any] | None:
    """The log and the split whose training searches a model was fine-tuned on; None where `train` did not make it."""
    try:
        inputs = read_manifest(model, MODEL_KIND).inputs
    except UserError:
        return None
    return {"log": inputs["log"], "split": inputs["config"]["split"]}


def _labelled(log: SearchLog, config: SemanticTrainConfig) -> PreparedData | None:
    """The prepared data whose relevance labels are the grades; None where none is named."""
    if config.grades is None:
        return None
    labelled = PreparedData.open(Path(config.grades))
    inputs = labelled.manifest.inputs
    # Data of other makers, such as the census, names no log.
    if inputs.get("log") != log.manifest.fingerprint:
        raise UserError(
            f"grades must name data that was prepared from {log.path}, but {config.grades} was not; prepare this log "
            "with relevance labels"
        )
    split = SplitConfig.model_validate(inputs["config"]["split"]).plain()
    if split != config.search_split().plain():
        raise UserError(
            f"grades must be of the same training searches, but {config.grades} is split by {split} and the model is "
            f"trained by {config.search_split().plain()}; give both the same split"
        )
    return labelled


def _graded_pairs(
    log: SearchLog,
    engine: Backend,
    config: SemanticTrainConfig,
    train_ids: pa.Array,
    text_of: Mapping[str, str],
    labelled: PreparedData | None,
) -> tuple[GradedPairs | None, int]:
    """The graded pairs of training searches, if they are learned, and how many were left out."""
    if not config.graded_weight:
        return None, 0
    if labelled is None and config.positive_grade is None:
        # The true grades of a simulated log are stored where a judged log has the human ones: no model may learn them
        # unless a user says that they are judgments.
        raise UserError(
            "graded_weight needs grades, but neither grades nor positive_grade is set; set grades to prepared data "
            "with relevance labels, or positive_grade for a log of human judgments"
        )
    if labelled is None:
        table = graded_pairs(log, engine, train_ids)
    else:
        labels = RelevanceLabels.load(labelled.path / PAIRS_FILE)
        table = labels.table(labelled.queries()["query"], labelled.products()["product_id"])
        table = table.select(["query", "product_id", "score"]).rename_columns(["query", "product_id", "grade"])
    rows = [
        row
        for row in table.to_pylist()
        if row["grade"] is not None
        and np.isfinite(row["grade"])
        and row["query"].strip()
        and text_of[row["product_id"]]
    ]
    graded = GradedPairs.of(
        [row["query"] for row in rows], [text_of[row["product_id"]] for row in rows], [row["grade"] for row in rows]
    )
    if not len(graded):
        raise UserError(
            "graded_weight needs a training query whose products have different grades, but there is none among "
            f"{len(rows):,} graded pairs; set graded_weight to 0"
        )
    return graded, table.num_rows - len(rows)


def _training_pairs(
    log: SearchLog, config: SemanticTrainConfig, labelled: PreparedData | None
) -> tuple[Pairs, GradedPairs | None, dict[str, Any]]:
    with open_engine() as engine:
        searches = read_searches(log, engine)
        split = config.search_split()
        splits = assign_splits(searches["ts_us"].to_numpy(), searches["search_id"].to_pylist(), split)
        train_ids = searches["search_id"].filter(pa.array(splits == SPLITS.index("train"))).combine_chunks()
        rows = chosen_pairs(log, engine, train_ids, config.positive_grade).to_pylist()
        documents = read_documents(log, engine, config.document)
        text_of = dict(zip(documents.product_ids, documents.joined(), strict=True))
        graded, n_left_out = _graded_pairs(log, engine, config, train_ids, text_of, labelled)
    if not any(text_of.values()):
        raise UserError(
            f"{log.path} must have products with texts ({', '.join(config.document)}), but none has any; import "
            "titles, or name other columns in `document`"
        )
    usable = [row for row in rows if row["query"].strip() and text_of[row["product_id"]]]
    if not usable:
        raise UserError(
            f"{log.path} must have training searches whose products were chosen, but among {len(train_ids):,} there is "
            "none; set positive_grade for a log of human judgments, or import a longer log"
        )
    pairs = Pairs.unique(
        [row["query"] for row in usable], [text_of[row["product_id"]] for row in usable], [row["n"] for row in usable]
    )
    without_query = sum(not row["query"].strip() for row in rows)
    left_out = Counter({"without a query": without_query, "without text": len(rows) - len(usable) - without_query})
    facts = {
        "split": split.plain(),
        "training_searches": len(train_ids),
        "pairs": len(pairs),
        "choices": int(pairs.counts.sum()),
        "left_out_pairs": {reason: count for reason, count in left_out.items() if count},
        "document_columns": list(documents.columns),
        "missing_columns": list(documents.missing_columns),
    }
    if graded is not None:
        facts |= {"graded_pairs": len(graded), "graded_queries": len(graded.queries)}
        facts["left_out_pairs"] |= {"without a grade, a query or text": n_left_out} if n_left_out else {}
    return pairs, graded, facts


def _beside(out: Path, what: str) -> Path:
    return out.parent / f".{out.name}.{what}"
