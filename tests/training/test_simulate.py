"""Simulated visits: the truth in them is the one that was asked for, and they repeat themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import candidate, event
from training.judgments import GradedQuery
from training.simulate import (
    Rank,
    Served,
    SimulateSettings,
    Source,
    ranker,
    simulate,
)
from training.visitors import BadCatalogue, Graded, Shopping, read_items
from worker import codec
from worker.events import Behaviour, RankedList, SearchEvent
from worker.ranking.join import Dials, Tables, join
from worker.scoring.overlap import Overlap
from worker.shop.catalogue import generate

GRADES = (1.0, 0.0, 2 / 3, 1 / 3)
ITEMS = 14


def graded(number: int, grades: Sequence[float] = GRADES) -> GradedQuery:
    """A query over `ITEMS` candidates, whose grades go round."""
    items = [candidate(f"{number}-{n}", title=f"red shoe x{n}") for n in range(ITEMS)]
    search = event(items, query_id=f"k-{number}", user_query=f"shoes {number}")
    return GradedQuery(search, tuple(grades[n % len(grades)] for n in range(ITEMS)))


Make = Callable[[SimulateSettings], list[Served]]
QUERIES = [graded(n) for n in range(12)]


def plain(**changed: object) -> SimulateSettings:
    return msgspec.convert({"visits": 300, "users": 20, **changed}, SimulateSettings)


def by_overlap(source: Source) -> Rank:
    return ranker(Overlap(), source.catalogue, Dials(diversity=0.0))


def served(chosen: SimulateSettings, first: int = 0) -> list[Served]:
    source = Graded(QUERIES, chosen)
    return list(simulate(source, by_overlap(source), chosen, first))


def shopped(chosen: SimulateSettings) -> list[Served]:
    source = Shopping(generate(items=300), chosen)
    return list(simulate(source, by_overlap(source), chosen))


def done(one: Served, action: str) -> list[Behaviour]:
    return [behaviour for behaviour in one.behaviours if behaviour.action_name == action]


def place(behaviour: Behaviour) -> int:
    position = behaviour.event_attributes.position
    assert position is not None
    assert position.ordinal is not None
    return int(position.ordinal)


@pytest.mark.parametrize("make", [served, shopped])
def test_a_seed_gives_one_round(make: Make) -> None:
    chosen = plain(visits=60, bots=0.1, duplicates=0.1)
    assert make(chosen) == make(chosen)
    assert make(chosen) != make(plain(visits=60, bots=0.1, duplicates=0.1, seed=1))


@given(first=st.integers(0, 200), visits=st.integers(0, 90))
@settings(max_examples=20, deadline=None)
def test_a_later_round_goes_on_where_the_one_before_ended(first: int, visits: int) -> None:
    whole = served(plain(visits=290))
    assert served(plain(visits=visits), first) == whole[first : first + visits]


@pytest.mark.parametrize("make", [served, shopped])
def test_nobody_acts_on_what_was_not_shown(make: Make) -> None:
    for one in make(plain(visits=100, page=5, bots=0.2)):
        shown = [item.item_id for item in one.ranked.items]
        assert len(shown) == 5 < len(one.search.candidates)
        assert [item.rank for item in one.ranked.items] == [1, 2, 3, 4, 5]
        for behaviour in one.behaviours:
            told = behaviour.event_attributes
            assert told.object is not None
            assert told.object.object_id == shown[place(behaviour) - 1]
            assert (behaviour.query_id, told.list_id) == (one.search.query_id, one.ranked.list_id)
            assert behaviour.user_id == one.search.user_id == one.ranked.user_id


def test_clicks_come_as_often_as_a_place_is_looked_at_and_the_item_attracts() -> None:
    chosen = plain(visits=6_000, page=4, noise=0.1, most=0.9, dwell=False, impressions=False)
    attraction = {1.0: 0.9, 0.0: 0.1, 2 / 3: 0.1 + 0.8 * 2 / 3, 1 / 3: 0.1 + 0.8 / 3}
    shown: Counter[tuple[int, float]] = Counter()
    clicked: Counter[tuple[int, float]] = Counter()
    gains = {item: gain for query in QUERIES for item, gain in query.gains().items()}
    for one in served(chosen):
        here = [gains[item.item_id] for item in one.ranked.items]
        shown.update(enumerate(here, start=1))
        clicked.update((place(click), here[place(click) - 1]) for click in done(one, "click"))
    assert len(shown) > 4  # exploration mixes grades over places
    for (position, grade), times in shown.items():
        expected = attraction[grade] / position
        assert clicked[position, grade] / times == pytest.approx(expected, abs=3.5 / times**0.5)


def test_the_same_item_is_clicked_less_further_down() -> None:
    def clicks(backwards: bool) -> int:
        def rank(searches: Sequence[SearchEvent]) -> Sequence[RankedList]:
            step = -1 if backwards else 1
            return by_overlap(source)(
                [
                    msgspec.structs.replace(search, candidates=search.candidates[::step])
                    for search in searches
                ]
            )

        chosen = plain(visits=1_000, page=ITEMS, explore=0.0)
        source = Graded([graded(0)], chosen)
        found = simulate(source, rank, chosen)
        return sum(
            click.event_attributes.object.object_id == "0-0"  # type: ignore[union-attr]
            for one in found
            for click in done(one, "click")
        )

    assert clicks(backwards=True) < clicks(backwards=False) / 4


def test_each_query_is_ranked_once_and_shown_in_many_ways() -> None:
    asked: list[str] = []

    def rank(searches: Sequence[SearchEvent]) -> Sequence[RankedList]:
        asked.extend(search.user_query for search in searches)
        return by_overlap(source)(searches)

    chosen = plain(explore=0.5)
    source = Graded(QUERIES, chosen)
    ways: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for one in simulate(source, rank, chosen):
        ways[one.search.user_query].add(tuple(item.item_id for item in one.ranked.items))
    assert sorted(asked) == sorted(query.event.user_query for query in QUERIES)
    assert all(len(orders) > 3 for orders in ways.values())


def test_without_exploration_every_list_is_the_models_and_certain() -> None:
    source = Graded(QUERIES, plain())
    rank = by_overlap(source)
    for one in served(plain(explore=0.0, visits=50)):
        (base,) = rank([one.search])
        assert one.ranked.items == base.items
        assert {item.shown_probability for item in one.ranked.items} == {1.0}
        assert one.ranked.list_id == base.list_id == codec.list_id(one.ranked)


def test_visits_follow_each_other_at_the_rate_that_was_asked_for() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    found = served(plain(start=start.isoformat(), visits_per_day=100.0, visits=200))
    times = [one.search.timestamp for one in found]
    assert times == sorted(times, key=lambda time: time or start)
    assert start <= (times[0] or start)
    assert start + timedelta(days=1.98) < (times[-1] or start) < start + timedelta(days=2)
    for one in found:
        assert one.search.timestamp is not None
        assert one.ranked.timestamp is not None
        moments = [behaviour.timestamp for behaviour in one.behaviours if behaviour.timestamp]
        assert one.search.timestamp < one.ranked.timestamp < moments[0]
        assert moments == sorted(moments)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_popular_queries_are_asked_by_a_zipf_law(exponent: float) -> None:
    chosen = plain(visits=4_000, popularity=exponent, impressions=False)
    counted = Counter(one.search.user_query for one in served(chosen))
    weights = [rank**-exponent for rank in range(1, len(QUERIES) + 1)]
    found = [count for _, count in counted.most_common()]
    expected = [4_000 * weight / sum(weights) for weight in weights]
    assert found == pytest.approx(expected, abs=4 * 4_000**0.5 / 2)


def test_what_is_sent_by_id_alone_is_joined_to_what_was_judged() -> None:
    shared = candidate("same", title="a shoe", description="of leather")
    other = candidate("same", title="another shoe")
    queries = [
        GradedQuery(event([shared], query_id="k-1", user_query="one"), (1.0,)),
        GradedQuery(event([other], query_id="k-2", user_query="two"), (0.0,)),
    ]
    source = Graded(queries, plain())
    judged = {query.event.user_query: query.event.candidates for query in queries}
    for n in range(20):
        asked = source.ask(n).search
        joined = join(asked, Tables(catalogue=source.catalogue), Dials())
        (entry,) = joined.entries
        (expected,) = judged[asked.user_query]
        assert entry.item.title == expected.title
        assert entry.item.description == expected.description


def test_a_bad_line_of_a_catalogue_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id": "a", "title": "shoe"}\n\n{"item_id": 5}\n')
    items = read_items(file)
    assert next(items).title == "shoe"
    with pytest.raises(BadCatalogue, match=r"items\.jsonl:3: \$\.item_id: expected .*got 5"):
        next(items)


@pytest.mark.parametrize(("name", "why"), [("none.jsonl", "No such file"), ("", "Is a directory")])
def test_a_catalogue_that_is_no_file_is_named(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(BadCatalogue, match=f"{tmp_path / name}: {why}"):
        list(read_items(tmp_path / name))


def test_a_shopper_carries_what_they_did_before() -> None:
    found = shopped(plain(visits=400, users=3))
    early, late = found[0], found[-1]
    assert early.search.history is not None
    assert late.search.history is not None
    told = {
        behaviour.event_attributes.object.object_id
        for one in found[:300]
        if one.search.user_id == late.search.user_id
        for behaviour in done(one, "click")
        if behaviour.event_attributes.object
    }
    assert told & {entry.item_id for entry in late.search.history}


def test_a_shops_needs_drift_with_the_days() -> None:
    chosen = plain(visits=400, visits_per_day=100.0, period_days=2.0, trending=0.5)
    still = shopped(plain(visits=400, visits_per_day=100.0, period_days=2.0))
    differ = [
        one.search.user_query != before.search.user_query
        for one, before in zip(shopped(chosen), still, strict=True)
    ]
    assert not any(differ[:200])
    assert sum(differ[200:]) == pytest.approx(100, abs=30)


def test_bots_and_copies_reach_the_logs() -> None:
    found = served(plain(bots=0.3, duplicates=0.5, impressions=False))
    bots = [one for one in found if (one.search.user_id or "").startswith("bot-")]
    assert len(bots) / len(found) == pytest.approx(0.3, abs=0.1)
    assert all({place(click) for click in done(one, "click")} == set(range(1, 11)) for one in bots)
    told = [codec.encode(behaviour) for one in found for behaviour in one.behaviours]
    assert len(told) / len(set(told)) == pytest.approx(1.5, abs=0.1)
