"""The second stage: the pair model reads the best, and one calibrated order comes of both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import Calibration, Curve, Template
from export.domain import Domain, fit_normal
from export.template import PAST_CHARS
from tests.factories import PairOverlap, candidate, catalogue, event, joined, random_search
from worker import codec
from worker.events import HistoryEntry, Item, RankedItem, RankedList, SearchEvent
from worker.ranking.join import Tables
from worker.ranking.judge import first_stage
from worker.ranking.model import TokenBudget
from worker.ranking.pairs import evidence, pair_count
from worker.ranking.rerank import fall_back, needed, read, rerank
from worker.ranking.text import pair_texts
from worker.scoring.overlap import Overlap

SEEDS = st.integers(0, 10_000)


def ranked(search: SearchEvent, model: PairOverlap | None = None, **dials: Any) -> RankedList:
    tables = dials.pop("tables", None)
    return rerank([joined(search, tables, **dials)], model or PairOverlap())[0]


def by_id(answer: RankedList) -> dict[str, RankedItem]:
    return {item.item_id: item for item in answer.items}


def logit(item: RankedItem) -> float:
    assert item.relevance is not None
    return math.log(item.relevance / (1.0 - item.relevance))


@given(
    seeds=st.lists(SEEDS, min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
    tokens=st.integers(1, 200),
    rows=st.integers(1, 9),
    most=st.integers(0, 9),
)
def test_lists_are_byte_equal_under_any_micro_batching(
    seeds: list[int], order: Any, tokens: int, rows: int, most: int
) -> None:
    searches = [
        joined(random_search(seed, 8, query_id=f"q{n}"), pair_candidates=most, explore=0.5)
        for n, seed in enumerate(seeds)
    ]
    weights: dict[str, Any] = {"cosine": 0.7, "engine": 0.3}
    alone = {
        s.event.query_id: codec.encode(rerank([s], PairOverlap(**weights))[0]) for s in searches
    }
    shuffled = list(searches)
    order.shuffle(shuffled)
    model = PairOverlap(cached_vectors=5, **weights)
    model.budget = TokenBudget(padded_tokens=tokens, rows=rows)
    assert {a.query_id: codec.encode(a) for a in rerank(shuffled, model)} == alone


@given(SEEDS, st.integers(0, 12), st.integers(0, 14))
def test_the_list_says_how_many_pairs_were_read(seed: int, count: int, most: int) -> None:
    search = random_search(seed, count)
    assert ranked(search, pair_candidates=most).pair_count == min(count, most)


@given(SEEDS, st.integers(1, 11))
def test_the_pair_model_reads_the_best_of_the_first_stage_and_the_rest_keep_their_logit(
    seed: int, most: int
) -> None:
    search = random_search(seed, 12, diversity=0.0)
    first = ranked(search, pair_candidates=0)
    both = by_id(ranked(search, pair_candidates=most))
    model = PairOverlap(intercept=50.0)  # whoever is read stands out
    read_ = {
        n
        for n, one in by_id(ranked(search, model, pair_candidates=most)).items()
        if one.rank <= most
    }
    assert read_ == {one.item_id for one in first.items[:most]}
    for one in first.items[most:]:
        assert both[one.item_id].relevance == one.relevance


def test_the_pair_model_orders_what_the_cosine_cannot_tell() -> None:
    search = event(
        [candidate("long", title="running shoes red coat"), candidate("short", title="shoes")],
        diversity=0.0,
    )
    first = ranked(search, pair_candidates=0)
    assert [one.item_id for one in first.items] == ["long", "short"]
    assert first.items[0].relevance == first.items[1].relevance
    both = ranked(search)
    assert [one.item_id for one in both.items] == ["short", "long"]
    assert logit(by_id(both)["short"]) == pytest.approx(-1 / 2, abs=1e-3)
    assert logit(by_id(both)["long"]) == pytest.approx(-3 / 5, abs=1e-3)


def test_a_blend_may_go_by_the_cosine() -> None:
    search = event(
        [candidate("a", title="red shoes coat"), candidate("b", title="running shoes hat")],
        diversity=0.0,
    )
    found = ranked(search, PairOverlap(pair=1e-9, cosine=3.0, intercept=-1.0))
    for item, cosine in zip(found.items, (2 / 6**0.5, 1 / 6**0.5), strict=True):
        assert logit(item) == pytest.approx(3.0 * cosine - 1.0, abs=1e-3)


def test_engine_and_features_are_blended_and_what_is_missing_adds_nothing() -> None:
    items = [
        candidate("all", title="shoes", score=4.0, features={"ctr": 1.0, "noise": 9.0}),
        candidate("low", title="shoes", score=2.0, features={"ctr": 0.0}),
        candidate("none", title="shoes"),
    ]
    model = PairOverlap(
        engine=2.0, features={"ctr": Curve(knots=(0.0, 1.0), weight=3.0)}, intercept=0.25
    )
    found = by_id(ranked(event(items, diversity=0.0), model))
    alone = -0.5 + 0.25
    assert logit(found["none"]) == pytest.approx(alone, abs=1e-3)
    assert logit(found["all"]) == pytest.approx(alone + 1.0 + 1.5, abs=2e-3)
    assert logit(found["low"]) == pytest.approx(alone - 1.0 - 1.5, abs=2e-3)


@pytest.mark.parametrize("scores", [(None, None), (3.0, 3.0)], ids=["none", "all the same"])
def test_an_engine_that_tells_nothing_apart_adds_nothing(scores: tuple[float | None, ...]) -> None:
    items = [candidate(str(n), title="shoes", score=one) for n, one in enumerate(scores)]
    found = ranked(event(items), PairOverlap(engine=5.0))
    assert {one.relevance for one in found.items} == {round(1 / (1 + math.exp(0.5)), 4)}


def test_evidence_is_what_training_fits_the_blend_to() -> None:
    search = joined(
        event(
            [
                candidate("a", title="shoes", score=1.0, features={"ctr": 0.5}),
                candidate("b", title="hat"),
                candidate("c", title="running shoes", score=3.0),
            ]
        )
    )
    model = Overlap()
    readings = read(needed([search], model), model)
    found = evidence(search, first_stage(search, readings, model), [2, 0, 1], ["ctr"])
    assert found.cosine == pytest.approx([1.0, 0.5**0.5, 0.0], abs=1e-6)
    assert found.engine_share.tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(found.features["ctr"]).tolist() == [True, False, True]


def test_a_taste_moves_both_stages_as_far() -> None:
    items = [candidate("a", title="rain coat"), candidate("b", title="wool coat")]
    search = event(items, user_query="coat", history=(HistoryEntry(item_id="h"),), diversity=0.0)
    tables = Tables(catalogue=catalogue(Item(item_id="h", title="acme wool coat")))
    moved = []
    for most in (0, 2):
        with_taste = by_id(ranked(search, tables=tables, pair_candidates=most))
        without = by_id(ranked(search, pair_candidates=most))
        moved.append([logit(with_taste[name]) - logit(without[name]) for name in "ab"])
    assert moved[0] == pytest.approx(moved[1], abs=2e-3)
    assert moved[0][0] < 0.0 < moved[0][1]


@pytest.mark.parametrize("query", ["", "  "])
def test_an_empty_query_has_no_pairs(query: str) -> None:
    search = event([candidate("a"), candidate("b")], user_query=query)
    model = PairOverlap()
    assert ranked(search, model).pair_count == pair_count(joined(search), model) == 0
    assert model.calls == 0


@pytest.mark.parametrize(
    ("most", "personalise", "expected"),
    [
        (0, None, "red shoe"),
        (1, None, "red shoe > wool hat"),
        (3, None, "red shoe > wool hat > rain coat"),
        (3, False, "red shoe"),
    ],
)
def test_a_pair_tells_what_the_user_acted_on_what_tells_most_first(
    most: int, personalise: bool | None, expected: str
) -> None:
    known = {"a": "rain coat", "b": "wool hat", "c": " "}
    items = {item_id: Item(item_id=item_id, title=title) for item_id, title in known.items()}
    done = [("a", "click"), ("b", "purchase"), ("c", "purchase"), ("unknown", "purchase")]
    entries = tuple(HistoryEntry(item_id=item_id, action_name=name) for item_id, name in done)
    search = joined(
        event(
            [candidate("i", title="boot")],
            user_query="red shoe",
            history=entries,
            personalise=personalise,
        ),
        Tables(catalogue=items),
    )
    template = Template(history=most, history_before=" > ")
    assert pair_texts(search, [0], template) == [(expected, "boot")]


def test_of_what_the_user_acted_on_no_more_is_told_than_leaves_room_for_the_item() -> None:
    past = [{"title": "x" * 1000}] * 9
    assert Template(history=1).asked("boots", past) == "boots | " + "x" * PAST_CHARS
    assert Template(history=5).asked("boots", past).count("x") == PAST_CHARS


def test_a_model_without_pairs_reads_none() -> None:
    search = joined(random_search(1, 5))
    assert rerank([search], Overlap())[0].pair_count == pair_count(search, Overlap()) == 0


def test_the_fallback_order_reads_no_pairs() -> None:
    assert fall_back(joined(random_search(1, 5)), Overlap(), "deadline").pair_count == 0


def test_pairs_of_many_searches_share_batches() -> None:
    searches = [joined(random_search(seed, 10)) for seed in range(6)]
    model = PairOverlap()
    rerank(searches, model)
    assert model.calls == 1


def test_no_searches_are_no_lists() -> None:
    assert rerank([], PairOverlap()) == ()


@given(SEEDS, st.integers(1, 9), st.integers(0, 12))
def test_pages_of_a_list_fit_together(seed: int, k: int, most: int) -> None:
    pages = [
        ranked(random_search(seed, 12, k=k, offset=page * k), pair_candidates=most, explore=1.0)
        for page in range(12)
    ]
    shown = [item.item_id for page in pages for item in page.items]
    assert sorted(shown) == sorted(f"i{n}" for n in range(12))


@pytest.mark.parametrize("most", [0, 3])
def test_ties_go_by_engine_score_then_position(most: int) -> None:
    items = [candidate(n, title="shoes", score=s) for n, s in (("a", None), ("b", 1.0), ("c", 1.0))]
    model = PairOverlap(pair=1e-12, cosine=1.0)
    found = ranked(event(items, diversity=0.0), model, pair_candidates=most)
    assert [one.item_id for one in found.items] == ["b", "c", "a"]


BEYOND = Calibration(slope=3.0, intercept=-1.0, origin="a test")


def far_reaching(near: float, far: float) -> PairOverlap:
    """A two-stage model that learned from shoes."""
    titles = ["running shoes", "red shoes", "trail shoes", "walking shoes red"]
    plain = Overlap()
    items = [joined(event([candidate(title, title=title)])) for title in titles]
    readings = read(needed(items, plain), plain)
    normal = fit_normal(np.stack([readings[title].vector for title in titles]))
    return PairOverlap(domain=Domain(normal, near, far), beyond=BEYOND)


@given(SEEDS, st.floats(0, 40), st.floats(0, 40))
def test_the_pair_models_word_counts_as_far_as_the_list_says(
    seed: int, one: float, other: float
) -> None:
    search = random_search(seed, 8, diversity=0.0)
    near, far = sorted((one, other))
    trained, found = by_id(ranked(search)), ranked(search, far_reaching(near, far))
    untrained = Overlap()
    untrained.calibration = BEYOND
    base = by_id(rerank([joined(search)], untrained)[0])
    share = found.pair_share
    assert found.pair_count in ((0, 8) if share == 0.0 else (8,))
    for item_id, item in by_id(found).items():
        mixed = share * logit(trained[item_id]) + (1.0 - share) * logit(base[item_id])
        assert logit(item) == pytest.approx(mixed, abs=5e-3)


def test_where_it_has_no_word_it_reads_nothing_and_the_base_model_stands() -> None:
    search = random_search(4, 8)
    model = far_reaching(0.0, 0.0)
    found = ranked(search, model)
    assert (found.pair_count, found.pair_share, model.calls) == (0, 0.0, 0)
    untrained = Overlap()
    untrained.calibration = BEYOND
    assert found.items == rerank([joined(search)], untrained)[0].items


def test_a_model_without_a_domain_has_its_full_word() -> None:
    found = ranked(random_search(4, 8))
    assert (found.pair_count, found.pair_share) == (8, 1.0)
    assert ranked(random_search(4, 8), pair_candidates=0).pair_share == 0.0
