"""Limits: caps, quotas, shares and fair tables hold where they can, and are given up in order."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from tests.factories import candidate, event, joined, random_scores, rule
from worker.events import Candidate, ListRule, Match, RankedList
from worker.policies import ListLimit, Policy
from worker.ranking.diversify import METHODS, Diversified, diversify
from worker.ranking.diversify.dial import discounts
from worker.ranking.diversify.limits import MOST_LIMITS, Limit, broken
from worker.ranking.join import Tables
from worker.ranking.limits import fair, limits_of
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

SEEDS = st.integers(0, 100_000)
DIALS = st.sampled_from([0.0, 0.3, 1.0])
METHOD = st.sampled_from(sorted(METHODS))
GROUPS = st.lists(st.integers(-1, 3), min_size=12, max_size=24)


def ranked(
    groups: list[int], limits: list[Limit], depth: int, seed: int = 0, **more: Any
) -> Diversified:
    scores = random_scores(seed, len(groups))
    assert scores.relevance is not None
    options: dict[str, Any] = {"method": "facets", "dial": 0.3, "depth": depth, **more}
    return diversify(scores, scores.relevance, limits=limits, **options)


def shown(groups: list[int], found: Diversified) -> Counter[int]:
    return Counter(groups[item] for item in found.order)


def only(groups: list[int], group: int) -> list[int]:
    """One group alone, as number 0."""
    return [0 if each == group else -1 for each in groups]


@given(groups=GROUPS, most=st.integers(0, 4), seed=SEEDS, dial=DIALS, method=METHOD)
def test_a_cap_is_never_exceeded_where_that_is_possible(
    groups: list[int], most: int, seed: int, dial: float, method: str
) -> None:
    sizes = Counter(groups)
    free = sum(n if group < 0 else min(n, most) for group, n in sizes.items())
    depth = min(10, free)
    cap = Limit("cap", groups, at_most=[most] * depth)
    found = ranked(groups, [cap], depth, seed, dial=dial, method=method)
    assert len(set(found.order)) == depth
    assert found.relaxed == ()
    assert all(n <= most for group, n in shown(groups, found).items() if group >= 0)


@given(groups=GROUPS, seed=SEEDS, dial=DIALS, method=METHOD, places=st.integers(4, 12))
def test_every_group_has_its_least_at_every_place(
    groups: list[int], seed: int, dial: float, method: str, places: int
) -> None:
    """Three groups, each with a share of the first 1, 2, … places as large as its share of all."""
    sizes = Counter(groups)
    tables = {
        group: [sizes[group] * place // len(groups) for place in range(1, places + 1)]
        for group in range(3)
    }
    limits = [Limit(str(g), only(groups, g), at_least=table) for g, table in tables.items()]
    found = ranked(groups, limits, places, seed, dial=dial, method=method)
    assert found.relaxed == ()
    for group, table in tables.items():
        seen = np.cumsum([groups[item] == group for item in found.order])
        assert (seen >= table).all()


@given(
    groups=GROUPS,
    seed=SEEDS,
    most=st.integers(1, 3),
    pins=st.dictionaries(st.integers(0, 7), st.integers(0, 11), max_size=4),
)
def test_pins_hold_and_what_they_take_counts(
    groups: list[int], seed: int, most: int, pins: dict[int, int]
) -> None:
    pins = {place: item for item, place in {item: place for place, item in pins.items()}.items()}
    cap = Limit("cap", only(groups, 0), at_most=[most] * 8)
    found = ranked(groups, [cap], 8, seed, pinned=pins)
    assert {place: int(found.order[place]) for place in pins} == pins
    pinned = sum(groups[item] == 0 for item in pins.values())
    others = sum(group != 0 for group in groups)
    if pinned <= most and others + most >= 8:
        assert shown(groups, found)[0] <= most
        assert found.relaxed == ()


@given(seed=SEEDS, groups=st.lists(st.integers(0, 2), min_size=5, max_size=5), data=st.data())
def test_a_limit_is_given_up_only_where_no_list_could_keep_it(
    seed: int, groups: list[int], data: st.DataObject
) -> None:
    numbers = st.integers(0, 3)
    rising = st.lists(numbers, min_size=4, max_size=4).map(sorted)
    if data.draw(st.booleans()):
        limit = Limit("one", groups, at_most=[data.draw(numbers)] * 4)
    else:
        limit = Limit("one", only(groups, 1), at_least=data.draw(rising))
    found = ranked(groups, [limit], 4, seed)
    possible = any(not broken([limit], order) for order in permutations(range(5), 4))
    assert (found.relaxed == ()) is possible


@given(seed=SEEDS, groups=GROUPS)
def test_what_cannot_be_kept_is_given_up_from_the_end(seed: int, groups: list[int]) -> None:
    groups = [0, 0, 0, 1, 1, 1, 1, 1, *groups]
    group = only(groups, 0)
    many = Limit("at least three", group, at_least=[0, 0, 0, 0, 3])
    few = Limit("at most one", group, at_most=[1] * 5)
    assert ranked(groups, [many, few], 5, seed).relaxed == ("at most one",)
    assert ranked(groups, [few, many], 5, seed).relaxed == ("at least three",)


@given(seed=SEEDS, groups=GROUPS, dial=DIALS)
def test_a_list_stays_full_and_says_exactly_what_it_does_not_keep(
    seed: int, groups: list[int], dial: float
) -> None:
    limits = [
        Limit("none of 0", only(groups, 0), at_most=[0] * 12),
        Limit("none of 1", only(groups, 1), at_most=[0] * 12),
        Limit("all of 2", only(groups, 2), at_least=list(range(1, 13))),
    ]
    found = ranked(groups, limits, 12, seed, dial=dial)
    order = found.order.tolist()
    assert len(set(order)) == 12
    assert found.relaxed == broken(limits, order)


@given(seed=SEEDS, groups=GROUPS, method=METHOD)
def test_within_limits_too_more_of_the_dial_costs_no_less_and_no_more_than_its_share(
    seed: int, groups: list[int], method: str
) -> None:
    assume(sum(n if group < 0 else 1 for group, n in Counter(groups).items()) >= 6)
    cap = Limit("cap", groups, at_most=[1] * 6)
    scores = random_scores(seed, len(groups))
    assert scores.relevance is not None
    gains = [
        float(scores.relevance[found.order] @ discounts(6))
        for dial in (0.0, 0.2, 0.6, 1.0)
        for found in [ranked(groups, [cap], 6, seed, dial=dial, method=method)]
    ]
    for dial, gain in zip((0.0, 0.2, 0.6, 1.0), gains, strict=True):
        assert gain >= gains[0] - dial * (gains[0] - gains[3]) - 1e-9


def test_limits_beyond_what_a_word_of_bits_holds_are_not_built() -> None:
    limits = [Limit(str(n), [0, 0, 0], at_most=[3, 3, 3]) for n in range(MOST_LIMITS + 5)]
    assert ranked([0, 0, 0], limits, 3).relaxed == ()


@given(st.integers(1, 60), st.floats(0.02, 0.98), st.floats(0.01, 0.5))
def test_the_table_of_a_fair_ranking_is_the_quantile_of_the_binomial(
    places: int, share: float, significance: float
) -> None:
    chances = binom.cdf(range(places + 1), places, share)
    assume(np.abs(chances - significance).min() > 1e-9)  # there, a last bit decides
    assert fair(places, share, significance) == int(binom.ppf(significance, places, share))


BRANDS: dict[str, dict[str, Any]] = {
    "a": {"seller": "large", "attributes": {"colour": "red"}},
    "b": {"seller": "large", "features": {"ctr": 0.01}},
    "c": {"seller": "small", "sponsored": True},
}
SHOP = [
    candidate(f"{brand}{n}", title="running shoe", brand=brand, price=20.0 * n, **fields)
    for n in range(1, 6)
    for brand, fields in BRANDS.items()
]


def page(
    *limits: ListLimit, k: int = 6, rules: tuple[ListRule, ...] = (), **policy: Any
) -> RankedList:
    """The page of a policy; the worker's own road."""
    tables = Tables(
        rules={one.rule_id: one for one in rules},
        policies={"p": Policy(policy_id="p", limits=limits, diversity=0.0, **policy)},
    )
    search = joined(event(SHOP, k=k, policy="p"), tables)
    ranked_list = rerank([search], Overlap())[0]
    weak = fall_back(search, Overlap(), "deadline")
    kept = [ranked_list.limits_relaxed, weak.limits_relaxed]
    assert kept[0] == kept[1], "the fallback order keeps what the model's order keeps"
    return ranked_list


def counts(ranked_list: RankedList, field: str) -> Counter[Any]:
    items = {item.item_id: item for item in SHOP}
    return Counter(getattr(items[one.item_id], field) for one in ranked_list.items)


def test_a_cap_of_a_policy_holds_for_each_value() -> None:
    assert max(counts(page(caps={"brand": 2}), "brand").values()) == 2


def test_a_cap_rule_speaks_for_its_query_and_its_items() -> None:
    one = rule("no-large", "cap", field="seller", value="large", limit=1)
    found = page(rules=(one,))
    assert (counts(found, "seller")["large"], found.rules_applied) == (1, ("no-large",))
    nobody = rule("nobody", "cap", field="seller", value="nobody", limit=1)
    assert page(rules=(nobody,)).rules_applied == ()
    each = rule("two-each", "cap", field="brand", limit=2)
    assert max(counts(page(rules=(each,)), "brand").values()) == 2
    silent = rule("r", "cap", field="brand", limit=1, match=Match(query="boots"))
    assert page(rules=(silent,)).limits_relaxed == ()
    assert max(counts(page(rules=(silent,)), "brand").values()) > 1


SMALL, RED, MEASURED = (
    {"field": "seller", "value": "small"},
    {"field": "attributes.colour", "value": "red"},
    {"field": "features.ctr", "low": 0.0},
)
LIMITS: list[tuple[str, dict[str, Any], str, int, int]] = [
    ("a quota", {**SMALL, "at_least": 3}, "c", 3, 6),
    ("a share", {**SMALL, "share_at_least": 0.5}, "c", 3, 6),
    ("a fair table", {**SMALL, "share_at_least": 0.5, "significance": 0.1}, "c", 1, 6),
    ("a largest share", {"field": "sponsored", "value": True, "share_at_most": 0.2}, "c", 0, 1),
    ("none", {"field": "brand", "value": "a", "at_most": 0}, "a", 0, 0),
    ("an attribute", {**RED, "at_most": 1}, "a", 0, 1),
    ("a feature", {**MEASURED, "at_most": 1}, "b", 0, 1),
]


@pytest.mark.parametrize(
    ("limit", "brand", "least", "most"), [one[1:] for one in LIMITS], ids=[one[0] for one in LIMITS]
)
def test_a_limit_of_a_policy_holds(
    limit: dict[str, Any], brand: str, least: int, most: int
) -> None:
    found = page(ListLimit(limit_id="one", **limit))
    assert least <= counts(found, "brand")[brand] <= most
    assert found.limits_relaxed == ()


def test_a_price_band_is_a_group() -> None:
    cheap = ListLimit(limit_id="cheap", field="price", high=50.0, at_least=5)
    items = {item.item_id: item for item in SHOP}
    prices = [items[one.item_id].price or 0.0 for one in page(cheap).items]
    assert sum(price < 50.0 for price in prices) >= 5


def test_a_list_says_which_limits_its_candidates_do_not_allow() -> None:
    none = ListLimit(limit_id="nobody", field="seller", value="nobody", at_least=1)
    dear = ListLimit(limit_id="dear", field="price", low=1000.0, share_at_least=0.5)
    found = page(none, dear, caps={"brand": 1})
    assert found.limits_relaxed == ("nobody", "dear", "caps.brand")
    assert len(found.items) == 6


def test_the_more_important_limit_is_kept() -> None:
    small = ListLimit(limit_id="small", field="seller", value="small", at_least=4)
    few = ListLimit(limit_id="few", field="sponsored", value=True, at_most=1)
    assert page(small, few).limits_relaxed == ("few",)
    assert page(few, small).limits_relaxed == ("small",)


def test_limits_are_of_the_first_page_unless_they_say_so() -> None:
    tables = Tables(policies={"p": Policy(policy_id="p", caps={"brand": 1}, diversity=0.0)})
    search = joined(event(SHOP, k=3, offset=3, policy="p"), tables)
    second = rerank([search], Overlap())[0]
    first = page(k=3, caps={"brand": 1})
    assert len(counts(first, "brand")) == 3
    assert {one.item_id for one in first.items}.isdisjoint(one.item_id for one in second.items)
    assert first.limits_relaxed == second.limits_relaxed == ()


def test_a_cap_on_what_nobody_carries_holds_nobody_back() -> None:
    bare = [Candidate(item_id=str(n), title="shoe") for n in range(4)]
    tables = Tables(policies={"p": Policy(policy_id="p", caps={"brand": 1, "features.x": 0})})
    found = rerank([joined(event(bare, policy="p"), tables)], Overlap())[0]
    assert (len(found.items), found.limits_relaxed) == (4, ())


def test_an_item_says_which_limit_held_back_a_better_one() -> None:
    found = page(caps={"brand": 1}, k=3)
    relevance = [item.relevance or 0.0 for item in found.items]
    assert found.items[0].why.limit is None
    for place, item in enumerate(found.items):
        better = max(relevance[place:], default=0.0) > relevance[place]
        assert item.why.limit in ({"caps.brand"} if better else {None, "caps.brand"})
    free = page(k=3)
    assert {item.why.limit for item in free.items} == {None}
    assert any(item.why.limit == "caps.brand" for item in found.items) or [
        item.item_id for item in found.items
    ] == [item.item_id for item in free.items]


def test_what_nobody_can_pay_costs_the_more_important_limit_nothing() -> None:
    dear = [candidate(f"d{n}", title="running shoe", price=100.0) for n in range(8)]
    cheap = [candidate(f"c{n}", title="lamp", price=10.0) for n in range(3)]
    limits = (
        ListLimit(limit_id="cheap", field="price", high=50.0, at_least=2),
        ListLimit(limit_id="nobody", field="seller", value="nobody", share_at_least=0.3),
    )
    tables = Tables(policies={"p": Policy(policy_id="p", limits=limits, diversity=0.0)})
    found = rerank([joined(event([*dear, *cheap], k=8, policy="p"), tables)], Overlap())[0]
    assert found.limits_relaxed == ("nobody",)


@given(seed=SEEDS, data=st.data())
def test_the_first_of_two_quotas_is_kept_wherever_that_is_possible(
    seed: int, data: st.DataObject
) -> None:
    members = [data.draw(st.lists(st.sampled_from([-1, 0]), min_size=6, max_size=6)) for _ in "ab"]
    tables = [
        data.draw(st.lists(st.integers(0, 3), min_size=4, max_size=4).map(sorted)) for _ in "ab"
    ]
    limits = [
        Limit(name, group, at_least=table)
        for name, group, table in zip("ab", members, tables, strict=True)
    ]
    found = ranked(members[0], limits, 4, seed)
    if any(not broken(limits[:1], order) for order in permutations(range(6), 4)):
        assert "a" not in found.relaxed


def test_buried_and_unknown_items_of_the_page_count() -> None:
    items = [
        candidate("a", seller="s"),
        *(Candidate(item_id=name, seller="s") for name in "bc"),
        candidate("d", seller="t"),
    ]
    tables = Tables(
        rules={"last": rule("last", "bury", "d")},
        policies={"p": Policy(policy_id="p", caps={"seller": 1})},
    )
    search = joined(event(items, k=4, policy="p"), tables)
    for found in (rerank([search], Overlap())[0], fall_back(search, Overlap(), "deadline")):
        assert len(found.items) == 4
        assert found.limits_relaxed == ("caps.seller",)


@given(number=st.integers(0, 500))
def test_exploration_breaks_no_limit(number: int) -> None:
    items = [
        candidate(f"i{n}", title="shoe", seller="small" if n % 2 else "big") for n in range(10)
    ]
    limits = (
        ListLimit(limit_id="small", field="seller", value="small", share_at_least=0.5),
        ListLimit(limit_id="big", field="seller", value="big", at_most=1, places=3),
    )
    policy = Policy(policy_id="p", limits=limits, explore=1.0, diversity=0.0)
    search = joined(
        event(items, query_id=f"q{number}", k=10, policy="p"), Tables(policies={"p": policy})
    )
    found = rerank([search], Overlap())[0]
    small = np.cumsum([int(item.item_id[1:]) % 2 for item in found.items])
    assert found.limits_relaxed == ()
    assert (small >= np.arange(1, 11) // 2).all()
    assert 3 - small[2] <= 1


def test_the_limit_that_held_back_is_the_one_that_is_named() -> None:
    items = [
        candidate("a1", title="running shoes", brand="A"),
        candidate("a2", title="running shoes", brand="A"),
        candidate("b", title="lamp", brand="B"),
    ]
    nobody = ListLimit(limit_id="nobody", field="seller", value="nobody", at_least=2)
    idle = ListLimit(limit_id="idle", field="price", at_most=1)
    policy = Policy(policy_id="p", limits=(idle, nobody), caps={"brand": 1}, diversity=0.0)
    search = joined(event(items, k=2, policy="p"), Tables(policies={"p": policy}))
    found = rerank([search], Overlap())[0]
    assert [item.item_id for item in found.items] == ["a1", "b"]
    assert found.items[1].why.limit == "caps.brand"


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ((1, 1.0, True), 2),
        ((0.0, -0.0), 1),
        (({"a": 1, "b": 2}, {"b": 2, "a": 1}), 1),
        (("", None), 0),
        (("1", 1), 2),
    ],
    ids=["numbers and truth", "zeros", "objects", "nothing", "a text and a number"],
)
def test_values_are_equal_as_in_json(values: tuple[Any, ...], groups: int) -> None:
    items = [
        candidate(f"i{n}", attributes={"v": value} if value is not None else {})
        for n, value in enumerate(values)
    ]
    limit = ListLimit(limit_id="one", field="attributes.v", at_most=1)
    search = joined(
        event(items, policy="p"), Tables(policies={"p": Policy(policy_id="p", limits=(limit,))})
    )
    assert limits_of(search, items)[0].groups == groups
