"""Fits the encoder on the training rows."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from shelfrank.config import PrepareConfig
from shelfrank.core.schema import Feature, Kind
from shelfrank.features.encoder import Encoder, numbers, squash
from shelfrank.features.encoder_fit import Moments, count_values, fit_features
from shelfrank.features.plan import EntityTables, Plan
from shelfrank.prepare.rows import PageBatch, RowReader
from shelfrank.text.scores import SEMANTIC_SCORE


def fit_encoder(reader: RowReader, entities: EntityTables, plan: Plan, config: PrepareConfig) -> Encoder:
    """Fits every feature on the training split's rows and on nothing else.

    Features of products and customers are fitted from their tables, each entity weighing as often as it occurs in a
    training row, which gives the same statistics as the rows would.

    Args:
        reader: The rows.
        entities: Products and customers.
        plan: The declared features.
        config: How rare a category may be.

    Returns:
        The encoder, with the features that it leaves out and why.
    """
    row_features = (*plan.row_features, *reader.features)
    fitted = _Counts(row_features, entities)

    def count(batch: PageBatch) -> _Counts | None:
        train = batch.split == 0
        if not train.any():
            return None
        counted = _Counts(row_features, entities)
        counted.add(batch, train)
        return counted

    for counted in reader.map("Fitting the encoder", count, keep_features=True):
        fitted.merge(counted)
    moments, counts = fitted.moments, fitted.counts
    # Entry 0 of the customers' weights counts anonymous rows, whose features are all missing.
    for features, table, weights, anonymous in (
        (plan.product_features, entities.products, fitted.product_rows, 0.0),
        (plan.customer_features, entities.customers, fitted.customer_rows[1:], float(fitted.customer_rows[0])),
    ):
        for feature in features:
            column = table[feature.name]
            if feature.kind is Kind.NUMERICAL:
                raw = numbers(column)
                moments[feature.name] = Moments()
                moments[feature.name].add(squash(raw) if feature.log1p else raw, weights)
                moments[feature.name].missing += anonymous
            else:
                counts[feature.name] = Counter(count_values(column, weights, feature.spelling))
    features = (*plan.product_features, *plan.customer_features, *row_features)
    computed = {feature.name for feature in reader.features} - {SEMANTIC_SCORE}
    # Catalogues and requests may give any number, and prices are compared as they are given. Counts of the history are
    # our own and grow past those of training in later weeks: clipping would put the most popular products on a par.
    # In a network, `neural.clip` bounds all numbers, these included, by standard deviations.
    clipped = {feature.name for feature in features if feature.name not in computed | {SEMANTIC_SCORE}}
    clipped |= {each.feature.name for group in reader.groups.values() for each in group if each.has_price}
    return fit_features(features, moments, counts, float(fitted.product_rows.sum()), config, computed, clipped)


class _Counts:
    """What some training rows hold: moments of numbers, counts of categories, rows of products and customers."""

    def __init__(self, features: Sequence[Feature], entities: EntityTables) -> None:
        self.features = features
        self.moments = {feature.name: Moments() for feature in features if feature.kind is Kind.NUMERICAL}
        self.counts = {feature.name: Counter[str]() for feature in features if feature.kind is Kind.CATEGORICAL}
        self.product_rows = np.zeros(entities.products.num_rows)
        self.customer_rows = np.zeros(entities.customers.num_rows + 1)

    def add(self, batch: PageBatch, train: Bool[np.ndarray, " rows"]) -> None:
        """Counts a batch's training rows."""
        everything = bool(train.all())
        products, customers = batch.ints("product_idx")[train], batch.ints("customer_idx")[train] + 1
        self.product_rows += np.bincount(products, minlength=len(self.product_rows))
        self.customer_rows += np.bincount(customers, minlength=len(self.customer_rows))
        for feature in self.features:
            raw = batch.raw(feature)
            if isinstance(raw, np.ndarray):
                some = raw if everything else raw[train]
                self.moments[feature.name].add(squash(some) if feature.log1p else some)
            else:
                self.counts[feature.name].update(count_values(raw.filter(pa.array(train)), spelling=feature.spelling))

    def merge(self, other: "_Counts") -> None:
        """Adds what another has counted."""
        for name, moments in other.moments.items():
            self.moments[name].merge(moments)
        for name, counts in other.counts.items():
            self.counts[name].update(counts)
        self.product_rows += other.product_rows
        self.customer_rows += other.customer_rows
