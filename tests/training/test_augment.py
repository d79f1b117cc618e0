"""Texts as they might have been written: by their chance, the same in every run, and never lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import Segment, Template
from export.tokenizer import PairTokenizer
from tests.factories import candidate, event, joined
from tests.training.lists import CATEGORIES, labelled_lists, vectors_of
from training.augment import Augment, read_anew
from training.batches import Steps
from training.recipe import Recipe
from training.sheets import Words, tokenised
from worker.ranking.join import JoinedSearch
from worker.ranking.text import pair_texts

FIELDS = Template(
    item=(Segment(field="title"), Segment(field="brand", before=" by "), Segment(field="category"))
)
TITLES = ("Trail shoe, red, 2 pack", "Hiking boot, 6 ft", "羊毛 帽子，红色、保暖 30 cm")
TRIALS = 400
WHOLE = ("hard_negatives", "synthetic")  # of lists, not of texts
CHANCES = tuple(name for name in Augment.__struct_fields__ if name not in WHOLE)
Texts: TypeAlias = list[tuple[str, str]]


def search(*titles: str, query: str = "trail boots 6 ft") -> JoinedSearch:
    items = [
        candidate(f"i{at}", title=title, brand="Acme", category="all")
        for at, title in enumerate(titles)
    ]
    return joined(event(items, user_query=query))


LIST = search(*TITLES)
ROWS = range(len(TITLES))


def chances(**values: float) -> Augment:
    return msgspec.convert(values, Augment)


def read(
    augment: Augment, *seed: int, rows: Sequence[int] = ROWS, one: JoinedSearch = LIST
) -> Texts:
    """As (seed, epoch, list) has it; those that are not said are 0."""
    first, epoch, index = (*seed, 0, 0)[:3]
    texts = read_anew(one, rows, FIELDS, 0.0, augment, (first, epoch, index))
    assert texts is not None
    return texts


@given(share=st.floats(0, 0.99), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 9))
def test_without_augmentation_fields_are_dropped_as_ever(
    share: float, seed: int, epoch: int
) -> None:
    chance = np.random.default_rng((seed, epoch, 7))
    kept = [segment for segment in FIELDS.item[1:] if chance.random() >= share]
    template = msgspec.structs.replace(FIELDS, item=(FIELDS.item[0], *kept))
    expected = None if len(kept) == 2 else pair_texts(LIST, ROWS, template)
    assert read_anew(LIST, ROWS, FIELDS, share, Augment(), (seed, epoch, 7)) == expected


def test_fields_are_dropped_alike_whatever_else_is_done_to_the_texts() -> None:
    for seed in range(40):
        plain = read_anew(LIST, ROWS, FIELDS, 0.5, Augment(), (seed, 0, 0))
        more = read_anew(LIST, ROWS, FIELDS, 0.5, Augment(title_typos=0.9), (seed, 0, 0))
        whole = plain or pair_texts(LIST, ROWS, FIELDS)
        assert more is not None
        for (_, one), (_, other) in zip(whole, more, strict=True):
            assert (" by Acme" in one, one.endswith("all")) == (
                " by Acme" in other,
                other.endswith("all"),
            )


@pytest.mark.parametrize("name", CHANCES)
def test_a_text_hangs_on_seed_epoch_list_and_row_alone(name: str) -> None:
    augment = chances(**{name: 0.5})
    seen = []
    for seed in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)):
        texts = [read(augment, *seed[:2], index) for index in range(seed[2], seed[2] + 30)]
        np.random.seed(4)
        torch.manual_seed(4)
        assert texts == [read(augment, *seed[:2], i) for i in range(seed[2], seed[2] + 30)]
        parts = [read(augment, *seed, rows=[row])[0] for row in reversed(ROWS)]
        assert parts[::-1] == read(augment, *seed)
        seen.append(texts)
    assert all(one != other for at, one in enumerate(seen) for other in seen[:at])


def query_changed(texts: Texts) -> list[bool]:
    return [texts[0][0] != "trail boots 6 ft"]


def titles_changed(texts: Texts) -> list[bool]:
    return [not item.startswith(title) for (_, item), title in zip(texts, TITLES, strict=True)]


def query_words_gone(texts: Texts) -> list[bool]:
    return [word not in texts[0][0].split() for word in ("trail", "boots", "6", "ft")]


def title_words_gone(texts: Texts) -> list[bool]:
    return [word not in texts[0][1] for word in ("Trail", "shoe,", "red,", "2", "pack")]


def test_each_item_has_a_chance_of_its_own() -> None:
    twins = search(*["trail shoe"] * 3, query="trail shoe")
    for name in ("title_typos", "title_dropout"):
        found = [read(chances(**{name: 0.5}), seed, one=twins) for seed in range(60)]
        assert sum(len({item for _, item in texts}) > 1 for texts in found) > 30


@pytest.mark.parametrize("share", [0.2, 0.7])
@pytest.mark.parametrize(
    ("name", "where", "changed"),
    [
        ("query_typos", "query", query_changed),
        ("word_order", "query", query_changed),
        ("query_dropout", "query", query_words_gone),
        ("title_typos", "title", titles_changed),
        ("attribute_shuffle", "title", titles_changed),
        ("title_dropout", "title", title_words_gone),
        ("units", "both", query_changed),
        ("units", "both", titles_changed),
    ],
)
def test_as_many_texts_change_as_the_chance_says_and_no_others(
    name: str, where: str, changed: Callable[[Texts], list[bool]], share: float
) -> None:
    texts = [read(chances(**{name: share}), seed) for seed in range(TRIALS)]
    found = [each for one in texts for each in changed(one)]
    spared = share**4 if "dropout" in name else 0.0  # the word that is kept where all would go
    bound = 5 * (share * (1 - share) / len(found)) ** 0.5 + spared
    assert abs(np.mean(found) - share) < bound
    plain = pair_texts(LIST, ROWS, FIELDS)
    for one in texts:
        for (query, item), (whole_query, whole_item) in zip(one, plain, strict=True):
            assert where != "title" or query == whole_query
            assert where != "query" or item == whole_item


@given(
    values=st.lists(st.floats(0, 0.99), min_size=len(CHANCES), max_size=len(CHANCES)),
    seed=st.integers(0, 2**32 - 1),
    title=st.text(min_size=1).filter(str.strip),
    query=st.text(min_size=1).filter(str.strip),
)
def test_no_text_is_ever_emptied(values: list[float], seed: int, title: str, query: str) -> None:
    augment = chances(**dict(zip(CHANCES, values, strict=True)))
    one = search(title, query=query)
    texts = read_anew(one, [0], Template(), 0.5, augment, (seed, 0, 0))
    assert texts is None or all(text.strip() for pair in texts for text in pair)


def test_chinese_is_misspelt_and_its_words_change_places() -> None:
    one = search("羊毛 帽子，红色", query="登山鞋 防水")

    def readings(augment: Augment) -> set[tuple[str, str]]:
        return {read(augment, seed, rows=[0], one=one)[0] for seed in range(60)}

    found = readings(Augment(query_typos=0.9, title_typos=0.9))
    assert any(item.startswith("毛羊") for _, item in found)
    assert {"山登鞋 防水", "登鞋山 防水", "登山鞋 水防"} <= {query for query, _ in found}
    orders = {query for query, _ in readings(Augment(word_order=0.9))}
    assert orders == {"登山鞋 防水", "防水 登山鞋"}


def test_a_run_reads_its_lists_anew_each_epoch_and_grades_stay(base: Path) -> None:
    lists = labelled_lists(20)
    words = Words(Template(), FIELDS, PairTokenizer(base, 60), vectors_of(lists), CATEGORIES)
    sheets = tokenised(lists, words)
    dials: dict[str, Any] = {"epochs": 2, "pairs_per_step": 200, "max_list": 3}

    def steps(augment: Augment) -> list[Any]:
        made = Steps(sheets, words, Recipe(augment=augment, **dials), typed=True)
        return [made[index] for index in range(len(made))]

    plain, shaken = steps(Augment()), steps(Augment(title_typos=0.9, query_dropout=0.3))
    for one, other, again in zip(
        plain, shaken, steps(Augment(title_typos=0.9, query_dropout=0.3)), strict=True
    ):
        assert torch.equal(one.grades, other.grades)
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(other.input_ids, again.input_ids)
        assert one.input_ids.shape != other.input_ids.shape or not torch.equal(
            one.input_ids, other.input_ids
        )


@pytest.mark.parametrize("name", CHANCES)
@pytest.mark.parametrize("value", [-0.1, 1.0, "often"])
def test_a_chance_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.augment\.{name}"):
        msgspec.convert({"augment": {name: value}}, Recipe)
