"""From a search log to prepared data: semantic scores, `prepare`, and relevance labels against true grades."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shelfrank.api.arguments import Location, checked, optional_path
from shelfrank.api.artifacts import Agreement, PreparedData, SemanticModel, SemanticScores
from shelfrank.config import AgreementConfig, PrepareConfig, SemanticConfig, SemanticTrainConfig, resolve


@checked
def train_semantic(log: Location, *, out: Location, config: Location | None = None, **settings: Any) -> SemanticModel:
    """Fine-tunes a text model on the queries and chosen products of the training searches.

    Args:
        log: A search log.
        out: The folder of the model.
        config: YAML with any keys of `SemanticTrainConfig`.
        **settings: The same keys, such as `model="packaged"`; they win over `config`.

    Returns:
        The model, which `score_semantic(..., model=...)` takes.

    Raises:
        UserError: Where a setting is not as it must be, the log has too few pairs, or the model cannot be loaded.
    """
    from shelfrank.prepare.semantic import train_semantic as run

    resolved = resolve(SemanticTrainConfig, optional_path(config), settings=settings)
    return SemanticModel(Path(out), run(Path(log), Path(out), resolved))


@checked
def score_semantic(
    log: Location,
    *,
    out: Location,
    cache: Location | None = None,
    config: Location | None = None,
    **settings: Any,
) -> SemanticScores:
    """Embeds a log's queries and products and writes the cosine of every pair that the log shows.

    Args:
        log: A search log.
        out: The folder of the scores.
        cache: Folder that keeps finished shards of embeddings, for later runs.
        config: YAML with any keys of `SemanticConfig`.
        **settings: The same keys, such as `model="packaged"` or a `SemanticModel`; they win over `config`.

    Returns:
        The scores, which `prepare(..., semantic=...)` takes.

    Raises:
        UserError: Where a setting is not as it must be, or the model cannot be loaded.
    """
    from shelfrank.prepare.semantic import score_semantic as run

    resolved = resolve(SemanticConfig, optional_path(config), settings=settings)
    return SemanticScores(Path(out), run(Path(log), Path(out), resolved, optional_path(cache)))


@checked
def prepare(
    log: Location, *, out: Location, semantic: Location | None = None, config: Location | None = None, **settings: Any
) -> PreparedData:
    """Splits, samples, computes point-in-time features and labels, encodes: the arrays that training reads.

    Args:
        log: A search log.
        out: The folder of the prepared data.
        semantic: Semantic scores of this log, for the feature and the labels.
        config: YAML with any keys of `PrepareConfig`.
        **settings: The same keys, such as `history={"windows_days": [1, 7]}`; they win over `config`.

    Returns:
        The prepared data.

    Raises:
        UserError: Where a setting is not as it must be, or the log cannot be read.
    """
    from shelfrank.prepare.pipeline import prepare as run

    given = settings if semantic is None else {**settings, "semantic_scores": str(Path(semantic))}
    resolved = resolve(PrepareConfig, optional_path(config), settings=given)
    return PreparedData(Path(out), run(Path(log), Path(out), resolved))


@checked
def relevance_agreement(
    data: Location, log: Location, *, out: Location, config: Location | None = None, **settings: Any
) -> Agreement:
    """Measures how well relevance labels agree with a simulated log's true grades, voter by voter, and writes a page.

    Args:
        data: Prepared data with relevance labels.
        log: The simulated log that it was prepared from.
        out: The folder of the figures.
        config: YAML with any keys of `AgreementConfig`.
        **settings: The same keys, such as `n_resamples=50`; they win over `config`.

    Returns:
        The agreement.

    Raises:
        UserError: Where the log has no truth or is another one, or the prepared data has no relevance labels.
    """
    from shelfrank.evaluate.agreement import relevance_agreement as run
    from shelfrank.report.agreement_page import write_agreement

    resolved = resolve(AgreementConfig, optional_path(config), settings=settings)
    return Agreement(Path(out), run(Path(data), Path(log), Path(out), resolved, write_agreement))


def sampling_lines(info: Mapping[str, Any]) -> Sequence[str]:
    """What stratified sampling kept, was short of, and how it balanced the rows, in words.

    Args:
        info: What the prepared data's `info` has under `sampling`.

    Returns:
        The lines.
    """
    from shelfrank.prepare.sampling_info import sampling_lines as lines

    return lines(dict(info))
