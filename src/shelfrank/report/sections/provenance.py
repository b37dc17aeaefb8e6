"""Provenance: versions, seeds, fingerprints, resolved settings, and definitions of the measures."""

from collections.abc import Mapping

import yaml

from shelfrank.metrics.interval import MIN_SEARCHES
from shelfrank.report.blocks import (
    Block,
    Cell,
    Code,
    Definitions,
    Details,
    Heading,
    Missing,
    Row,
    Section,
    Table,
)
from shelfrank.report.comparison import Comparison
from shelfrank.report.formats import UNKNOWN, count

DEFINITIONS = (
    (
        "Ties",
        "Products of equal score are ordered by a fixed hash of search and product, the same for every "
        "ranker; never by the order of the input, which holds the shop's own ranking.",
    ),
    (
        "MRR@k",
        "Mean over searches of 1 / rank of the first product with the task's label, and 0 where that rank "
        "is beyond k. A search without a positive for the task, or with a missing label, is left out and "
        "counted.",
    ),
    (
        "NDCG@k",
        "Discounted gain of the first k places over that of the best order of the same page, for binary "
        "labels; over the same searches as MRR.",
    ),
    (
        "AUC",
        "Probability that a random positive row scores above a random negative one, over all rows with a "
        "label; ties count half. It compares rows of different searches, MRR and NDCG only those of one.",
    ),
    (
        "PD@k",
        "Personalization Degree: share of the first k products that are the same with and without personalization; at "
        "1 nothing depends on the customer. Pages of at most k products are left out and counted, since their overlap "
        "is always 1. A dash for a ranker that reads no customer features, and where no customer of the evaluated "
        "searches is known.",
    ),
    (
        "Intervals",
        "Bootstrap percentiles over whole searches, since rows of one search are not independent. "
        "Differences are paired: both rankers on the same searches, drawn together. Where fewer than "
        f"{MIN_SEARCHES} searches are informative (their value is not the most frequent one, or the rankers differ on "
        "them), nothing is resampled: a figure has Wilson's interval, and a difference the interval of a mean with two "
        "more searches and the exact p-value of a sign-flip test. An AUC counts the searches with a positive row, or "
        "those with a negative one where these are fewer.",
    ),
    (
        "Position bias",
        "Labels were collected under the shown order, so measures from a real log favour rankers that stay close to "
        "it.",
    ),
)


def provenance_section(comparison: Comparison) -> Section:
    """Where every number comes from, and how it is defined."""
    facts = [
        ("Created", comparison.created or UNKNOWN),
        ("shelfrank", comparison.shelfrank or UNKNOWN),
        *comparison.versions.items(),
        ("Data", comparison.data.name or UNKNOWN),
        ("Data fingerprint", comparison.data.fingerprint or UNKNOWN),
        ("Confidence", UNKNOWN if comparison.confidence is None else f"{comparison.confidence * 100:g} %"),
    ]
    blocks: list[Block] = [Definitions(facts)]
    if comparison.rankers:
        blocks.append(_rankers(comparison))
    configs: list[Block] = [
        Details(f"Resolved settings of {ranker.title}", [Code(as_yaml(ranker.config))])
        for ranker in comparison.rankers
        if ranker.config
    ]
    blocks += configs or [Missing("The resolved settings of the rankers are not part of this comparison.")]
    blocks += [Heading("Definitions"), Definitions(DEFINITIONS)]
    return Section("provenance", "Provenance", blocks)


def _rankers(comparison: Comparison) -> Table:
    rows = [
        Row(
            ranker.title,
            [
                Cell(ranker.name, numeric=False),
                Cell(UNKNOWN if ranker.seed is None else str(ranker.seed)),
                Cell(ranker.fingerprint or UNKNOWN, numeric=False),
                Cell(count(ranker.params.total) if ranker.params else UNKNOWN),
            ],
        )
        for ranker in comparison.rankers
    ]
    return Table("Rankers by name, seed and fingerprint", "Ranker", ["Name", "Seed", "Fingerprint", "Parameters"], rows)


def as_yaml(config: Mapping[str, object]) -> str:
    """Settings as people write them."""
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).rstrip()
