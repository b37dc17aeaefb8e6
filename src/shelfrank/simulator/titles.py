"""Product titles from varied templates, so that their words often differ from those of matching queries."""

import numpy as np

from shelfrank.simulator.assortment import ATTRIBUTES, Assortment
from shelfrank.simulator.catalogue import Catalogue
from shelfrank.simulator.config import StorefrontConfig
from shelfrank.simulator.randomness import stream
from shelfrank.simulator.words import AGE_GROUPS, AGE_WORDS

TEMPLATES = (
    "{brand} {feature} {color} {material} {kind} {size} {age_group}",
    "{brand} {kind}, {material}, {color}, {size}, {age_group}, {feature}",
    "{age_group} {kind} by {brand} - {color} {material} - {feature} {size}",
    "{color} {kind} {size}, {brand}, {feature} {material}",
    "{feature} {kind} {size} ({color}) - {brand} {age_group} {material}",
    "{brand} {size} {age_group} {kind} in {color} - {feature} {material}",
)
MODELS = (
    "Classic", "Pro", "Essential", "Nova", "Plus", "Studio",
    "Original", "Lite", "Prime", "Heritage", "Series 2", "Edition",
)  # fmt: skip


def attribute_words(assortment: Assortment, name: str, value: int) -> tuple[str, ...]:
    """The words for a value of an attribute: one, or several synonyms.

    Args:
        assortment: The vocabulary.
        name: The attribute.
        value: Its number.

    Returns:
        The words, lower case except brands.
    """
    if name == "age_group":
        return AGE_WORDS["".join(AGE_GROUPS)[value]]
    return tuple(assortment.values[name][value].split("/"))


def make_titles(config: StorefrontConfig, catalogue: Catalogue) -> list[str]:
    """Writes every product's title.

    Args:
        config: The shop.
        catalogue: Its products.

    Returns:
        The titles; two products can share one.
    """
    assortment = catalogue.assortment
    words = {
        name: [attribute_words(assortment, name, value) for value in range(len(assortment.values[name]))]
        for name in ATTRIBUTES
    }
    draws = stream(config.seed, "products.title").random((catalogue.n_products, 2 * len(ATTRIBUTES) + 4))
    named = draws[:, : len(ATTRIBUTES)] < config.catalogue.title_attribute
    # A title without its brand is rare.
    named[:, ATTRIBUTES.index("brand")] = draws[:, ATTRIBUTES.index("brand")] < 0.95
    values = np.where(named, np.stack([catalogue.attributes[name] for name in ATTRIBUTES], axis=1), -1).tolist()
    titles = []
    for kind, row, draw in zip(catalogue.kind.tolist(), values, draws[:, len(ATTRIBUTES) :].tolist(), strict=True):
        parts = {
            name: _choose(words[name][value], draw[place]) if value >= 0 else ""
            for place, (name, value) in enumerate(zip(ATTRIBUTES, row, strict=True))
        }
        noun = _choose(assortment.kinds[kind], draw[-4])
        model = f" {_choose(MODELS, draw[-3])}" if draw[-2] < 0.3 else ""
        titles.append(_tidy(_choose(TEMPLATES, draw[-1]).format(kind=noun + model, **parts)))
    return titles


def _choose(options: tuple[str, ...], draw: float) -> str:
    return options[int(draw * len(options))]


def _tidy(text: str) -> str:
    for old, new in (("()", ""), (" by  -", " -"), (" in  -", " -")):
        text = text.replace(old, new)
    parts = [" ".join(part.split()) for part in text.replace(" - ", ", ").split(",")]
    text = ", ".join(part for part in parts if part).removesuffix(" -")
    return " ".join(word[:1].upper() + word[1:] for word in text.split())
