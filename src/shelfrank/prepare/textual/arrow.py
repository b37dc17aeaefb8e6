"""Text features as a function of Arrow batches, for engines that run one on their workers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32

from shelfrank.errors import UserError
from shelfrank.prepare.textual.features import TextFeatures

KEYS = ("query_idx", "product_idx")


def as_arrow_function(features: TextFeatures) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Wraps text features for engines that hand Arrow batches to Python.

    The function takes a batch with `query_idx` and `product_idx` and returns it with the features appended. It can be
    pickled and carries the compact word arrays along, so that a cluster should ship it once to each worker. On
    Spark: `rows.mapInArrow(lambda batches: map(function, batches), schema)`.

    Args:
        features: What to compute.

    Returns:
        The function.
    """
    return _Append(features)


@dataclass(frozen=True)
class _Append:
    features: TextFeatures

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = [feature.name for feature in self.features.features]
        taken = sorted(set(names) & set(batch.schema.names))
        if taken:
            raise UserError(f"a batch must not hold columns named like text features, but holds {', '.join(taken)}")
        values = self.features.compute(*(_key(batch, name) for name in KEYS))
        columns = [*batch.columns, *(pa.array(np.ascontiguousarray(values[:, i])) for i in range(len(names)))]
        schema = batch.schema
        for name in names:
            schema = schema.append(pa.field(name, pa.float32()))
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _key(batch: pa.RecordBatch, name: str) -> Int32[np.ndarray, " rows"]:
    if name not in batch.schema.names:
        raise UserError(f"a batch must hold {' and '.join(KEYS)}, but its columns are {', '.join(batch.schema.names)}")
    column = batch.column(name)
    if column.null_count:
        raise UserError(f"{name} must hold no nulls, but it holds {column.null_count:,}; leave those rows out")
    return pc.cast(column, pa.int32()).to_numpy(zero_copy_only=False)
