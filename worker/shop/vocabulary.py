"""The words that the generated catalogue is made of: kinds of product, brands, colours, sellers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A category: what its products are called, made of and good at, and what they cost."""

    department: str
    category: str
    nouns: tuple[str, ...]
    materials: tuple[str, ...]
    features: tuple[str, ...]
    sizes: tuple[str, ...]
    median_price: float


def _kinds(table: str) -> tuple[Kind, ...]:
    kinds = []
    for line in table.strip().splitlines():
        department, category, price, *lists = (cell.strip() for cell in line.split("|"))
        nouns, materials, features, sizes = (
            tuple(word.strip() for word in cell.split(",") if word.strip()) for cell in lists
        )
        kinds.append(
            Kind(department, category, nouns, materials, features, sizes, median_price=float(price))
        )
    return tuple(kinds)


KINDS: Final = _kinds(
    """
sport|running shoes|95|running shoes, trail running shoes|mesh, knit, recycled mesh|waterproof, lightweight, cushioned, stability|39, 41, 43, 45
sport|hiking boots|140|hiking boots, walking boots|leather, suede, nylon|waterproof, insulated, lightweight, wide fit|39, 41, 43, 45
sport|football boots|80|football boots, soccer cleats|leather, synthetic, knit|firm ground, indoor, lightweight|39, 41, 43
sport|yoga mats|35|yoga mat, exercise mat|cork, rubber, foam|non-slip, extra thick, foldable|
sport|dumbbells|45|dumbbell set, adjustable dumbbells|steel, neoprene, cast iron|hexagonal, adjustable, compact|5 kg, 10 kg, 20 kg
sport|camping tents|180|camping tent, dome tent|nylon, polyester, canvas|waterproof, lightweight, pop-up|2 person, 4 person, 6 person
sport|sleeping bags|75|sleeping bag, mummy sleeping bag|down, synthetic, cotton|lightweight, insulated, compact|regular, long
sport|bicycle helmets|60|bicycle helmet, cycling helmet|polycarbonate, carbon|ventilated, lightweight, reflective|S, M, L
sport|water bottles|22|water bottle, sports bottle|steel, glass, plastic|insulated, leakproof, foldable|500 ml, 750 ml, 1 l
fashion|dress shoes|110|dress shoes, oxford shoes|leather, suede, patent leather|slip-on, wide fit, handmade|40, 42, 44
fashion|sneakers|75|sneakers, low-top sneakers|canvas, leather, recycled mesh|slip-on, cushioned, retro|37, 39, 41, 43
fashion|winter jackets|150|winter jacket, parka|down, wool, polyester|waterproof, insulated, hooded|S, M, L, XL
fashion|rain jackets|85|rain jacket, raincoat|nylon, polyester, rubber|waterproof, hooded, packable|S, M, L, XL
fashion|jeans|65|jeans, slim jeans|denim, stretch denim, organic cotton|high waist, slim fit, relaxed fit|28, 30, 32, 34
fashion|t-shirts|22|t-shirt, crew neck t-shirt|cotton, organic cotton, linen|slim fit, relaxed fit, long sleeve|S, M, L, XL
fashion|sweaters|60|sweater, pullover|wool, cashmere, cotton|hooded, slim fit, chunky|S, M, L
fashion|handbags|120|handbag, shoulder bag|leather, canvas, vegan leather|handmade, compact, zipped|
fashion|travel backpacks|90|travel backpack, daypack|nylon, canvas, leather|waterproof, foldable, anti-theft|20 l, 30 l, 40 l
fashion|wrist watches|160|wrist watch, chronograph watch|steel, leather, titanium|waterproof, automatic, solar|
home|office chairs|210|office chair, desk chair|mesh, leather, fabric|ergonomic, adjustable, foldable|
home|dining chairs|95|dining chair, kitchen chair|oak, walnut, velvet|stackable, upholstered, handmade|set of 2, set of 4
home|coffee tables|170|coffee table, side table|oak, walnut, glass, marble|round, foldable, extendable|
home|floor lamps|85|floor lamp, reading lamp|steel, brass, wood|dimmable, adjustable, arc|
home|desk lamps|40|desk lamp, table lamp|steel, brass, wood|dimmable, adjustable, rechargeable|
home|bed linen|70|bed linen set, duvet cover|cotton, linen, microfibre|breathable, reversible, organic|single, double, king
home|bath towels|25|bath towel, towel set|cotton, bamboo, linen|quick-dry, extra soft, organic|small, large
home|area rugs|130|area rug, carpet|wool, jute, cotton|washable, handmade, reversible|120 cm, 160 cm, 200 cm
kitchen|frying pans|45|frying pan, skillet|cast iron, steel, ceramic|non-stick, induction, ovenproof|20 cm, 24 cm, 28 cm
kitchen|chef knives|70|chef knife, kitchen knife|steel, damascus steel, ceramic|handmade, forged, serrated|15 cm, 20 cm
kitchen|coffee makers|120|coffee maker, espresso machine|steel, glass, plastic|automatic, compact, programmable|
kitchen|coffee grinders|75|coffee grinder, burr grinder|steel, ceramic, wood|manual, automatic, compact|
kitchen|kettles|45|kettle, gooseneck kettle|steel, glass, ceramic|cordless, programmable, compact|1 l, 1.7 l
kitchen|storage jars|20|storage jar, jar set|glass, ceramic, bamboo|airtight, stackable, leakproof|500 ml, 1 l
electronics|headphones|130|headphones, over-ear headphones|leather, plastic, aluminium|wireless, noise-cancelling, foldable|
electronics|earbuds|80|earbuds, in-ear earphones|plastic, silicone|wireless, noise-cancelling, waterproof|
electronics|bluetooth speakers|90|bluetooth speaker, portable speaker|fabric, aluminium, wood|waterproof, wireless, compact|
electronics|laptop bags|55|laptop bag, laptop sleeve|leather, nylon, felt|waterproof, anti-theft, compact|13 inch, 15 inch, 17 inch
electronics|phone cases|20|phone case, flip case|leather, silicone, plastic|shockproof, waterproof, wireless charging|
electronics|power banks|40|power bank, portable charger|aluminium, plastic|wireless charging, compact, solar|10000 mAh, 20000 mAh
electronics|mechanical keyboards|110|mechanical keyboard, keyboard|aluminium, plastic, wood|wireless, compact, backlit|
"""  # noqa: E501  (a row a category)
)

COLOURS: Final = (
    "black", "white", "grey", "navy", "blue", "green", "olive", "red", "burgundy", "orange",
    "yellow", "pink", "beige", "brown",
)  # fmt: skip

MODELS: Final = (
    "Alto", "Arbor", "Atlas", "Aurora", "Basin", "Beacon", "Bolt", "Breeze", "Canyon", "Cedar",
    "Comet", "Coral", "Crest", "Delta", "Drift", "Dune", "Echo", "Ember", "Fjord", "Flint",
    "Forge", "Gale", "Glide", "Grove", "Harbor", "Haven", "Horizon", "Indigo", "Jade", "Juno",
    "Kestrel", "Lagoon", "Lark", "Lumen", "Lynx", "Maple", "Meadow", "Mesa", "Mirage", "Monsoon",
    "Nimbus", "Nova", "Oasis", "Onyx", "Orbit", "Osprey", "Pine", "Pioneer", "Prairie", "Pulse",
    "Quartz", "Rapid", "Raven", "Ridge", "River", "Sage", "Sierra", "Solace", "Sparrow", "Spruce",
    "Summit", "Swift", "Tempo", "Terra", "Thicket", "Tidal", "Timber", "Trailhead", "Tundra",
    "Vale", "Vega", "Vista", "Willow", "Zephyr",
)  # fmt: skip

BRANDS: Final = (
    "Aldera", "Ambrook", "Anvara", "Ardenne", "Astrolo", "Bellwick", "Borealis", "Bramwell",
    "Brightwater", "Cairnfield", "Calyx", "Carvello", "Castellan", "Cindral", "Coveline",
    "Dalmore", "Dovetail", "Drakemoor", "Eastvale", "Elmstead", "Emberly", "Fairholm", "Fenwick",
    "Ferrano", "Foxglove", "Gallant", "Glenhaven", "Granito", "Greyfell", "Halcyon", "Hartwood",
    "Helvetra", "Hollis", "Ironbark", "Ivara", "Jorvik", "Juniper", "Kaldera", "Kestane",
    "Kinross", "Lanark", "Larkspur", "Lindqvist", "Lumora", "Marrow", "Mendora", "Mistral",
    "Montclair", "Nordane", "Norvane", "Oakhurst", "Ostrava", "Pellham", "Penrose", "Quillon",
    "Ravello", "Redfern", "Rosslyn", "Rowan", "Sablewood", "Selkirk", "Silvane", "Solvik",
    "Stonebridge", "Sundara", "Talavera", "Tarnhow", "Thornbury", "Umbria", "Valdora", "Varnholm",
    "Verano", "Vesper", "Wexmoor", "Whitlock", "Wildera", "Windrow", "Yarrow", "Zanetti", "Zephra",
)  # fmt: skip

SELLERS: Final = tuple(f"seller-{n:02d}" for n in range(1, 41))
