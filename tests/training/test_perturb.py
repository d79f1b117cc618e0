"""Changes of texts: each does what it says, the same for the same seed, and empties none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event
from training.judgments import GradedQuery
from training.perturb import (
    NEIGHBOURS,
    PERTURBATIONS,
    attribute_shuffle,
    brand_swap,
    drawn,
    stuffed_titles,
    typo,
    word_dropout,
    word_order,
)
from training.units import units

SEEDS = st.integers(0, 2**32)
PIECES = (
    "trail",
    "6 ft.",
    "防水登山鞋",
    "ES3481",
    ",",
    "12-pack",
    "boots",
    "a,",
    "1,000 lb",
    "Ärmel",
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES)).map(" ".join))
Change = Callable[[str, np.random.Generator], str]
CHANGES: list[Change] = [typo, word_order, attribute_shuffle, units]
TITLES = (
    *("Acme trail shoe, red, 2 pack", "Birch hiking boot 6 in.", "Acme wool hat, blue"),
    "Cedar 登山鞋",
)
SHELF = GradedQuery(
    event(
        [
            candidate(f"i{index}", title=title, brand=title.split()[0].upper(), category="all")
            for index, title in enumerate(TITLES)
        ],
        user_query="hiking shoe 6 ft",
    ),
    (1.0, 2 / 3, 0.0, 0.0),
)


def titles(query: GradedQuery) -> list[str]:
    return [item.title or "" for item in query.event.candidates]


def chance(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("change", CHANGES)
@given(text=TEXTS, seed=SEEDS)
def test_a_change_hangs_on_its_seed_and_never_empties_a_text(
    change: Change, text: str, seed: int
) -> None:
    found = change(text, chance(seed))
    assert found == change(text, chance(seed))
    assert bool(found.strip()) == bool(text.strip())


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_hangs_on_seed_and_ids_alone(name: str) -> None:
    perturb = PERTURBATIONS[name]
    first = perturb(SHELF, 3)
    np.random.seed(1)
    assert perturb(SHELF, 3) == first != SHELF
    without = msgspec.structs.replace(SHELF.event, candidates=SHELF.event.candidates[:3])
    fewer = perturb(replace(SHELF, event=without, grades=SHELF.grades[:3]), 3)
    if name != "brand_swap":  # it draws from all brands of the list
        assert titles(fewer) == titles(first)[:3]


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name != "stuffed_titles"])
def test_another_seed_is_another_change(name: str) -> None:
    found = {msgspec.json.encode(PERTURBATIONS[name](SHELF, seed).event) for seed in range(20)}
    assert len(found) > 1


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_keeps_ids_and_grades_and_what_has_no_text(name: str) -> None:
    assert PERTURBATIONS[name](SHELF, 0).gains() == SHELF.gains()
    bare = GradedQuery(event([candidate(title=None, brand="Acme")], user_query="a"), (0.0,))
    assert PERTURBATIONS[name](bare, 0) == bare


@given(text=TEXTS, seed=SEEDS)
def test_a_typo_is_in_one_word_that_has_no_digit_and_is_long_enough(text: str, seed: int) -> None:
    pieces, found = (re.split(r"(\W+)", each) for each in (text, typo(text, chance(seed))))
    changed = [pair for pair in zip(pieces, found, strict=True) if pair[0] != pair[1]]
    assert len(changed) <= 1
    for word, wrong in changed:
        assert abs(len(wrong) - len(word)) <= 1
        assert re.findall(r"\d+", word) == re.findall(r"\d+", wrong)
        assert not word.isascii() or (word.isalpha() and len(word) >= 4)


@pytest.mark.parametrize(
    "text", ["", "the 12 new ES3481", "24in 8-10", "x_long_name", "红", "哈哈", "ñññ"]
)
def test_a_text_without_a_word_to_misspell_stays(text: str) -> None:
    assert all(typo(text, chance(seed)) == text for seed in range(20))


def test_the_four_kinds_of_typo_are_equally_likely() -> None:
    kinds = Counter(_kind("Boards", typo("Boards", chance(seed))) for seed in range(2_000))
    assert kinds.keys() == {"transposed", "omitted", "doubled", "strayed"}
    assert all(abs(count - 500) < 5 * (2_000 * 0.25 * 0.75) ** 0.5 for count in kinds.values())


def _kind(word: str, wrong: str) -> str:
    if sorted(word) == sorted(wrong) and word != wrong:
        return "transposed"
    if wrong in {word[:at] + word[at + 1 :] for at in range(len(word))}:
        return "omitted"
    if wrong in {word[:at] + word[at] + word[at:] for at in range(len(word))}:
        return "doubled"
    ((right, stray),) = [pair for pair in zip(word, wrong, strict=True) if pair[0] != pair[1]]
    assert stray.lower() in NEIGHBOURS[right.lower()]
    assert stray.isupper() == right.isupper()
    return "strayed"


def test_neighbours_on_the_keyboard_are_those_that_touch() -> None:
    assert set(NEIGHBOURS["s"]) == set("awedxz")
    assert set(NEIGHBOURS["q"]) == set("wa")
    assert set(NEIGHBOURS["m"]) == set("njk")
    assert all(key in NEIGHBOURS[other] for key in NEIGHBOURS for other in NEIGHBOURS[key])


@pytest.mark.parametrize("text", ["国产手机", "防水登山鞋 42", "кроссовки", "größer"])
def test_what_qwerty_has_no_keys_for_is_only_transposed(text: str) -> None:
    found = {typo(text, chance(seed)) for seed in range(50)}
    assert text not in found
    swapped = {
        text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        for at in range(len(text) - 1)
        if text[at] != text[at + 1] and text[at : at + 2].isalpha()
    }
    assert found == swapped


@given(words=st.lists(st.sampled_from(["red", "trail", "shoe", "登山鞋"]), max_size=6), seed=SEEDS)
def test_words_stand_in_another_order_wherever_there_is_one(words: list[str], seed: int) -> None:
    found = word_order(" ".join(words), chance(seed)).split()
    assert Counter(found) == Counter(words)
    assert (found != words) == (len(set(words)) > 1)


@pytest.mark.parametrize(
    ("title", "orders"),
    [
        ("Hat, red", {"red, Hat"}),
        ("Hat, red | 1,000 g", None),
        ("帽子，红色、羊毛", None),
        ("Hat red 1,000", {"Hat red 1,000"}),
        (" Hat ", {" Hat "}),
    ],
)
def test_parts_between_commas_change_places(title: str, orders: set[str] | None) -> None:
    found = {attribute_shuffle(title, chance(seed)) for seed in range(50)}
    assert found == orders if orders else len(found) == 5 and title not in found
    parts = re.compile(r", | \| |[，、]")
    assert all(sorted(parts.split(each)) == sorted(parts.split(title)) for each in found)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_words_are_left_out_by_their_chance_and_never_all(share: float) -> None:
    text = " ".join(f"w{number}" for number in range(20))
    kept = [word_dropout(text, chance(seed), share).split() for seed in range(300)]
    assert all(each and each == sorted(each, key=text.split().index) for each in kept)
    left_out = 20 * 300 - sum(map(len, kept))
    assert abs(left_out / 6_000 - share) < 5 * (share * (1 - share) / 6_000) ** 0.5 + 0.9**20 / 20


def test_no_word_is_left_out_by_no_chance() -> None:
    assert word_dropout(" two  words ", chance(0), 0.0) == " two  words "


def test_a_brand_that_nobody_asked_for_becomes_another_of_the_list() -> None:
    found = brand_swap(SHELF, 1)
    assert [(item.title or "").split()[0] for item in found.event.candidates][1] in {
        "Acme",
        "Cedar",
    }
    for was, item in zip(SHELF.event.candidates, found.event.candidates, strict=True):
        assert item.title != was.title
        assert (item.title or "").split()[1:] == (was.title or "").split()[1:]
        assert (item.title or "").startswith(item.brand or "?")


def test_a_brand_that_the_query_names_is_neither_taken_nor_given() -> None:
    asked = msgspec.structs.replace(SHELF.event, user_query="birch boots")
    for seed in range(20):
        found = titles(brand_swap(replace(SHELF, event=asked), seed))
        assert found[1] == TITLES[1]
        assert [title.split()[0] for title in found] == ["Cedar", "Birch", "Cedar", "Acme"]


def test_a_brand_stays_in_its_category() -> None:
    items = [
        msgspec.structs.replace(item, category=category)
        for item, category in zip(SHELF.event.candidates, ("a", "a", "b", "c"), strict=True)
    ]
    event = msgspec.structs.replace(SHELF.event, candidates=tuple(items))
    found = [title.split()[0] for title in titles(brand_swap(replace(SHELF, event=event), 0))]
    assert found == ["Birch", "Acme", "Acme", "Cedar"]


def test_only_what_is_worth_least_is_stuffed_once_with_what_it_lacks() -> None:
    found = stuffed_titles(SHELF, 0)
    assert titles(found) == [*TITLES[:2], *(f"{title} hiking shoe 6 ft" for title in TITLES[2:])]
    assert stuffed_titles(found, 0) == found
    good = replace(SHELF, grades=(1.0, 1.0, 2 / 3, 2 / 3))
    assert stuffed_titles(good, 0) == good
    chinese = msgspec.structs.replace(SHELF.event, user_query="登山鞋 防水")
    assert titles(stuffed_titles(replace(SHELF, event=chinese), 0))[3] == "Cedar 登山鞋 防水"


INCHES = {"ft": 12, "foot": 12, "feet": 12, "'": 12, "in.": 1, "inch": 1, "inches": 1, '"': 1}
SIZES: dict[str, tuple[str, int]] = {
    **{name: ("inches", size) for name, size in INCHES.items()},
    "cm": ("mm", 10),
    "mm": ("mm", 1),
    "kg": ("kg", 1),
    **dict.fromkeys(("pack", "pk"), ("pieces", 1)),
    **dict.fromkeys(("lb", "lbs", "lbs.", "pound", "pounds"), ("ounces", 16)),
    **dict.fromkeys(("oz", "oz.", "ounce", "ounces"), ("ounces", 1)),
    **dict.fromkeys(("gal", "gal.", "gallon", "gallons"), ("gallons", 1)),
    "ft.": ("inches", 12),
}
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905


def quantity(text: str) -> tuple[str, Fraction]:
    """What a text that is one measure says, by a plain table."""
    if text.startswith("pack of "):
        text = text.removeprefix("pack of ") + " pack"
    number, name = re.fullmatch(r"([\d.]*\d|[a-z]+)[ -]?(\D+)", text).groups()  # type: ignore[union-attr]
    kind, size = SIZES[name]
    return kind, Fraction(NUMBERS.index(number) if number in NUMBERS else number) * size


@given(
    number=st.one_of(st.integers(1, 200).map(str), st.sampled_from(["2.5", "0.5", *NUMBERS[1:]])),
    unit=st.sampled_from(sorted(SIZES)),
    between=st.sampled_from(["", " ", "-"]),
    seed=SEEDS,
)
def test_another_way_to_write_a_measure_says_the_same(
    number: str, unit: str, between: str, seed: int
) -> None:
    text = f"{number}{between}{unit}"
    if number.isalpha() and not between:
        text = f"{number} {unit}"
    found = units(text, chance(seed))
    assert found != text
    assert quantity(found) == quantity(text)


def test_every_way_of_the_task_is_found() -> None:
    written = {units("6 ft", chance(seed)) for seed in range(200)}
    assert {"6-foot", "6'", "six-foot", "72 in.", '72"', "72-inch"} <= written
    packs = {units("12 pack", chance(seed)) for seed in range(200)}
    assert packs == {"pack of 12", "12-pack", "12 pk", "pack of twelve"}


@pytest.mark.parametrize(
    "text",
    [
        *("1-1/2 in. pipe", "1,000 lb winch", "50 ft. lbs. wrench", "4 in black", "iPhone 4", "4G"),
        *("802.11g", "3 cu. ft.", "2x3 ft.", "pack of them", "2-pack of 6", "6 feetless", "5'11"),
        *("the '90s", "六尺", "防水登山鞋", ""),
    ],
)
def test_what_is_no_measure_stays(text: str) -> None:
    assert units(text, chance(0)) == text


def test_a_measure_is_found_in_chinese_too() -> None:
    assert {units("防水 30cm 鞋", chance(seed)) for seed in range(30)} == {
        *("防水 30 cm 鞋", "防水 300 mm 鞋", "防水 300mm 鞋")
    }


@given(st.integers(), st.text(), st.text())
def test_chance_hangs_on_seed_and_names(seed: int, first: str, second: str) -> None:
    assert drawn(seed, first, second).random() == drawn(seed, first, second).random()
    assert drawn(seed, first, second).random() != drawn(seed, first + second).random()
