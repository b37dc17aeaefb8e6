"""8-bit graphs that a processor gets wrong."""

from pathlib import Path

import numpy as np


def damage_scales(file: Path, factor: float = 40.0) -> None:
    """Multiplies the scales of a graph's 8-bit weights, so that its products are off as clipped sums are.

    Args:
        file: A graph that `quantize` wrote.
        factor: By how much.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(file)
    scales = [each for each in model.graph.initializer if each.name.endswith("_scale") and "weight" in each.name]
    assert scales
    for each in scales:
        each.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(each) * factor).astype(np.float32), each.name))
    onnx.save(model, file)
