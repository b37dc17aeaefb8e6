"""A small furniture and clothes shop whose right readings are known by hand."""

from itertools import product

from shelfrank.features.understanding import Catalogue

TYPES = {
    "Sofas": ("sofa", "couch", "corner sofa"),
    "Tables": ("coffee table", "dining table", "desk"),
    "Shoes": ("sneaker", "hiking boot", "sandal"),
}
SIZES = {"Sofas": ("2 seater", "3 seater"), "Tables": ("round", "square"), "Shoes": ("size 8", "size 9")}
# The word in the title, and the declared value; cream is beige, though no attribute says so.
COLORS = (("beige", "beige"), ("cream", "beige"), ("black", "black"), ("blue", "blue"))
BRANDS = ("Acme", "Lumora")


def small_catalogue() -> Catalogue:
    """216 products: each type of a category in each size, colour and brand; title forms take turns."""
    titles: list[str | None] = []
    brands: list[str | None] = []
    colors: list[str | None] = []
    categories: list[str | None] = []
    for category, types in TYPES.items():
        cases = product(types, SIZES[category], COLORS, BRANDS, range(3))
        for number, (kind, size, (word, color), brand, form) in enumerate(cases):
            named = word if number % 4 else ""
            titles.append(
                (
                    f"{brand} {named} {kind} {size}",
                    f"{size} {kind} by {brand} {named}",
                    f"{kind}, {brand}, {size} {named}",
                )[form]
            )
            brands.append(brand)
            colors.append(color)
            categories.append(category)
    return Catalogue(titles, {"brand": brands, "color": colors}, categories)
