"""Sponsored slots: the highest offer stands there, nobody else does, and no limit pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined, random_scores, rule
from worker.events import Candidate, RankedList
from worker.policies import Ads, ListLimit, Policy
from worker.ranking.ads import slots_of
from worker.ranking.diversify import METHODS, Diversified, diversify
from worker.ranking.diversify.limits import Limit
from worker.ranking.diversify.slots import ORDINARY, Slots
from worker.ranking.join import Tables
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

SEEDS = st.integers(0, 100_000)
DIALS = st.sampled_from([0.0, 0.3, 1.0])
METHOD = st.sampled_from(sorted(METHODS))
OFFERS = st.lists(
    st.sampled_from([ORDINARY, ORDINARY, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=16
)
UPTO = st.lists(st.sampled_from([0, 0, 1, 2, 3]), max_size=10)


def ranked(offers: list[float], upto: list[int], seed: int = 0, **more: Any) -> Diversified:
    scores = random_scores(seed, len(offers))
    assert scores.relevance is not None
    slots = Slots(np.array(offers), np.array(upto, dtype=np.int64))
    options: dict[str, Any] = {"method": "mmr", "dial": 0.0, "depth": len(offers), **more}
    return diversify(scores, scores.relevance, slots=slots, **options)


def by_hand(offers: Sequence[float], upto: Sequence[int]) -> list[int]:
    """The order by relevance, with slots: items are numbered by their relevance."""
    ordinary = [item for item, offer in enumerate(offers) if offer < 0]
    ads = [item for item, offer in enumerate(offers) if offer >= 0]
    order: list[int] = []
    while ordinary or ads:
        place = len(order)
        bidders = [item for item in ads if offers[item] > 0]
        shown = sum(offers[item] >= 0 for item in order)
        if ordinary and place < len(upto) and shown < upto[place] and bidders:
            winner = max(bidders, key=lambda item: (offers[item], -item))
            ads.remove(winner)
            order.append(winner)
        else:
            order.append((ordinary or ads).pop(0))
    return order


@given(offers=OFFERS, upto=UPTO, method=METHOD)
def test_at_dial_0_it_is_the_order_by_relevance_with_the_winners_in_their_slots(
    offers: list[float], upto: list[int], method: str
) -> None:
    assert ranked(offers, upto, method=method).order.tolist() == by_hand(offers, upto)


@given(offers=OFFERS, upto=UPTO, seed=SEEDS, dial=DIALS, method=METHOD)
def test_no_advertisement_stands_outside_the_slots_that_it_won(
    offers: list[float], upto: list[int], seed: int, dial: float, method: str
) -> None:
    order = ranked(offers, upto, seed, dial=dial, method=method).order.tolist()
    assert sorted(order) == list(range(len(offers)))
    won = Slots(np.array(offers), np.array(upto, dtype=np.int64)).won(order, ())
    last = max((place for place, item in enumerate(order) if offers[item] < 0), default=-1)
    above = [place for place, item in enumerate(order[: last + 1]) if offers[item] >= 0]
    assert set(above) <= set(won)
    assert all(upto[place] > number for number, place in enumerate(above))
    paid = [won[place] for place in above]
    assert paid == sorted(paid, reverse=True)


@given(offers=OFFERS, seed=SEEDS, dial=DIALS, method=METHOD, most=st.integers(1, 3), data=st.data())
def test_no_limit_pays_for_an_advertisement(
    offers: list[float], seed: int, dial: float, method: str, most: int, data: st.DataObject
) -> None:
    """What can be kept without any of them is kept with them."""
    brands = data.draw(st.lists(st.integers(0, 2), min_size=len(offers), max_size=len(offers)))
    ordinary = [brand for brand, offer in zip(brands, offers, strict=True) if offer < 0]
    room = sum(min(ordinary.count(brand), most) for brand in range(3))
    depth = max(1, min(6, room))
    least = min(ordinary[:depth].count(0), most, ordinary.count(0))
    cap = Limit("cap", brands, at_most=[most] * depth)
    quota = Limit(
        "quota",
        [0 if brand == 0 else -1 for brand in brands],
        at_least=[0] * (depth - 1) + [least],
    )
    found = ranked(
        offers, [3] * depth, seed, dial=dial, method=method, depth=depth, limits=[cap, quota]
    )
    assert found.relaxed == () or not room


@given(seed=SEEDS, dial=DIALS, method=METHOD)
def test_exchanges_leave_the_slots_alone(seed: int, dial: float, method: str) -> None:
    """Caps by brand and by seller that cross, and advertisements all over the pool."""
    chance = np.random.default_rng(seed)
    offers = np.where(chance.random(14) < 0.3, chance.random(14), ORDINARY)
    upto = [0, 1, 0, 0, 2, 0]
    limits = [
        Limit(name, chance.integers(0, 3, size=14).tolist(), at_most=[2] * 6) for name in "ab"
    ]
    order = ranked(
        offers.tolist(), upto, seed, dial=dial, method=method, depth=6, limits=limits
    ).order.tolist()
    slots = Slots(offers, np.array(upto))
    assert {place for place, item in enumerate(order) if offers[item] >= 0} <= (
        set(slots.won(order, ())) if (offers < 0).sum() >= 6 else set(range(6))
    )


ORGANIC = [candidate(f"o{n}", title="running shoes " + "new " * n, brand="A") for n in range(6)]
SPONSORED = [
    candidate("rich", title="lamp", sponsored=True, bid=9.0, ad_id="ad-1"),
    candidate("fit", title="running shoes", sponsored=True, bid=0.5),
    candidate("poor", title="running shoes", sponsored=True, bid=0.1),
    candidate("free", title="running shoes", sponsored=True),
]


def page(ads: Ads | None, items: Sequence[Candidate] = (*ORGANIC, *SPONSORED), **more: Any) -> Any:
    limits = more.pop("limits", ())
    rules = more.pop("rules", {})
    policy = Policy(policy_id="p", ads=ads, limits=limits, diversity=0.0)
    tables = Tables(policies={"p": policy}, rules=rules)
    return joined(event(items, policy="p", **more), tables)


def ids(found: RankedList) -> list[str]:
    return [item.item_id for item in found.items]


def shown(ads: Ads | None, **more: Any) -> RankedList:
    return rerank([page(ads, **more)], Overlap())[0]


def test_a_policy_gives_slots_to_the_highest_bid_times_relevance_above_its_floor() -> None:
    found = shown(Ads(slots=(1, 4), floor=0.6), k=6)
    assert ids(found) == ["fit", "o0", "o1", "poor", "o2", "o3"]
    first = found.items[0]
    assert first.relevance is not None
    assert first.why.offer == pytest.approx(0.5 * first.relevance, abs=1e-4)
    assert (first.sponsored, found.items[1].why.offer) == (True, None)


def test_without_a_floor_money_is_enough_and_what_bids_nothing_wins_nothing() -> None:
    found = shown(Ads(slots=(1, 2, 3, 4)))
    assert ids(found)[:4] == ["rich", "fit", "poor", "o0"]
    assert ids(found)[-1] == "free"


def test_those_that_win_no_slot_stand_below_all_others_and_none_is_lost() -> None:
    found = shown(Ads(slots=(2,), floor=0.6))
    assert ids(found)[:2] == ["o0", "fit"]
    assert set(ids(found)[-3:]) == {"rich", "poor", "free"}
    assert len(found.items) == 10


def test_each_page_has_its_share() -> None:
    ads = Ads(slots=(1, 2, 4, 5), share_at_most=0.34)
    both = shown(ads, k=6)
    first, second = shown(ads, k=3), shown(ads, k=3, offset=3)
    assert [item.item_id for item in first.items if item.sponsored] == ["rich"]
    assert [item.item_id for item in second.items if item.sponsored] == ["fit"]
    assert [item.item_id for item in both.items if item.sponsored] == ["rich", "fit"]


def test_an_advertisement_breaks_no_limit() -> None:
    one = ListLimit(limit_id="one", field="brand", value="L", at_most=0)
    lamp = candidate("lamp", title="lamp", brand="L", sponsored=True, bid=9.0)
    found = shown(Ads(slots=(1,)), items=[*ORGANIC, lamp], k=6, limits=(one,))
    assert (ids(found), found.limits_relaxed) == ([f"o{n}" for n in range(6)], ())


def test_a_rule_goes_before_the_auction() -> None:
    pin = rule("pin", "pin", "poor", position=1)
    block = rule("block", "block", "rich")
    found = shown(Ads(slots=(1, 2), share_at_most=0.25), k=6, rules={"a": pin, "b": block})
    assert ids(found)[0] == "poor"
    assert [item.why.offer for item in found.items] == [None] * 6, "the pinned one takes the share"
    assert "rich" not in ids(shown(Ads(slots=(1, 2)), rules={"b": block}))


def test_a_degraded_list_shows_whom_no_floor_keeps_out() -> None:
    weak = fall_back(page(Ads(slots=(1,))), Overlap(), "deadline")
    assert (ids(weak)[0], weak.items[0].why.offer) == ("rich", 9.0)
    floored = fall_back(page(Ads(slots=(1,), floor=0.6), k=6), Overlap(), "deadline")
    assert not any(item.sponsored for item in floored.items)


def test_exploration_moves_no_advertisement() -> None:
    ads = Ads(slots=(2, 4))
    for number in range(20):
        policy = Policy(policy_id="p", ads=ads, explore=1.0, diversity=0.0)
        search = joined(
            event([*ORGANIC, *SPONSORED], query_id=f"q{number}", k=6, policy="p"),
            Tables(policies={"p": policy}),
        )
        found = rerank([search], Overlap())[0]
        assert [item.rank for item in found.items if item.sponsored] == [2, 4]


def test_without_an_auction_sponsored_candidates_rank_like_all_others() -> None:
    search = page(None)
    assert slots_of(search, [entry.item for entry in search.entries], None, 10).offers.size == 0
    assert ids(shown(None))[:4] == ["o0", "fit", "poor", "free"]
