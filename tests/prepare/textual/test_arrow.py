import pickle

import numpy as np
import pyarrow as pa
import pytest

from shelfrank.errors import UserError
from shelfrank.prepare.textual import TextFeatures, as_arrow_function


@pytest.fixture
def features() -> TextFeatures:
    return TextFeatures(["red sofa", "lamp"], ["Red sofa", "Lamp"], ["Red sofa", "Lamp"], {"color": ["red", None]})


@pytest.mark.parametrize("key_type", [pa.int32(), pa.int64()], ids=str)
def test_features_are_appended_to_the_batch(features: TextFeatures, key_type: pa.DataType) -> None:
    batch = pa.record_batch(
        {
            "product_idx": pa.array([0, 1, 0], key_type),
            "note": pa.array(["a", None, "c"]),
            "query_idx": pa.array([0, 1, 1], key_type),
        }
    )
    function = pickle.loads(pickle.dumps(as_arrow_function(features)))
    result = function(batch)
    assert result.select(batch.schema.names) == batch
    added = result.schema.names[3:]
    assert added == [feature.name for feature in features.features]
    expected = features.compute(np.array([0, 1, 1], np.int32), np.array([0, 1, 0], np.int32))
    np.testing.assert_array_equal(np.stack([result[name].to_numpy() for name in added], axis=1), expected)
    assert function(batch.slice(0, 0)).schema == result.schema
    assert function(batch.slice(1)) == result.slice(1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"query_idx": pa.array([0], pa.int32())},
            "must hold query_idx and product_idx, but its columns are query_idx",
        ),
        ({"query_idx": pa.array([None], pa.int32()), "product_idx": pa.array([0])}, "query_idx must hold no nulls"),
        ({"query_idx": pa.array([0]), "product_idx": pa.array([0]), "query_length": pa.array([1])}, "query_length"),
    ],
)
def test_other_batches_are_refused(features: TextFeatures, columns: dict[str, pa.Array], message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_arrow_function(features)(pa.record_batch(columns))
