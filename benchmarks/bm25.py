"""BM25, the text match that the semantic score is measured against."""

import math
import re
from collections import Counter
from collections.abc import Sequence


class Bm25:
    """BM25 over titles: k1 = 1.2, b = 0.75, idf = ln(1 + (N - n + 0.5) / (n + 0.5)), lower case, plural s removed."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.counts = {title: Counter(words(title)) for title in titles}
        frequency = Counter(word for counts in self.counts.values() for word in counts)
        n = len(self.counts)
        self.idf = {word: math.log(1 + (n - df + 0.5) / (df + 0.5)) for word, df in frequency.items()}
        self.mean_length = sum(counts.total() for counts in self.counts.values()) / n

    def score(self, query: str, title: str) -> float:
        """The score of one of the titles for a query; 0 where they share no word."""
        counts = self.counts[title]
        norm = 1.2 * (1 - 0.75 + 0.75 * counts.total() / self.mean_length)
        shared = [word for word in words(query) if word in counts]
        return sum(self.idf[word] * counts[word] * 2.2 / (counts[word] + norm) for word in shared)


def words(text: str) -> list[str]:
    """Lower-cased runs of letters or digits, stemmed by Harman's three rules for plurals (ies, es, s)."""
    found = re.findall(r"[a-z]+|[0-9]+", text.lower())
    return [stem(word) for word in found]


def stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
