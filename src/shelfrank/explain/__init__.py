"""Explains rankings: what each feature did to a product's logits, and what the gates chose."""

from shelfrank.explain.explanation import Contribution, Explanation, Method
from shelfrank.explain.rows import Baseline, explain

__all__ = ["Baseline", "Contribution", "Explanation", "Method", "explain"]
