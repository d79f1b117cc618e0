"""The whole of serving on the weak honest ranker: what every list promises."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import Calibration
from tests.factories import candidate, catalogue, event, joined, random_search
from worker import codec
from worker.events import Candidate, HistoryEntry, Item, RankedList, SearchEvent
from worker.ranking.join import JoinedSearch, Tables
from worker.ranking.model import TokenBudget
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

SEEDS = st.integers(0, 10_000)


def ranked(search: SearchEvent, tables: Tables | None = None, **dials: object) -> RankedList:
    return rerank([joined(search, tables, **dials)], Overlap())[0]


def ids(answer: RankedList) -> list[str]:
    return [item.item_id for item in answer.items]


@given(seed=SEEDS, count=st.integers(0, 30), k=st.none() | st.integers(1, 40), dial=st.floats(0, 1))
def test_a_list_names_every_candidate_once_or_says_why_not(
    seed: int, count: int, k: int | None, dial: float
) -> None:
    search = random_search(seed, count, k=k, diversity=dial)
    answer = ranked(search)
    assert len(set(ids(answer))) == len(answer.items) == min(count, k or count)
    assert set(ids(answer)) <= {one.item_id for one in search.candidates}
    assert [item.rank for item in answer.items] == list(range(1, len(answer.items) + 1))
    assert answer.candidate_count == count


@given(seed=SEEDS, count=st.integers(1, 30))
def test_a_dial_of_zero_is_the_order_by_relevance_then_engine_then_event(
    seed: int, count: int
) -> None:
    search = random_search(seed, count, diversity=0.0)
    answer = ranked(search)
    score = {one.item_id: one.score or 0.0 for one in search.candidates}
    place = {one.item_id: index for index, one in enumerate(search.candidates)}
    keys = [(-(i.relevance or 0.0), -score[i.item_id], place[i.item_id]) for i in answer.items]
    assert keys == sorted(keys)


@given(
    seeds=st.lists(SEEDS, min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    tokens=st.integers(1, 200),
    rows=st.integers(1, 9),
)
def test_lists_are_byte_equal_under_any_micro_batching(
    seeds: list[int], order: object, tokens: int, rows: int
) -> None:
    searches = [joined(random_search(seed, 8, query_id=f"q{n}")) for n, seed in enumerate(seeds)]
    alone = {s.event.query_id: codec.encode(rerank([s], Overlap())[0]) for s in searches}
    shuffled = list(searches)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    model = Overlap(cached_vectors=5)
    model.budget = TokenBudget(padded_tokens=tokens, rows=rows)
    together = rerank(shuffled, model)
    assert {a.query_id: codec.encode(a) for a in together} == alone


@given(seed=SEEDS, k=st.integers(1, 9), dial=st.floats(0, 1))
def test_pages_of_a_list_fit_together(seed: int, k: int, dial: float) -> None:
    pages = [
        ranked(random_search(seed, 20, k=k, offset=page * k, diversity=dial)) for page in range(20)
    ]
    shown = [item_id for page in pages for item_id in ids(page)]
    assert sorted(shown) == sorted(f"i{n}" for n in range(20))
    ranks = [item.rank for page in pages for item in page.items]
    assert ranks == list(range(1, 21))


def test_unknown_items_go_last_in_event_order_with_relevance_0() -> None:
    search = event([Candidate(item_id="x"), candidate("a"), Candidate(item_id="y"), candidate("b")])
    answer = ranked(search)
    assert ids(answer)[2:] == ["x", "y"]
    assert answer.unknown_items == ("x", "y")
    assert [item.relevance for item in answer.items][2:] == [0.0, 0.0]


def test_an_event_without_candidates_is_an_empty_list() -> None:
    answer = ranked(event())
    assert answer.items == ()
    assert not answer.degraded


def test_order_is_decided_on_the_raw_score_where_probabilities_are_saturated() -> None:
    class Sure(Overlap):
        calibration = Calibration(slope=1e4, intercept=-100.0, origin="a test")

    search = event(
        [candidate("half", title="shoes red"), candidate("whole", title="shoes")],
        user_query="shoes",
        diversity=0.0,
    )
    answer = rerank([joined(search)], Sure())[0]
    assert [item.relevance for item in answer.items] == [1.0, 1.0]
    assert ids(answer) == ["whole", "half"]


def test_an_empty_query_with_a_history_is_ranked_by_it() -> None:
    items = catalogue(Item(item_id="h", title="red boot"))
    search = event(
        [candidate("shoe", title="blue shoe", score=9.0), candidate("boot", title="red boot")],
        user_query=" ",
        history=(HistoryEntry(item_id="h"),),
    )
    answer = ranked(search, Tables(catalogue=items))
    assert ids(answer) == ["boot", "shoe"]
    assert not answer.degraded


def test_an_empty_query_without_a_history_keeps_the_engines_order() -> None:
    items = [candidate(n, score=s) for n, s in (("a", 1.0), ("b", 5.0), ("c", None), ("d", 1.0))]
    answer = ranked(event(items, user_query="", diversity=0.0))
    assert ids(answer) == ["b", "a", "d", "c"]
    assert not answer.degraded
    assert {item.relevance for item in answer.items} == {None}


def test_a_history_moves_what_the_user_likes_up_and_can_be_turned_off() -> None:
    items = catalogue(Item(item_id="h", title="acme wool coat"))
    search = event(
        [candidate("a", title="rain coat"), candidate("b", title="wool coat")],
        user_query="coat",
        history=(HistoryEntry(item_id="h"),),
        diversity=0.0,
    )
    tables = Tables(catalogue=items)
    assert ids(ranked(search, tables)) == ["b", "a"]
    without = msgspec.structs.replace(search, personalise=False)
    assert ids(ranked(without, tables)) == ["a", "b"]


@pytest.mark.parametrize(("weight", "expected"), [(0.0, ["a", "b"]), (1.0, ["b", "a"])])
def test_the_engines_weight_mixes_its_score_into_relevance(
    weight: float, expected: list[str]
) -> None:
    search = event(
        [candidate("a", title="running shoes", score=1.0), candidate("b", title="hat", score=2.0)],
        diversity=0.0,
    )
    assert ids(ranked(search, engine_weight=weight)) == expected


def test_an_engine_that_scores_nothing_has_no_weight() -> None:
    search = event([candidate("a", title="hat"), candidate("b", title="running shoes")])
    assert ids(ranked(search, engine_weight=1.0)) == ["b", "a"]


def test_a_taste_may_be_old() -> None:
    long_ago = HistoryEntry(item_id="h", timestamp=datetime(2020, 1, 1, tzinfo=UTC))
    search = event(
        [candidate("shoe", title="blue shoe", score=9.0), candidate("boot", title="red boot")],
        user_query="",
        timestamp=datetime(2026, 11, 24, tzinfo=UTC),
        history=(long_ago,),
        diversity=0.0,
    )
    tables = Tables(catalogue=catalogue(Item(item_id="h", title="red boot")))
    assert ids(ranked(search, tables)) == ["boot", "shoe"]


@pytest.mark.parametrize("scores", [(1e308, -1e308, 0.0), (5.0, 5.0, 5.0), (0.0, None, 1.0)])
def test_extreme_engine_scores_do_no_harm(scores: Sequence[float | None]) -> None:
    search = event([candidate(str(i), score=score) for i, score in enumerate(scores)])
    answer = ranked(search, engine_weight=0.5)
    assert all(0.0 <= (item.relevance or 0.0) <= 1.0 for item in answer.items)
    assert all(np.isfinite(item.gain or 0.0) for item in answer.items)


FALLBACKS = [
    ("the engine's score where all have one", [1.0, 3.0, 2.0], ["b", "c", "a"]),
    ("else the overlap of words", [1.0, None, 2.0], ["c", "a", "b"]),
]


@pytest.mark.parametrize(("scores", "expected"), [f[1:] for f in FALLBACKS])
def test_the_fallback_order(scores: list[float | None], expected: list[str]) -> None:
    titles = {"a": "shoes", "b": "hat", "c": "running shoes"}
    search = event(
        [candidate(n, title=titles[n], score=s) for n, s in zip("abc", scores, strict=True)],
        diversity=1.0,
    )
    answer = fall_back(joined(search), Overlap(), "deadline")
    assert ids(answer) == expected
    assert answer.degraded
    assert answer.reason == "deadline"
    assert answer.model is None
    assert {item.relevance for item in answer.items} == {None}


def test_without_any_hint_the_fallback_is_the_events_order() -> None:
    search = event([candidate(n, title="hat") for n in "bca"])
    assert ids(fall_back(joined(search), Overlap(), "deadline")) == ["b", "c", "a"]


def test_an_unnamed_category_is_told_by_the_names_of_the_others() -> None:
    tables = Tables(categories=("running shoes", "wool hats"))
    search = event(
        [
            candidate("a", title="shoes", category="running shoes"),
            candidate("b", title="running shoes red"),
            candidate("c", title="wool hats"),
        ],
        diversity=1.0,
    )
    answer = ranked(search, tables, method="coverage")
    assert ids(answer)[1] == "c"


def test_list_ids_tell_equal_answers_from_others() -> None:
    one, same, other = (ranked(random_search(seed, 10, query_id="q")) for seed in (1, 1, 2))
    assert one.list_id == same.list_id != other.list_id


def test_texts_are_encoded_once_and_remembered() -> None:
    seen: list[int] = []

    class Counting(Overlap):
        def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
            seen.append(len(texts))
            return super().tokenize(texts)

    model = Counting()
    run = functools.partial(rerank, model=model)
    searches: list[JoinedSearch] = [
        joined(event([candidate("a", title="hat"), candidate("b", title="hat")]))
    ]
    run(searches)
    run(searches)
    assert seen == [2]  # the query and one title
