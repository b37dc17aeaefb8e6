"""Former names of rankers: these take any text encoder, not TinyBERT alone."""

from shelfrank.core.errors import UserError

RENAMED = {
    "mmoe_dcn_v2_tinybert_cross": "mmoe_dcn_v2_text_cross",
    "mmoe_dcn_v2_tinybert_dot": "mmoe_dcn_v2_text_dot",
    "mmoe_ftt_tinybert_cross": "mmoe_ftt_text_cross",
}
"""Today's name by the former one; folders of former runs hold the latter."""


def renamed(name: str) -> UserError:
    """The error for a former name that a user gives."""
    return UserError(f"the ranker {name} is called {RENAMED[name]} now, as it takes any text encoder; use this name")
