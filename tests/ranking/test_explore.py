"""Exploration: neighbours swap by a known chance, and nothing else happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined, random_search, ranked_item, rule
from worker.events import Candidate, RankedItem, RankedList
from worker.ranking.explore import explore
from worker.ranking.join import Tables
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

QUERY_IDS = st.text(min_size=1, max_size=8)
SHARES = st.floats(0, 1)
TRIALS = 2_000


def page(count: int, first_rank: int = 1) -> list[RankedItem]:
    return [ranked_item(f"i{rank}", rank) for rank in range(first_rank, first_rank + count)]


def answer(query_id: str = "q", **fields: object) -> RankedList:
    search = random_search(3, 12, query_id=query_id)
    return rerank([joined(search, **fields)], Overlap())[0]  # type: ignore[arg-type]


@given(QUERY_IDS, SHARES, st.integers(0, 12), st.integers(1, 30), st.sets(st.integers(1, 42)))
def test_it_is_a_permutation_that_moves_nobody_by_more_than_one_place(
    query_id: str, share: float, count: int, first: int, fixed: set[int]
) -> None:
    before = page(count, first)
    after = explore(before, query_id, share, fixed)
    assert [one.rank for one in after] == [one.rank for one in before]
    assert sorted(one.item_id for one in after) == sorted(one.item_id for one in before)
    for one in after:
        assert one.item_id == f"i{one.base_rank}"
        assert abs(one.rank - one.base_rank) <= (0 if one.base_rank in fixed else 1)
        assert 0.0 < one.shown_probability <= 1.0


@given(QUERY_IDS, st.integers(0, 12))
def test_without_a_share_nothing_is_touched(query_id: str, count: int) -> None:
    assert explore(page(count), query_id, 0.0) == tuple(page(count))


@given(QUERY_IDS, SHARES, st.integers(1, 6))
def test_the_coins_are_of_query_and_rank_so_that_pages_fit_together(
    query_id: str, share: float, size: int
) -> None:
    """A page changes as the whole list would, but for pairs that reach over its ends."""
    moved = {one.base_rank: one.rank for one in explore(page(24), query_id, share)}
    for start in range(1, 26 - size, size):
        for one in explore(page(size, start), query_id, share):
            wanted = moved[one.base_rank]
            assert one.rank == (wanted if start <= wanted < start + size else one.base_rank)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("fixed", [frozenset(), frozenset({3})], ids=["free", "a pin at 3"])
def test_over_many_queries_items_stand_where_their_probability_says(
    share: float, fixed: frozenset[int]
) -> None:
    """The law against its frequency: within four standard errors for each (from, to)."""
    seen: Counter[tuple[int, int]] = Counter()
    stated: dict[tuple[int, int], float] = {}
    for number in range(TRIALS):
        for one in explore(page(5), f"query {number}", share, fixed):
            seen[one.base_rank, one.rank] += 1
            stated[one.base_rank, one.rank] = one.shown_probability
    for move, chance in stated.items():
        error = (chance * (1 - chance) / TRIALS) ** 0.5
        assert abs(seen[move] / TRIALS - chance) <= 4 * error
    for base in range(1, 6):
        assert sum(p for (start, _), p in stated.items() if start == base) == pytest.approx(1.0)


def test_the_law_in_numbers() -> None:
    stated = {}
    for number in range(200):
        for one in explore(page(4), str(number), 0.4):
            stated[one.base_rank, one.rank] = one.shown_probability
    first_and_last = {(1, 1): 0.9, (1, 2): 0.1, (4, 4): 0.9, (4, 3): 0.1}
    between = {(2, 1): 0.1, (2, 2): 0.8, (2, 3): 0.1, (3, 2): 0.1, (3, 3): 0.8, (3, 4): 0.1}
    assert stated == first_and_last | between


def test_an_event_that_comes_again_has_the_same_list() -> None:
    once, again = (answer("q-1", explore=1.0) for _ in range(2))
    assert once == again
    assert any(answer(f"q-{n}", explore=1.0).items != answer(f"q-{n}").items for n in range(3))


def test_the_list_id_tells_an_explored_list_from_the_base_list() -> None:
    moved = [n for n in range(20) if answer(f"q{n}", explore=1.0).items != answer(f"q{n}").items]
    assert moved
    for n in moved:
        assert answer(f"q{n}", explore=1.0).list_id != answer(f"q{n}").list_id


def test_what_is_said_of_an_item_is_that_of_the_base_order() -> None:
    base = {one.item_id: one for one in answer("q-5", diversity=0.5).items}
    for one in answer("q-5", diversity=0.5, explore=1.0).items:
        was = base[one.item_id]
        assert one.base_rank == was.rank
        assert (one.relevance, one.gain, one.why) == (was.relevance, was.gain, was.why)


def test_pinned_buried_and_unknown_items_keep_their_places() -> None:
    titled = [candidate(name, title=f"shoes {name}") for name in "abcdefg"]
    rules = {
        "pin": rule("pin", "pin", "e", position=3),
        "bury": rule("bury", "bury", "b", "c"),
    }
    for number in range(40):
        search = event([*titled, Candidate(item_id="x")], query_id=f"q{number}", diversity=0.0)
        found = rerank([joined(search, Tables(rules=rules), explore=1.0)], Overlap())[0]
        order = [one.item_id for one in found.items]
        assert order[2] == "e"
        assert order[5:] == ["b", "c", "x"]
        assert set(order[:2]) == {"a", "d"}
        assert {one.shown_probability for one in found.items[5:]} == {1.0}


def test_an_item_beyond_the_page_never_enters_it() -> None:
    for number in range(40):
        search = random_search(1, 12, k=4, offset=4, query_id=f"q{number}")
        base = rerank([joined(search)], Overlap())[0]
        explored = rerank([joined(search, explore=1.0)], Overlap())[0]
        assert sorted(_ids(explored)) == sorted(_ids(base))
        assert [one.rank for one in explored.items] == [5, 6, 7, 8]


def test_a_degraded_list_is_not_explored() -> None:
    for number in range(10):
        search = random_search(1, 8, query_id=f"q{number}")
        plain, explored = (joined(search, explore=share) for share in (0.0, 1.0))
        lists = [fall_back(one, Overlap(), "deadline") for one in (plain, explored)]
        assert lists[0] == lists[1]
        assert [one.base_rank for one in lists[1].items] == list(range(1, 9))


def _ids(found: RankedList) -> Sequence[str]:
    return [one.item_id for one in found.items]


def test_what_is_not_explored_says_so() -> None:
    for one in answer("q").items:
        assert (one.base_rank, one.shown_probability) == (one.rank, 1.0)
    assert msgspec.to_builtins(answer("q"))["items"][0]["base_rank"] == 1
