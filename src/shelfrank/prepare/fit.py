"""Fits the encoder on the training rows."""

from collections import Counter

import numpy as np
import pyarrow as pa

from shelfrank.config import PrepareConfig
from shelfrank.prepare.encode import (
    CategoricalEncoding,
    Encoder,
    Moments,
    NumericalEncoding,
    count_values,
    fit_categorical,
    fit_numerical,
    numbers,
    squash,
)
from shelfrank.prepare.features import EntityTables, Plan
from shelfrank.prepare.rows import RowReader
from shelfrank.schema import Feature, Kind


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
    moments = {feature.name: Moments() for feature in row_features if feature.kind is Kind.NUMERICAL}
    counts = {feature.name: Counter[str]() for feature in row_features if feature.kind is Kind.CATEGORICAL}
    product_rows = np.zeros(entities.products.num_rows)
    customer_rows = np.zeros(entities.customers.num_rows + 1)
    for batch in reader.batches("Fitting the encoder"):
        train = batch.split == 0
        if not train.any():
            continue
        product_rows += np.bincount(batch.ints("product_idx")[train], minlength=len(product_rows))
        customer_rows += np.bincount(batch.ints("customer_idx")[train] + 1, minlength=len(customer_rows))
        for feature in row_features:
            raw = batch.raw(feature)
            if isinstance(raw, np.ndarray):
                moments[feature.name].add(squash(raw[train]) if feature.log1p else raw[train])
            else:
                counts[feature.name].update(count_values(raw.filter(pa.array(train))))
    # Entry 0 of the customers' weights counts anonymous rows, whose features are all missing.
    for features, table, weights, anonymous in (
        (plan.product_features, entities.products, product_rows, 0.0),
        (plan.customer_features, entities.customers, customer_rows[1:], float(customer_rows[0])),
    ):
        for feature in features:
            column = table[feature.name]
            if feature.kind is Kind.NUMERICAL:
                raw = numbers(column)
                moments[feature.name] = Moments()
                moments[feature.name].add(squash(raw) if feature.log1p else raw, weights)
                moments[feature.name].missing += anonymous
            else:
                counts[feature.name] = Counter(count_values(column, weights))
    return _encoder((*plan.product_features, *plan.customer_features, *row_features), moments, counts, config)


def _encoder(
    features: tuple[Feature, ...],
    moments: dict[str, Moments],
    counts: dict[str, Counter[str]],
    config: PrepareConfig,
) -> Encoder:
    numerical: list[NumericalEncoding] = []
    categorical: list[CategoricalEncoding] = []
    left_out: dict[str, str] = {}
    for feature in features:
        if feature.kind is Kind.NUMERICAL:
            fitted = fit_numerical(feature, moments[feature.name])
        else:
            fitted = fit_categorical(feature, counts[feature.name], config.min_count, config.max_categories)
        if isinstance(fitted, str):
            left_out[feature.name] = fitted
        elif isinstance(fitted, NumericalEncoding):
            numerical.append(fitted)
        else:
            categorical.append(fitted)
    return Encoder(tuple(numerical), tuple(categorical), left_out)
