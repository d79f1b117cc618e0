"""The generated catalogue, and the parts that a shop is made of."""

from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events import Item
from worker.shop.catalogue import generate
from worker.shop.clicks import ClickModel
from worker.shop.engine import Engine, popularity
from worker.shop.intents import Intent, match
from worker.shop.vocabulary import BRANDS, KINDS
from worker.shop.words import traits, words

CATALOGUE = generate()
SHOE = Item(
    item_id="s",
    title="Acme blue mesh running shoes",
    category="running shoes",
    brand="Acme",
    attributes={"colour": "Blue", "weight": 3, "size": "42"},
)


def test_a_seed_gives_one_catalogue() -> None:
    assert generate(seed=3, items=50) == generate(seed=3, items=50)
    assert generate(seed=3, items=50) != generate(seed=4, items=50)


@pytest.mark.parametrize("items", [0, 1, 17, 500])
def test_a_catalogue_has_as_many_items_as_asked(items: int) -> None:
    assert len(generate(items=items)) == items


def test_it_has_many_categories_brands_and_departments() -> None:
    assert {item.category for item in CATALOGUE.values()} == {kind.category for kind in KINDS}
    assert len({item.brand for item in CATALOGUE.values()}) > 0.8 * len(BRANDS)
    assert len({kind.department for kind in KINDS}) >= 4


def test_every_item_says_what_it_is() -> None:
    for item in CATALOGUE.values():
        assert item.title
        assert item.brand
        assert item.title.startswith(item.brand)
        assert item.price is not None
        assert item.price > 0


def test_variants_of_a_product_differ_in_title_and_little_else() -> None:
    groups = defaultdict(list)
    for item in CATALOGUE.values():
        groups[item.group_id].append(item)
    copies = [items for items in groups.values() if len(items) > 1]
    assert len(copies) > 100
    for items in copies:
        assert len({(item.brand, item.category) for item in items}) == 1
        assert len({item.title for item in items}) == len(items)


def test_brands_keep_to_some_categories() -> None:
    sold = Counter((item.brand, item.category) for item in CATALOGUE.values())
    for brand in {brand for brand, _ in sold}:
        assert len({category for name, category in sold if name == brand}) < len(KINDS) / 2


def test_few_products_are_bought_much() -> None:
    sales = sorted(popularity(CATALOGUE).values(), reverse=True)
    assert sum(sales[:400]) > 0.3 * sum(sales)
    assert all(0.0 < share <= 1.0 for share in sales)


def test_the_engine_finds_words_and_fills_up_with_best_sellers() -> None:
    catalogue = {
        name: Item(item_id=name, title=title)
        for name, title in [("a", "red tea"), ("b", "red cup"), ("c", "blue jar")]
    }
    found = Engine(catalogue).search("red teas", size=3)
    assert {candidate.item_id for candidate in found[:2]} == {"a", "b"}
    assert found[2].item_id == "c"
    assert Engine(catalogue).search("red", size=1) == Engine(catalogue).search("RED", size=1)
    assert Engine({}).search("red") == ()


MATCHES = [
    ("the category", Intent("shoes", frozenset({"running shoes", "boots"})), 1.0),
    ("category and brand", Intent("q", frozenset({"running shoes"}), brand="Acme"), 1.0),
    ("another brand", Intent("q", frozenset({"running shoes"}), brand="Bolt"), 0.5),
    ("category and trait", Intent("q", frozenset({"running shoes"}), trait="blue"), 1.0),
    ("another trait", Intent("q", frozenset({"running shoes"}), trait="red"), 0.5),
    ("neither", Intent("q", frozenset({"running shoes"}), brand="Bolt", trait="red"), 0.25),
    ("words of another category", Intent("dress shoe", frozenset({"dress shoes"})), 0.5 / 3),
    ("nothing", Intent("kettle", frozenset({"kettles"})), 0.0),
    ("words alone", Intent("blue shoe", frozenset()), 1.0),
    ("nothing was asked for", Intent("", frozenset()), 1.0),
]


@pytest.mark.parametrize(
    ("intent", "expected"), [case[1:] for case in MATCHES], ids=[case[0] for case in MATCHES]
)
def test_how_far_an_item_is_what_was_asked_for(intent: Intent, expected: float) -> None:
    assert match(intent, SHOE) == pytest.approx(expected)


WORDS = [
    ("Dresses", ("dress",)),
    ("watches", ("watch",)),
    ("shoes", ("shoe",)),
    ("glass", ("glass",)),
    ("cactus", ("cactus",)),
    ("Trail-running, 42", ("trail", "running", "42")),
    ("", ()),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_words_are_lower_case_and_singular(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


def test_traits_are_short_attributes_and_else_the_titles_other_words() -> None:
    assert traits(SHOE) == {"blue"}
    plain = Item(item_id="s", title="Acme blue 42 shoes", brand="Acme", category="shoes")
    assert traits(plain) == {"blue"}


@given(st.integers(1, 500), st.floats(0.1, 3.0))
def test_examination_falls_with_the_position(position: int, eta: float) -> None:
    model = ClickModel(eta=eta)
    assert model.examination(1) == 1.0
    assert 0.0 < model.examination(position + 1) < model.examination(position) <= 1.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_relevant_is_clicked_more(first: float, second: float) -> None:
    model = ClickModel()
    low, high = sorted((first, second))
    assert 0.0 < model.attraction(low) <= model.attraction(high) < 1.0


def test_clicks_come_as_often_as_the_model_says() -> None:
    model, random, tries = ClickModel(eta=1.0, noise=0.1, most=0.9), Random(0), 4_000
    clicked = Counter(
        position for _ in range(tries) for position in model.clicks(random, [1.0, 0.0, 0.5])
    )
    expected = {1: 0.9, 2: 0.1 / 2, 3: 0.5 / 3}
    for position, rate in expected.items():
        assert clicked[position] / tries == pytest.approx(rate, abs=0.02)
