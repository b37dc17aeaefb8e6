"""Handcrafted features of a query's and a product's texts (Paper: Sec. 3.3, interaction features)."""

from shelfrank.features.textual.features import ProductTexts, QueryTexts, TextFeatures

__all__ = ["ProductTexts", "QueryTexts", "TextFeatures"]
