"""The head of a title, what its product is: in a shop without categories, products of one head are a category."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from shelfrank.features.understanding.catalogue import Catalogue
from shelfrank.features.understanding.phrases import JOINS, ROMANCE, STOP_WORDS
from shelfrank.features.understanding.tokens import has_digit, is_character, tokens

MIN_PRODUCTS = 5
"""Products of a head at least; one of fewer says too little."""
MIN_SHARE = 0.15
"""Least share of a word's titles in which it is at the place of a head."""
PRIOR_TITLES = 2.0
"""Titles without it at that place by which the share is drawn to 0."""
MAX_SHARE = 0.5
"""Most products of one head; a head of more (`item 12`) tells nothing apart."""
MAX_TOKENS = 32
OPENING = "maker"
"""The attribute of the names that titles open with, in a shop that declares no attribute."""
MAX_OPENING = 3
MIN_OPENING = 0.5
"""Least share of a word's titles that open with it."""
MIN_FOLLOWING = 0.6
"""Least share of a name's titles in which the next word follows it, before it is part of it."""

_BREAK = re.compile(r"\s[-\u2013\u2014/]\s|[,;:()\[\]|]")


def with_heads(catalogue: Catalogue) -> Catalogue:
    """A catalogue without categories, with the heads of its titles for them.

    The head of `Ryobi 18-Volt Cordless Drill with Bag` is `drill`: the last word of a run before the first preposition,
    comma or bracket. Numbers cut runs, and so do characters of languages without blanks, which are no words. Of several
    runs, the head is the word that stands at this place most often where it stands at all. Where most joining words of
    the titles are Romance, it is the run's first word.

    Args:
        catalogue: The products.

    Returns:
        The same with categories; without them where the titles name no kinds of products, as where one word is the head
        of most.
    """
    last = _head_is_last(catalogue.titles)
    names = [_runs(title or "") for title in catalogue.titles]
    of_title = [[run[-1] if last else run[0] for run in runs] for runs in names]
    n_titles = Counter(word for runs in names for word in {word for run in runs for word in run})
    n_heads = Counter(words[-1] if last else words[0] for words in of_title if words)
    share = {word: n / (n_titles[word] + PRIOR_TITLES) for word, n in n_heads.items()}
    heads = [max(words, key=lambda word: share.get(word, 0.0), default="") for words in of_title]
    n_products = Counter(heads)
    known = {head for head, n in n_products.items() if n >= MIN_PRODUCTS and share.get(head, 0.0) >= MIN_SHARE}
    if not known or max(n_products.values()) > MAX_SHARE * len(heads):
        return catalogue
    named = [head if head in known else None for head in heads]
    attributes = catalogue.attributes or (
        {OPENING: _openings(catalogue.titles)} if last and OPENING not in catalogue.lists else {}
    )
    return replace(catalogue, attributes=attributes, categories=named, head_is_last=last)


def _openings(titles: Sequence[str | None]) -> list[str | None]:
    """The name that each title opens with, which is mostly a maker's; None where it opens with anything else.

    A name is a word that titles open with if they have it, and the words that mostly follow it there.
    """
    texts = [tokens(title or "", MAX_TOKENS) for title in titles]
    n_titles = Counter(word for text in texts for word in set(text))
    n_opening = Counter(tuple(text[:length]) for text in texts for length in range(1, min(MAX_OPENING, len(text)) + 1))
    found: list[str | None] = []
    for text in texts:
        name = tuple(text[:1])
        opens = bool(text) and n_opening[name] >= MIN_PRODUCTS and n_opening[name] >= MIN_OPENING * n_titles[text[0]]
        if not opens or name[0] in STOP_WORDS or has_digit(name[0]):
            found.append(None)
            continue
        while len(name) < min(MAX_OPENING, len(text)):
            longer = tuple(text[: len(name) + 1])
            if n_opening[longer] < MIN_FOLLOWING * n_opening[name] or has_digit(longer[-1]):
                break
            name = longer
        while name[-1] in STOP_WORDS:
            name = name[:-1]
        found.append(" ".join(name))
    return found


def _runs(title: str) -> list[list[str]]:
    """The runs of words before the first preposition, comma or bracket behind a word."""
    for piece in _BREAK.split(title):
        runs: list[list[str]] = [[]]
        for word in tokens(piece, MAX_TOKENS):
            if word in STOP_WORDS and word not in JOINS:
                if any(runs):
                    break
            elif has_digit(word) or is_character(word):
                runs.append([])
            elif word not in JOINS:
                runs[-1].append(word)
        if any(runs):
            return [run for run in runs if run]
    return []


def _head_is_last(titles: Sequence[str | None]) -> bool:
    n = Counter(word for title in titles for word in (title or "").casefold().split() if word in STOP_WORDS)
    return 2 * sum(n[word] for word in ROMANCE) <= n.total()
