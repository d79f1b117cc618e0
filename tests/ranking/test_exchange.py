"""Where limits cross, exchanges find a list that keeps them, or one that breaks no more."""

from __future__ import annotations

import os
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from tests.factories import random_scores
from worker.ranking.diversify import METHODS, Diversified, diversify
from worker.ranking.diversify.exchange import exchanged
from worker.ranking.diversify.limits import Limit, broken
from worker.ranking.model import Integers

SEEDS = st.integers(0, 1_000_000)
DIALS = st.sampled_from([0.0, 0.3, 1.0])
METHOD = st.sampled_from(sorted(METHODS))
cases = settings(max_examples=int(os.environ.get("PRISMRANK_TEST_CASES", "100")), deadline=None)


def ranked(count: int, limits: list[Limit], depth: int, seed: int, **more: Any) -> Diversified:
    scores = random_scores(seed, count)
    assert scores.relevance is not None
    options: dict[str, Any] = {"method": "facets", "dial": 0.3, "depth": depth, **more}
    return diversify(scores, scores.relevance, limits=limits, **options)


def crowded(chance: np.random.Generator, count: int, others: list[int] | None = None) -> list[int]:
    """A group for each item: one has many of them, and some follow from the item's other group."""
    groups = int(chance.integers(2, 9))
    found = chance.integers(0, groups, count)
    if others is not None:
        alike = chance.random(count) < chance.choice([0.0, 0.4, 0.8])
        found = np.where(alike, np.array(others) % groups, found)
    found[chance.random(count) < chance.choice([0.0, 0.3, 0.6])] = 0
    return [int(each) for each in found]


def most_shown(brands: list[int], sellers: list[int], rooms: tuple[list[int], list[int]]) -> int:
    """How many items keep both caps: the largest flow from brands to sellers."""
    brand_count, seller_count = len(rooms[0]), len(rooms[1])
    source, sink = brand_count + seller_count, brand_count + seller_count + 1
    through = np.zeros((sink + 1, sink + 1), dtype=np.int32)
    through[source, :brand_count] = rooms[0]
    through[brand_count:source, sink] = rooms[1]
    for (brand, seller), items in Counter(zip(brands, sellers, strict=True)).items():
        through[brand, brand_count + seller] = items
    return int(maximum_flow(csr_array(through), source, sink).flow_value)


def possible(
    brands: list[int], sellers: list[int], caps: tuple[int, int], depth: int, pins: dict[int, int]
) -> bool:
    """Whether some list of so many places keeps both caps; the pins stand."""
    rest = [item for item in range(len(brands)) if item not in pins.values()]
    page = [item for place, item in pins.items() if place < depth]
    rooms = tuple(
        [cap - sum(groups[item] == group for item in page) for group in range(max(groups) + 1)]
        for groups, cap in zip((brands, sellers), caps, strict=True)
    )
    if min(map(min, rooms)) < 0:
        return False
    kept = most_shown([brands[i] for i in rest], [sellers[i] for i in rest], (rooms[0], rooms[1]))
    return kept + len(page) >= depth


@pytest.mark.parametrize("most_pins", [0, 3], ids=["no pins", "pins"])
@cases
@given(seed=SEEDS, dial=DIALS, method=METHOD, slack=st.sampled_from([0, 0, 0, -1, 1]))
def test_two_caps_that_cross_are_both_kept_wherever_some_list_keeps_both(
    most_pins: int, seed: int, dial: float, method: str, slack: int
) -> None:
    """The cap by brand is drawn; the one by seller is the smallest that a list keeps with it."""
    chance = np.random.default_rng(seed)
    count = int(chance.integers(6, 40))
    depth = int(chance.integers(3, min(count - 2, 16) + 1))
    brands = crowded(chance, count)
    sellers = crowded(chance, count, brands)
    pinned = int(chance.integers(0, most_pins + 1))
    places, items = chance.permutation(depth + 2)[:pinned], chance.permutation(count - 2)[:pinned]
    pins = dict(zip(places.tolist(), items.tolist(), strict=True))
    sizes = np.bincount(brands)
    few = next(n for n in range(1, depth + 1) if np.minimum(sizes, n).sum() >= depth)
    few += int(chance.integers(0, 2))
    fewest = [n for n in range(1, depth + 1) if possible(brands, sellers, (few, n), depth, pins)]
    caps = (few, max(min(fewest, default=1) + slack, 1))
    brand = Limit("brand", brands, at_most=[caps[0]] * depth)
    seller = Limit("seller", sellers, at_most=[caps[1]] * depth)
    both = possible(brands, sellers, caps, depth, pins)
    alone = [
        possible(brands, sellers, (caps[0], depth), depth, pins),
        possible(brands, sellers, (depth, caps[1]), depth, pins),
    ]
    for limits, first in (([brand, seller], alone[0]), ([seller, brand], alone[1])):
        found = ranked(count, limits, depth, seed, dial=dial, method=method, pinned=pins)
        assert len(set(found.order.tolist())) == depth
        assert all(found.order[place] == item for place, item in pins.items() if place < depth)
        assert (found.relaxed == ()) is both
        if first:
            assert limits[0].name not in found.relaxed


@st.composite
def one_limit(draw: st.DrawFn, name: str, count: int, depth: int) -> Limit:
    """A cap, a quota or both, of each group; some items belong to none."""
    group = draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count))
    most, least = draw(st.integers(0, depth)), draw(st.integers(0, 2))
    kind = draw(st.sampled_from(["cap", "quota", "both"]))
    return Limit(
        name,
        group,
        at_most=[most] * depth if kind != "quota" else None,
        at_least=[0] * (depth - 1) + [least] if kind != "cap" else None,
    )


@cases
@given(
    order=st.permutations(range(8)).map(lambda items: np.array(items[:4])),
    one=one_limit("one", 8, 4),
    other=one_limit("other", 8, 4),
    pinned=st.sets(st.integers(0, 3), max_size=2),
)
def test_two_caps_or_quotas_are_mended_in_any_list_wherever_some_list_keeps_both(
    order: Integers, one: Limit, other: Limit, pinned: set[int]
) -> None:
    pins = {place: int(order[place]) for place in pinned}
    found = exchanged([one, other], order, 8, pins)
    kept = not broken([one, other], list(found.values()))
    lists = (list(each) for each in combinations(range(8), 4) if set(pins.values()) <= set(each))
    assert kept is any(not broken([one, other], each) for each in lists)


def excess(limits: list[Limit], order: list[int]) -> list[int]:
    """How many items are too many, and too few at each place where more are asked for."""
    found = []
    for limit in limits:
        total = 0
        for group in range(limit.groups):
            members = sum(each == group for each in limit.group)
            shown = np.cumsum([limit.group[item] == group for item in order]).tolist()
            if limit.at_most is not None:
                total += max(0, *(n - most for n, most in zip(shown, limit.at_most, strict=True)))
            asked = [0, *(min(n, members) for n in limit.at_least or [])]
            for place in range(1, len(asked)):
                if asked[place] > asked[place - 1]:
                    total += max(0, asked[place] - shown[place - 1])
        found.append(total)
    return found


@pytest.mark.parametrize("kinds", ["ccc", "qcc", "ccq", "sc", "scs", "sscc"])
@cases
@given(seed=SEEDS)
def test_no_list_breaks_more_after_its_exchanges_and_what_is_pinned_or_barred_stays(
    kinds: str, seed: int
) -> None:
    """Caps, quotas and shares, the most important first, on any list at all."""
    chance = np.random.default_rng(seed)
    count = int(chance.integers(5, 20))
    depth = int(chance.integers(2, min(count, 10) + 1))
    limits = []
    for number, kind in enumerate(kinds):
        groups = crowded(chance, count)
        if kind == "c":
            cap = int(chance.integers(1, 3))
            limits.append(Limit(str(number), groups, at_most=[cap] * depth))
        else:
            least = int(chance.integers(1, 4))
            table = {"q": [0] * (depth - 1) + [least], "s": [n // least for n in range(depth)]}
            some = [-1 if group else 0 for group in groups]
            limits.append(Limit(str(number), some, at_least=table[kind]))
    order = chance.permutation(count)[:depth]
    pins = {} if "s" in kinds else {int(p): int(order[p]) for p in chance.permutation(depth)[:2]}
    barred = chance.permutation(count)[: chance.integers(0, 3)]
    found = exchanged(limits, order, count, pins, barred)
    after = [found[place] for place in range(depth)]
    assert len(set(after)) == depth
    assert {place: after[place] for place in pins} == pins
    assert [item if item in barred else -1 for item in after] == [
        item if item in barred else -1 for item in order
    ]
    assert excess(limits, after) <= excess(limits, order.tolist())
    assert exchanged(limits, np.array(after), count, pins, barred) == found


@cases
@given(seed=SEEDS)
def test_where_one_exchange_will_do_there_is_one_in_the_last_place_that_allows_it(
    seed: int,
) -> None:
    chance = np.random.default_rng(seed)
    limits = [Limit(name, crowded(chance, 12), at_most=[2] * 5) for name in "abc"]
    order = chance.permutation(12)[:5]
    before = order.tolist()
    mending = [
        place
        for place in range(5)
        for item in sorted(set(range(12)) - set(before))
        if not broken(limits, [*before[:place], item, *before[place + 1 :]])
    ]
    found = exchanged(limits, order, 12, {})
    changed = [place for place in range(5) if found[place] != before[place]]
    if not broken(limits, before):
        assert changed == []
    elif mending:
        assert changed == [max(mending)]
        assert not broken(limits, list(found.values()))


@pytest.mark.parametrize("length", [1, 2, 3, 30])
def test_a_chain_is_as_long_as_it_has_to_be(length: int) -> None:
    """Seller n - 1 shows too many; each brand but the last can only go one seller down."""
    shown = [(n, n) for n in range(length)] + [(length, length - 1)]
    free = [(0, length)] + [(n, n - 1) for n in range(1, length)]
    brands, sellers = map(list, zip(*shown, *free, strict=True))
    depth = length + 1
    limits = [Limit(name, each, [1] * depth) for name, each in (("b", brands), ("s", sellers))]
    found = exchanged(limits, np.arange(depth), len(brands), {})
    assert list(found.values()) == [*range(depth, depth + length), length]


def test_a_fair_share_and_a_cap_are_kept_by_items_that_change_places() -> None:
    """The item of the share stands too low, no other may come in, and the first place is pinned."""
    share = Limit("share", [-1, -1, -1, 0], at_least=[0, 1, 1, 1])
    cap = Limit("cap", [0, 1, 2, 3], at_most=[1] * 4)
    found = exchanged([share, cap], np.arange(4), 4, {0: 0})
    assert list(found.values()) == [0, 3, 2, 1]


def test_what_no_list_keeps_changes_nothing() -> None:
    """All are of one brand: another order of them would break the cap as much."""
    cap = Limit("cap", [0] * 6, at_most=[1] * 4)
    seller = Limit("seller", [0, 1, 2, 3, 4, 5], at_most=[1] * 4)
    assert list(exchanged([cap, seller], np.arange(4), 6, {}).values()) == [0, 1, 2, 3]


CROSSING = [
    ("two caps", Limit("x", [0, 0, 1], at_most=[1, 1]), Limit("y", [0, 1, 0], at_most=[1, 1])),
    ("a quota, a cap", Limit("x", [-1, 0, -1], at_least=[0, 1]), Limit("y", [0, 0, 1], [1, 1])),
]


@pytest.mark.parametrize(("one", "other"), [c[1:] for c in CROSSING], ids=[c[0] for c in CROSSING])
@given(seed=SEEDS, dial=DIALS, method=METHOD)
def test_limits_that_cross_are_both_kept_by_an_exchange(
    one: Limit, other: Limit, seed: int, dial: float, method: str
) -> None:
    for limits in ([one, other], [other, one]):
        found = ranked(3, limits, 2, seed, dial=dial, method=method)
        assert found.relaxed == ()
        assert len(set(found.order)) == 2


@given(seed=SEEDS, dial=DIALS, page=st.integers(2, 6))
def test_pages_fit_together_after_an_exchange(seed: int, dial: float, page: int) -> None:
    chance = np.random.default_rng(seed)
    limits = [Limit(name, chance.integers(0, 4, 14).tolist(), at_most=[1] * page) for name in "ab"]
    first = ranked(14, limits, page, seed, dial=dial)
    both = ranked(14, limits, page, seed, dial=dial, places=2 * page)
    assert both.order[:page].tolist() == first.order.tolist()
    assert len(set(both.order)) == 2 * page
