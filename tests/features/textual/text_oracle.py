"""The text features in plain loops over words, for one pair at a time."""

import math
import re
from collections import Counter
from fractions import Fraction

WORDS_READ = {"query": 16, "product": 64}


def words_of(text: str, limit: int) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())[:limit]


def bm25(query: list[str], text: list[str], texts: list[list[str]]) -> float:
    mean = sum(map(len, texts)) / len(texts) or 1.0
    score = 0.0
    for word in dict.fromkeys(query):
        n = sum(word in other for other in texts)
        idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
        count = text.count(word)
        score += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(text) / mean))
    return score


def trigrams(word: str) -> set[str]:
    padded = f"  {word} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def dice(left: str, right: str) -> float:
    a, b = trigrams(left), trigrams(right)
    share = Fraction(2 * len(a & b), len(a) + len(b))
    return float(share) if share >= Fraction(2, 5) else 0.0


def singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "xes", "zes", "ches", "shes")) else word[:-1]


def phrase_of(text: str | None, limit: int = 10**9) -> tuple[str, ...]:
    return tuple(singular(word) for word in words_of(text or "", limit))


def holds(text: tuple[str, ...], phrase: tuple[str, ...], start: int) -> bool:
    return text[start : start + len(phrase)] == phrase


def named_values(query: str, titles: list[str], values: list[str | None]) -> set[tuple[str, ...]]:
    phrases = {phrase_of(value) for value in values} - {()}
    votes: Counter[tuple[str, ...]] = Counter()
    for title, value in zip(titles, values, strict=True):
        if phrase_of(value):
            for word in set(phrase_of(title, WORDS_READ["product"])):
                votes[(word,)] += 1 if (word,) == phrase_of(value) else -1
    phrases = {phrase for phrase in phrases if len(phrase) > 1 or votes[phrase] >= 0}
    text = phrase_of(query, WORDS_READ["query"])
    named, start = set(), 0
    while start < len(text):
        here = [phrase for phrase in phrases if holds(text, phrase, start)]
        longest = max(here, key=len, default=())
        if longest:
            named.add(longest)
        start += max(len(longest), 1)
    return named


def text_features(
    query: str,
    product: int,
    titles: list[str],
    documents: list[str],
    attributes: dict[str, list[str | None]],
) -> list[float]:
    asked = words_of(query, WORDS_READ["query"])
    all_titles = [words_of(title, WORDS_READ["product"]) for title in titles]
    all_documents = [words_of(document, WORDS_READ["product"]) for document in documents]
    title, document = all_titles[product], all_documents[product]
    distinct = list(dict.fromkeys(asked))
    n = max(len(distinct), 1)
    idf = {word: math.log1p(len(documents) / (1 + sum(word in other for other in all_documents))) for word in distinct}
    best = [1.0 if word in title else max((dice(word, other) for other in title), default=0.0) for word in distinct]
    phrase = bool(asked) and any(title[i : i + len(asked)] == asked for i in range(len(title)))
    values = [
        sum(word in title for word in distinct) / n,
        sum(word in document for word in distinct) / n,
        sum(idf[word] for word in distinct if word in document) / max(sum(idf.values()), 1e-6),
        len(set(asked) & set(title)) / max(len(set(asked) | set(title)), 1),
        bm25(asked, title, all_titles),
        bm25(asked, document, all_documents),
        sum(best) / n,
        float(phrase),
        float(len(asked)),
    ]
    for of_products in attributes.values():
        named = named_values(query, titles, of_products)
        value = phrase_of(of_products[product])
        values += [bool(named), value in named, bool(named) and bool(value) and value not in named]
    return [float(value) for value in values]
