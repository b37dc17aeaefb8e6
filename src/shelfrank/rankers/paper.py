"""The rows of the paper's Table 2: their parameter counts, and sizes that approximate them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

N_NUMERICAL = 40
CATEGORY_SIZES = (10,) * 20
"""A schema of the paper's kind, which does not state its own: numbers and categories of few values, no table of ids."""


@dataclass(frozen=True)
class PaperRow:
    """One row of Table 2, or of Table 4.

    Attributes:
        label: The paper's name for it.
        sizes: Settings that give a network of about the paper's size on a schema of its kind.
        trainable: The paper's count, as printed; None where it prints none.
        total: The same with frozen parameters.
    """

    label: str
    sizes: Mapping[str, Any]
    trainable: int | None = None
    total: int | None = None


_DCN_V2 = {"dcn_v2": {"n_cross_layers": 1, "deep_layers": [448, 640, 320]}}
_MMOE_ON_DCN_V2 = {**_DCN_V2, "mmoe": {"n_experts": 6, "expert_layers": [32, 16]}, "tower_layers": [16]}
_FTT = {"d_embedding": 192, "ft_transformer": {"n_blocks": 3, "n_heads": 8}}
_MMOE_ON_FTT = {**_FTT, "mmoe": {"n_experts": 6, "expert_layers": [640, 320]}}

PAPER_ROWS: dict[str, PaperRow] = {
    "xgboost": PaperRow("XGBoost (Single ATC Task)", {}),
    "dcn_v2_single": PaperRow("DCN-V2 (Single ATC Task)", _DCN_V2, 850_000, 850_000),
    "ftt_single": PaperRow("FT-T (Single ATC Task)", _FTT, 927_000, 927_000),
    "mmoe": PaperRow(
        "MMoE",
        {"d_embedding": 8, "mmoe": {"n_experts": 6, "expert_layers": [64, 32]}, "tower_layers": [16]},
        100_000,
        100_000,
    ),
    "tabnet": PaperRow("TabNet", {"tabnet": {"n_steps": 5}}, 580_000, 580_000),
    "ftt": PaperRow("FT-T", _FTT, 927_000, 927_000),
    "mmoe_dcn_v2": PaperRow("MMoE with shared bottom DCN-V2", _MMOE_ON_DCN_V2, 998_000, 998_000),
    "mmoe_ftt": PaperRow("MMoE with shared bottom FT-T", _MMOE_ON_FTT, 2_900_000, 2_900_000),
    "mmoe_dcn_v2_text_cross": PaperRow(
        "MMoE with shared bottom DCN-V2 + TinyBERT Cross Layer", _MMOE_ON_DCN_V2, 9_600_000, 69_500_000
    ),
    "mmoe_ftt_text_cross": PaperRow(
        "MMoE with shared bottom FT-T + TinyBERT Cross Layer", _MMOE_ON_FTT, 10_100_000, 70_000_000
    ),
    "mmoe_dcn_v2_text_dot": PaperRow("MMoE + DCN-V2 + TinyBERT Dot", _MMOE_ON_DCN_V2),
}
"""Every ranker of the paper by its name in `RANKERS`, in the order of its tables (Paper: Table 2)."""
