"""Shared bottoms: one file each, named in `BOTTOMS`."""

from collections.abc import Callable

from shelfrank.config import NeuralConfig
from shelfrank.nn.bottoms.base import Bottom
from shelfrank.nn.bottoms.dcn_v2 import DCNV2
from shelfrank.nn.bottoms.ft_transformer import FTTransformer
from shelfrank.nn.bottoms.mlp import MLP
from shelfrank.nn.bottoms.none import NoBottom
from shelfrank.nn.bottoms.tabnet import TabNet
from shelfrank.nn.inputs import InputShape

BOTTOMS: dict[str, Callable[[InputShape, NeuralConfig], Bottom]] = {
    "none": NoBottom,
    "mlp": MLP,
    "dcn_v2": DCNV2,
    "ft_transformer": FTTransformer,
    "tabnet": TabNet,
}
"""Every shared bottom by its name in the config."""
