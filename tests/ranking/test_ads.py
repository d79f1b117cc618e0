"""Sponsored slots: the highest offer stands there, nobody else does, and no limit pays for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
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


@st.composite
def auctions(draw: st.DrawFn, most: int = 3) -> Slots:
    offers = draw(OFFERS)
    places = draw(st.lists(st.integers(0, 1), max_size=10))
    page = draw(st.integers(1, len(offers)))
    slots = np.array(places[: len(offers)], dtype=np.int64)
    return Slots(np.array(offers), slots, page, draw(st.integers(0, most)))


def ranked(slots: Slots, seed: int = 0, **more: Any) -> Diversified:
    count = len(slots.offers)
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    options: dict[str, Any] = {"method": "mmr", "dial": 0.0, "depth": count, **more}
    return diversify(scores, scores.relevance, slots=slots, **options)


def by_hand(slots: Slots) -> tuple[list[int], set[int]]:
    """The order by relevance with its winners, and their places; item 0 is the most relevant."""
    offers = slots.offers.tolist()
    ordinary = [item for item, offer in enumerate(offers) if offer < 0]
    ads = [item for item, offer in enumerate(offers) if offer >= 0]
    order: list[int] = []
    won: set[int] = set()
    while ordinary or ads:
        place = len(order)
        bidders = [item for item in ads if offers[item] > 0]
        open_ = place < len(slots.places) and slots.places[place] == 1
        of_page = [other for other in won if other // slots.page == place // slots.page]
        if bidders and open_ and len(of_page) < slots.most:
            order.append(max(bidders, key=lambda item: (offers[item], -item)))
            ads.remove(order[-1])
            won.add(place)
        else:
            order.append((ordinary or ads).pop(0))
    return order, won


@given(slots=auctions(), method=METHOD)
def test_at_dial_0_it_is_the_order_by_relevance_with_the_winners_in_their_slots(
    slots: Slots, method: str
) -> None:
    found = ranked(slots, method=method)
    assert (found.order.tolist(), set(found.won)) == by_hand(slots)


@given(slots=auctions(), seed=SEEDS, dial=DIALS, method=METHOD)
def test_no_advertisement_stands_outside_the_slots_that_it_won(
    slots: Slots, seed: int, dial: float, method: str
) -> None:
    found = ranked(slots, seed, dial=dial, method=method)
    offers = slots.offers[found.order]
    assert sorted(found.order.tolist()) == list(range(len(offers)))
    last = max(np.flatnonzero(offers < 0), default=-1)
    above = set(np.flatnonzero(offers[: last + 1] >= 0).tolist())
    assert above == {place for place in found.won if place <= last}
    assert all(slots.places[place] == 1 for place in found.won)
    assert (
        max(Counter(place // slots.page for place in found.won).values(), default=0) <= slots.most
    )
    paid = [float(offers[place]) for place in sorted(found.won)]
    assert paid == sorted(paid, reverse=True)


def crossing(seed: int, count: int, depth: int) -> list[Limit]:
    """Caps by brand and by seller, as tight as they may be kept now and then."""
    chance = np.random.default_rng(seed)
    groups = (chance.integers(0, 3, size=count).tolist() for _ in range(2))
    return [Limit(name, each, at_most=[2] * depth) for name, each in zip("ab", groups, strict=True)]


@given(slots=auctions(), seed=SEEDS, dial=DIALS, method=METHOD)
def test_no_limit_pays_for_an_advertisement(
    slots: Slots, seed: int, dial: float, method: str
) -> None:
    """What can be kept without any of them is kept with them, though caps cross."""
    depth = min(6, len(slots.offers))
    limits = crossing(seed, len(slots.offers), depth)
    options: dict[str, Any] = {"dial": dial, "method": method, "depth": depth, "limits": limits}
    found = ranked(slots, seed, **options)
    without = ranked(slots._replace(places=slots.places[:0]), seed, **options)
    assert [name in found.relaxed for name in "ab"] <= [name in without.relaxed for name in "ab"]


@given(slots=auctions(), seed=SEEDS, method=METHOD)
def test_exchanges_put_no_advertisement_where_it_won_nothing(
    slots: Slots, seed: int, method: str
) -> None:
    depth = min(6, int((slots.offers < 0).sum()))
    assume(depth)
    found = ranked(
        slots, seed, method=method, depth=depth, limits=crossing(seed, len(slots.offers), depth)
    )
    ads = {place for place, item in enumerate(found.order) if slots.offers[item] >= 0}
    assert ads == set(found.won)


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
    found = shown(Ads(slots=(1, 4), relevance_at_least=0.6), k=6)
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
    found = shown(Ads(slots=(2,), relevance_at_least=0.6))
    assert ids(found)[:2] == ["o0", "fit"]
    assert set(ids(found)[-3:]) == {"rich", "poor", "free"}
    assert len(found.items) == 10


def test_each_page_has_its_share() -> None:
    ads = Ads(slots=(1, 2, 4, 5), share_at_most=0.34)
    first, second = shown(ads, k=3), shown(ads, k=3, offset=3)
    assert [item.item_id for item in first.items if item.sponsored] == ["rich"]
    assert [item.item_id for item in second.items if item.sponsored] == ["fit"]
    idle = Ads(slots=(2, 4, 5, 6), share_at_most=0.34)
    late = shown(idle, k=3, offset=3, rules={"b": rule("block", "block", "rich", "free")})
    assert [item.item_id for item in late.items if item.sponsored] == ["poor"]


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
    floored = fall_back(page(Ads(slots=(1,), relevance_at_least=0.6), k=6), Overlap(), "deadline")
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
