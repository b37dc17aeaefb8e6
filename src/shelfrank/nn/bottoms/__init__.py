"""Shared bottoms: one file each, named in `BOTTOMS`."""

from shelfrank.nn.bottoms.base import Bottom
from shelfrank.nn.bottoms.dcn_v2 import DCNV2
from shelfrank.nn.bottoms.ft_transformer import FTTransformer
from shelfrank.nn.bottoms.mlp import MLP
from shelfrank.nn.bottoms.none import NoBottom
from shelfrank.nn.bottoms.tabnet import TabNet

BOTTOMS: dict[str, type[Bottom]] = {
    "none": NoBottom,
    "mlp": MLP,
    "dcn_v2": DCNV2,
    "ft_transformer": FTTransformer,
    "tabnet": TabNet,
}
"""Every shared bottom by its name in the config."""
