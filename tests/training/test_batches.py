"""Lists as tensors: nothing lost, nothing read twice, and the tokens that serving would see."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import Segment, Template
from export.tokenizer import PairTokenizer
from tests.export.models import save_base
from tests.factories import joined
from tests.training.lists import CATEGORIES, labelled_list, labelled_lists, vectors_of
from training.batches import Steps, collate, judging, plan
from training.dataset import LabelledList
from training.equity import Fairness, Groups
from training.recipe import Recipe
from training.sheets import Sheet, Words, digest, grouped, tokenised
from worker.events import HistoryEntry, Item
from worker.ranking.join import Tables

SMALL: dict[str, Any] = {"pairs_per_step": 8, "max_list": 3}
FIELDS = Template(item=(Segment(field="title"), Segment(field="brand", before=" by ")))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "bert", "bert")


def words(base: Path, lists: list[LabelledList], template: Template = FIELDS) -> Words:
    tokenizer = PairTokenizer(base, 40)
    return Words(Template(), template, tokenizer, vectors_of(lists, queries=True), CATEGORIES)


@pytest.fixture(scope="module")
def sheets(base: Path) -> list[Sheet]:
    lists = labelled_lists(30)
    return tokenised(lists, words(base, lists))


@given(seed=st.integers(0, 100), epoch=st.integers(0, 5), budget=st.integers(3, 20))
def test_an_epoch_reads_every_row_once_and_keeps_to_its_budget(
    sheets: list[Sheet], seed: int, epoch: int, budget: int
) -> None:
    recipe = Recipe(seed=seed, pairs_per_step=budget, max_list=3)
    steps = plan(sheets, recipe, epoch)
    read = Counter((index, row) for step in steps for index, rows in step for row in rows.tolist())
    assert read == Counter(
        (index, row) for index, sheet in enumerate(sheets) for row in range(len(sheet.pairs))
    )
    for step in steps:
        assert sum(len(rows) for _, rows in step) <= budget
        assert all(len(rows) <= 3 for _, rows in step)


def test_the_order_depends_on_seed_and_epoch_alone(sheets: list[Sheet]) -> None:
    def order(seed: int, epoch: int) -> list[list[tuple[int, list[int]]]]:
        steps = plan(sheets, Recipe(seed=seed, **SMALL), epoch)
        return [[(index, rows.tolist()) for index, rows in step] for step in steps]

    first = order(1, 0)
    np.random.seed(5)
    torch.manual_seed(5)
    assert order(1, 0) == first
    assert order(1, 1) != first
    assert order(2, 0) != first


def test_lists_of_like_length_are_read_together(base: Path) -> None:
    lists = [
        labelled_list(index, 3, user_query="shoe " * (1 + 4 * (index % 2))) for index in range(40)
    ]
    sheets = tokenised(lists, words(base, lists))
    recipe = Recipe(pairs_per_step=6, max_list=3)
    spans = [
        np.ptp([sheets[index].widths.max() for index, _ in step])
        for step in plan(sheets, recipe, 0)
    ]
    assert np.mean(np.array(spans) <= 8) > 0.8  # letters; the two kinds of query are 20 apart


def test_lists_are_judged_whole(sheets: list[Sheet]) -> None:
    batches = list(judging(sheets, Recipe(**SMALL), typed=True))
    sizes = [int((row >= 0).sum()) for batch in batches for row in batch.rows]
    assert sorted(sizes) == sorted(len(sheet.pairs) for sheet in sheets)


def test_a_batch_is_its_lists_side_by_side(sheets: list[Sheet]) -> None:
    parts = [(sheets[index], np.arange(len(sheets[index].pairs))) for index in (0, 3, 5)]
    batch = collate(parts, typed=True)
    assert batch.token_type_ids is not None
    for place, (sheet, _) in enumerate(parts):
        count = len(sheet.pairs)
        assert batch.grades[place, :count].tolist() == sheet.grades.tolist()
        assert batch.known[place, :count].tolist() == sheet.known.tolist()
        assert not batch.weights[place, count:].any()
        assert (batch.known[place, count:] == -1).all()
        for row, (ids, types) in zip(batch.rows[place, :count], sheet.pairs, strict=True):
            real = batch.attention_mask[row] == 1
            assert batch.input_ids[row][real].tolist() == list(ids)
            assert batch.token_type_ids[row][real].tolist() == list(types)
            assert not batch.input_ids[row][~real].any()
    assert collate(parts, typed=False).token_type_ids is None


def test_groups_stand_beside_their_items_where_a_loss_compares_them(sheets: list[Sheet]) -> None:
    brands = (Groups(field="brand"),)
    told = grouped(sheets, Fairness(groups=brands, fewest=1, exposure=1.0))
    batch = collate([(told[index], np.arange(len(told[index].pairs))) for index in (0, 3)], True)
    assert batch.groups is not None
    for place, index in enumerate((0, 3)):
        entries = sheets[index].labelled.search.entries
        names = [{None: -1, "Acme": 0, "Birch": 1}[entry.item.brand] for entry in entries]
        assert batch.groups[place, :, 0].tolist()[: len(names)] == names
        assert (batch.groups[place, len(names) :] == -1).all()
    assert digest(told) != digest(sheets), "another run, for it learns from what it did not before"
    plain = grouped(sheets, Fairness(groups=brands, reweigh=True))
    assert all(each.groups is None for each in plain)
    assert digest(plain) == digest(sheets)


def test_a_category_that_is_not_learned_is_not_known(base: Path) -> None:
    one = labelled_list(4, 6)
    (sheet,) = tokenised([one], words(base, [one]))
    names = [entry.item.category for entry in one.search.entries]
    assert [None if each < 0 else CATEGORIES[each] for each in sheet.known] == names


def test_the_cosine_is_that_of_the_query_and_0_without_its_vector(base: Path) -> None:
    one = labelled_list(0, 3, user_query="wool hat")
    known = words(base, [one])
    (sheet,) = tokenised([one], known)
    titles = [entry.item.title or "" for entry in one.search.entries]
    expected = [float(known.vectors[title] @ known.vectors["wool hat"]) for title in titles]
    assert sheet.cosine.tolist() == pytest.approx(expected, abs=1e-6)
    without = Words(Template(), FIELDS, known.tokenizer, vectors_of([one]), CATEGORIES)
    assert not tokenised([one], without)[0].cosine.any()


def test_lists_that_teach_nothing_are_left_out(base: Path) -> None:
    good, unasked = labelled_list(1, 3), labelled_list(2, 3, user_query=" ")
    unseen = LabelledList(good.search, good.grades, np.zeros(3))
    lists = [unasked, unseen, good]
    (sheet,) = tokenised(lists, words(base, lists))
    assert sheet.labelled is good


def test_every_field_but_the_first_is_dropped_now_and_then(base: Path) -> None:
    lists = [labelled_list(index, 4) for index in range(40)]
    known = words(base, lists)
    sheets = tokenised(lists, known)
    whole = Steps(sheets, known, Recipe(**SMALL), typed=True)
    half = Steps(sheets, known, Recipe(field_dropout=0.5, **SMALL), typed=True)
    again = Steps(sheets, known, Recipe(field_dropout=0.5, **SMALL), typed=True)

    def letters(steps: Steps) -> list[int]:
        return [int(steps[index].attention_mask.sum()) for index in range(len(steps))]

    assert 0.5 < sum(letters(half)) / sum(letters(whole)) < 0.98
    assert letters(half) == letters(again)
    bare = words(base, lists, Template())
    titles = Steps(tokenised(lists, bare), bare, Recipe(field_dropout=0.5, **SMALL), typed=True)
    assert letters(titles) == letters(Steps(tokenised(lists, bare), bare, Recipe(**SMALL), True))


def test_the_users_past_is_dropped_now_and_then(base: Path) -> None:
    items = {"liked": Item(item_id="liked", title="wool hat")}
    done = (HistoryEntry(item_id="liked", action_name="purchase"),)
    lists = []
    for one in (labelled_list(n, 4, user_query="red shoe", history=done) for n in range(40)):
        search = joined(one.search.event, Tables(catalogue=items))
        lists.append(replace(one, search=search))
    known = words(base, lists, Template(history=1))
    sheets = tokenised(lists, known)
    steps = Steps(sheets, known, Recipe(field_dropout=0.5, **SMALL), typed=True)
    widths = [int(row.sum()) for n in range(len(steps)) for row in steps[n].attention_mask]
    with_past, without = (
        [
            int(width)
            for sheet in tokenised(lists, words(base, lists, each))
            for width in sheet.widths
        ]
        for each in (Template(history=1), Template())
    )
    assert sum(without) < sum(widths) < sum(with_past)
    told = (sum(widths) - sum(without)) / (sum(with_past) - sum(without))
    assert 0.3 < told < 0.7


def test_a_run_is_as_long_as_its_epochs_or_its_steps(base: Path, sheets: list[Sheet]) -> None:
    known = words(base, labelled_lists(30))
    one = len(Steps(sheets, known, Recipe(**SMALL), typed=True))
    assert len(Steps(sheets, known, Recipe(epochs=3, **SMALL), typed=True)) == pytest.approx(
        3 * one, abs=3
    )
    assert len(Steps(sheets, known, Recipe(max_steps=5, **SMALL), typed=True)) == 5
    assert len(Steps(sheets, known, Recipe(max_steps=1000, **SMALL), typed=True)) == one


def test_the_digest_speaks_of_tokens_and_grades(base: Path) -> None:
    lists = labelled_lists(3)
    first = digest(tokenised(lists, words(base, lists)))
    assert digest(tokenised(lists, words(base, lists))) == first
    assert digest(tokenised(lists, words(base, lists, Template()))) != first
    changed = [LabelledList(lists[0].search, 1 - lists[0].grades, lists[0].weights), *lists[1:]]
    assert digest(tokenised(changed, words(base, changed))) != first
