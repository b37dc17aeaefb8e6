"""Query understanding: what the words of a query mean in this shop, and how a product answers them."""

from shelfrank.features.understanding.blocks import time_blocks
from shelfrank.features.understanding.catalogue import Catalogue
from shelfrank.features.understanding.learned import LearnedRelevance, ShownRows, Stage
from shelfrank.features.understanding.lexicon import Lexicon
from shelfrank.features.understanding.products import CodedProducts
from shelfrank.features.understanding.reading import (
    QueryPart,
    QueryPartKind,
    QueryReader,
    QueryReading,
    QueryReadings,
    Status,
)
from shelfrank.features.understanding.relevance import RelevanceEstimate
from shelfrank.features.understanding.speller import Speller
from shelfrank.features.understanding.synonyms import TypeSynonyms
from shelfrank.features.understanding.understanding import UNDERSTANDING, QueryUnderstanding

__all__ = [
    "UNDERSTANDING",
    "Catalogue",
    "CodedProducts",
    "LearnedRelevance",
    "Lexicon",
    "QueryPart",
    "QueryPartKind",
    "QueryReader",
    "QueryReading",
    "QueryReadings",
    "QueryUnderstanding",
    "RelevanceEstimate",
    "ShownRows",
    "Speller",
    "Stage",
    "Status",
    "TypeSynonyms",
    "time_blocks",
]
