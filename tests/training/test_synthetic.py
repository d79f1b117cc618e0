"""Lists made of items alone: their query is what one item says, and no other of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined
from training.dataset import LabelledList
from training.synthetic import SIZE, synthetic
from worker.ranking.rules import words

TITLES = [f"{colour} {what}" for colour in ("red", "blue") for what in ("shoe", "hat", "warm coat")]


def shop(titles: list[str]) -> list[LabelledList]:
    """One list of items of these titles."""
    items = [candidate(f"i{n}", title=title, score=1.0) for n, title in enumerate(titles)]
    return [LabelledList(joined(event(items)), np.ones(len(items)), np.ones(len(items)))] * 40


@given(st.integers(0, 2**31 - 1), st.floats(0.0, 1.0))
def test_each_has_one_answer_which_alone_has_every_word_of_the_query(
    seed: int, share: float
) -> None:
    made = synthetic(shop(TITLES), share, seed)
    assert len(made) == round(40 * share)
    for one in made:
        asked = set(words(one.search.event.user_query))
        has = [asked <= set(words(entry.item.title or "")) for entry in one.search.entries]
        assert one.grades.tolist() == [float(each) for each in has]
        assert sum(has) == 1 < len(has) <= SIZE
        assert all(entry.item.score is None for entry in one.search.entries)


def test_equal_seeds_make_equal_lists_and_others_do_not() -> None:
    first, same, other = (
        [one.search.event for one in synthetic(shop(TITLES), 1.0, seed)] for seed in (1, 1, 2)
    )
    assert first == same != other


def test_where_no_item_lacks_a_word_there_is_nothing_to_tell_apart() -> None:
    assert synthetic(shop(["red shoe"]), 1.0, 0) == []
    assert synthetic([], 1.0, 0) == []
