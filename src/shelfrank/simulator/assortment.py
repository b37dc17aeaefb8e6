"""Numeric codes for the shop's vocabulary: categories, product types, and the values of each attribute."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from shelfrank.simulator.words import AGE_GROUPS, BRANDS, COLORS, CategoryWords, read_categories

ATTRIBUTES = ("brand", "color", "material", "feature", "size", "age_group")
"""Attributes that a query may state besides the product type; code -1 means none."""
BRANDS_PER_TIER = 4


@dataclass(frozen=True)
class Assortment:
    """The shop's vocabulary as codes; independent of the seed.

    Attributes:
        categories: The leaf categories.
        departments: Names of the departments.
        department: Each category's department.
        kinds: Each product type's synonyms.
        kind_category: Each product type's category.
        kind_start: Offsets of each category's product types, and the end of the last one.
        values: By attribute, its words in the order of their codes.
        options: By attribute, the codes that products of each category can have.
    """

    categories: tuple[CategoryWords, ...]
    departments: tuple[str, ...]
    department: Int32[np.ndarray, " categories"]
    kinds: tuple[tuple[str, ...], ...]
    kind_category: Int32[np.ndarray, " kinds"]
    kind_start: Int32[np.ndarray, " bounds"]
    values: dict[str, tuple[str, ...]]
    options: dict[str, tuple[Int32[np.ndarray, " options"], ...]]

    @property
    def n_brands_each(self) -> int:
        """Number of brands per department; codes of a department are contiguous."""
        return len(self.values["brand"]) // len(self.departments)

    def brand_tier(self) -> Int32[np.ndarray, " brands"]:
        """Each brand's price tier: 1 premium, 0 middle, -1 cheap."""
        return (1 - np.arange(len(self.values["brand"])) % self.n_brands_each // BRANDS_PER_TIER).astype(np.int32)


def read_assortment() -> Assortment:
    """Assigns codes to the shop's words."""
    categories = read_categories()
    departments = tuple(BRANDS)
    words = {
        "brand": [tuple(BRANDS[category.department].split()) for category in categories],
        # Products without a material, such as a cream or a television, have no colour either.
        "color": [COLORS if category.materials else () for category in categories],
        "material": [category.materials for category in categories],
        "feature": [category.features for category in categories],
        "size": [category.sizes for category in categories],
        "age_group": [tuple(AGE_GROUPS[age] for age in AGE_GROUPS if age in category.ages) for category in categories],
    }
    values = {name: tuple(dict.fromkeys(word for group in groups for word in group)) for name, groups in words.items()}
    # Other tables rely on the fixed order of these two.
    values |= {"age_group": tuple(AGE_GROUPS.values()), "color": COLORS}
    sizes = [len(category.types) for category in categories]
    return Assortment(
        categories=categories,
        departments=departments,
        department=np.array([departments.index(category.department) for category in categories], dtype=np.int32),
        kinds=tuple(synonyms for category in categories for synonyms in category.types),
        kind_category=np.repeat(np.arange(len(categories)), sizes).astype(np.int32),
        kind_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        values=values,
        options={
            name: tuple(np.array([values[name].index(word) for word in group], dtype=np.int32) for group in groups)
            for name, groups in words.items()
        },
    )
