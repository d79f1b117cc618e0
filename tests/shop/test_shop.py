"""The simulated shop as a whole: it repeats itself for a seed, and its truth is a truth."""

from dataclasses import replace
from datetime import UTC, datetime
from statistics import fmean

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.events import Item
from worker.ranking.join import Dials, Tables, join
from worker.ranking.metrics import ndcg
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap
from worker.shop.catalogue import generate
from worker.shop.engine import FEWEST, MOST
from worker.shop.visits import Shop, Visit, history

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = generate(items=1_000)
SHOP = Shop(CATALOGUE, users=20)

numbers = st.integers(0, 10_000)


def ids(visit: Visit) -> list[str]:
    return [candidate.item_id for candidate in visit.event.candidates]


def mean_ndcg(with_past: bool, visits: int = 60) -> float:
    """What the weak ranker reaches, with or without the users' past."""
    model, found = Overlap(), []
    for n in range(visits):
        visit = SHOP.visit(n, NOW)
        past = history(SHOP.past(visit.user, NOW)) if with_past else ()
        event = msgspec.structs.replace(visit.event, history=past)
        joined = join(event, Tables(catalogue=CATALOGUE), Dials(diversity=0.0))
        (ranked,) = rerank((joined,), model)
        found.append(ndcg([SHOP.relevance(visit, item.item_id) for item in ranked.items]))
    return fmean(found)


@given(numbers)
@settings(max_examples=30, deadline=None)
def test_the_same_seed_gives_the_same_visit_and_the_same_clicks(n: int) -> None:
    again = Shop(CATALOGUE, users=20)
    visit = SHOP.visit(n, NOW)
    assert again.visit(n, NOW) == visit
    shown = ids(visit)[:20]
    assert again.react(visit, shown, "l", NOW) == SHOP.react(visit, shown, "l", NOW)
    assert again.past(visit.user, NOW) == SHOP.past(visit.user, NOW)


def test_another_seed_gives_other_visits() -> None:
    other = Shop(CATALOGUE, seed=1, users=20)
    assert [ids(other.visit(n, NOW)) for n in range(5)] != [
        ids(SHOP.visit(n, NOW)) for n in range(5)
    ]


@given(numbers)
@settings(deadline=None)
def test_candidates_are_known_items_each_once_best_first(n: int) -> None:
    visit = SHOP.visit(n, NOW)
    scores = [candidate.score or 0.0 for candidate in visit.event.candidates]
    assert FEWEST <= len(scores) <= MOST
    assert len(set(ids(visit))) == len(scores)
    assert set(ids(visit)) <= CATALOGUE.keys()
    assert scores == sorted(scores, reverse=True)


@given(numbers)
@settings(deadline=None)
def test_truth_lies_between_zero_and_one(n: int) -> None:
    visit = SHOP.visit(n, NOW)
    assert all(0.0 <= SHOP.relevance(visit, item_id) <= 1.0 for item_id in ids(visit))


@given(numbers)
@settings(deadline=None)
def test_behaviour_names_the_list_and_the_place_where_the_item_stood(n: int) -> None:
    visit = SHOP.visit(n, NOW)
    shown = ids(visit)[:20]
    for done in SHOP.react(visit, shown, "l", NOW):
        told = done.event_attributes
        assert told.object is not None
        assert told.position is not None
        assert told.position.ordinal is not None
        assert shown[int(told.position.ordinal) - 1] == told.object.object_id
        assert (told.list_id, done.query_id) == ("l", visit.event.query_id)


def test_impressions_name_every_item_that_was_shown() -> None:
    visit = SHOP.visit(0, NOW)
    done = SHOP.impressions(visit, ids(visit)[:5], "l", NOW)
    assert [event.action_name for event in done] == ["impression"] * 5


def test_what_was_asked_for_comes_before_taste() -> None:
    visit = SHOP.visit(0, NOW)
    asked = next(iter(visit.intent.categories))
    loved = replace(visit.user, categories=frozenset({"elsewhere"}), brands=frozenset({"Loved"}))
    catalogue = {
        "asked": Item(item_id="asked", title="x", category=asked),
        "loved": Item(item_id="loved", title="x", category="elsewhere", brand="Loved"),
    }
    shop = Shop(catalogue, users=1)
    meant = replace(visit.intent, categories=frozenset({asked}), brand=None, trait=None)
    other = Visit(loved, meant, visit.event)
    assert shop.relevance(other, "asked") > shop.relevance(other, "loved")


def test_a_past_is_to_the_users_taste() -> None:
    for user in SHOP.users:
        chosen = {entry.item_id for entry in history(SHOP.past(user, NOW))}
        own = [item for item in CATALOGUE.values() if item.category in user.categories]
        taste = fmean(SHOP.market.taste(user, CATALOGUE[item_id]) for item_id in chosen)
        assert taste > fmean(SHOP.market.taste(user, item) for item in own)


def test_a_past_lies_before_now_oldest_first() -> None:
    times = [done.timestamp for done in SHOP.past(SHOP.users[0], NOW) if done.timestamp]
    assert times == sorted(times)
    assert times[-1] < NOW


def test_knowing_the_past_makes_lists_better() -> None:
    assert mean_ndcg(with_past=True) > mean_ndcg(with_past=False) + 0.03


BARE = {
    "no categories": [Item(item_id=f"i-{n}", title=f"green tea {n}") for n in range(30)],
    "no attributes": [
        Item(item_id=f"i-{n}", title=f"Acme tea {n}", category="tea", brand="Acme", price=n)
        for n in range(30)
    ],
    "no titles": [Item(item_id=f"i-{n}", category="tea") for n in range(30)],
    "a single item": [Item(item_id="i-0", title="green tea", category="tea")],
}


@pytest.mark.parametrize("items", BARE.values(), ids=BARE.keys())
def test_any_catalogue_makes_a_shop(items: list[Item]) -> None:
    shop = Shop({item.item_id: item for item in items}, users=3)
    for n in range(20):
        visit = shop.visit(n, NOW)
        assert set(ids(visit)) <= {item.item_id for item in items}
        shown = ids(visit)
        assert all(0.0 <= shop.relevance(visit, item_id) <= 1.0 for item_id in shown)
        shop.react(visit, shown, None, NOW)
        shop.past(visit.user, NOW)
