"""A generated catalogue: plausible products with near copies of each other, as real shops have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Final

from worker.events import Item
from worker.shop.vocabulary import BRANDS, COLOURS, KINDS, MODELS, SELLERS, Kind

ITEMS: Final = 4_000
VARIANTS: Final = 6  # of one product, at most
OWN_BRANDS, GUEST_BRANDS = 10, 2  # of a category
PRICE_SPREAD: Final = 0.45  # sigma of log(price) in a category
VARIANT_SPREAD: Final = 0.02
IN_STOCK: Final = 0.94


def generate(seed: int = 0, items: int = ITEMS) -> dict[str, Item]:
    """`items` products. Variants of one product share `group_id`, brand, words and price level."""
    random = Random(f"catalogue {seed}")
    brands = {kind.category: _brands(random, kind) for kind in KINDS}
    catalogue: dict[str, Item] = {}
    group = 0
    while len(catalogue) < items:
        group += 1
        kind = random.choice(KINDS)
        brand = random.choices(*brands[kind.category])[0]
        for item in _variants(random, kind, brand, f"g-{group:05d}"):
            if len(catalogue) == items:
                break
            catalogue[item.item_id] = item
    return catalogue


def _brands(random: Random, kind: Kind) -> tuple[list[str], list[float]]:
    """The brands of a category and their shares: mostly the department's own, and few dominate."""
    departments = sorted({other.department for other in KINDS})
    own = BRANDS[departments.index(kind.department) :: len(departments)]
    chosen = random.sample(own, OWN_BRANDS)
    chosen += random.sample([brand for brand in BRANDS if brand not in own], GUEST_BRANDS)
    return chosen, [1.0 / (rank + 1) ** 0.7 for rank in range(len(chosen))]


def _variants(random: Random, kind: Kind, brand: str, group: str) -> Iterator[Item]:
    model = random.choice(MODELS) + random.choice(("", "", " 2", " 3", " Pro", " Plus"))
    noun, material = random.choice(kind.nouns), random.choice(kind.materials)
    feature = random.choice(kind.features)
    level = kind.median_price * random.lognormvariate(0.0, PRICE_SPREAD)
    order = random.random() < 0.5  # a brand writes all titles of a product in one way
    looks = list(product(COLOURS, kind.sizes or ("",)))
    count = min(random.choice((1, 1, 2, 3, 4, VARIANTS)), len(looks))
    for n, (colour, size) in enumerate(sorted(random.sample(looks, count)), start=1):
        words = f"{feature} {material} {noun}" if order else f"{noun} {feature} {material}"
        attributes = {"colour": colour, "material": material, "feature": feature}
        yield Item(
            item_id=f"p-{group[2:]}-{n}",
            title=", ".join(part for part in (f"{brand} {model} {words}", colour, size) if part),
            category=kind.category,
            brand=brand,
            seller=random.choice(SELLERS),
            price=round(level * random.lognormvariate(0.0, VARIANT_SPREAD), 2),
            group_id=group,
            in_stock=random.random() < IN_STOCK,
            attributes=attributes | ({"size": size} if size else {}),
        )
