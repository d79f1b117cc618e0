"""What policies and cap rules ask of a page: the worker's own road, from message to list."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined, rule
from worker.events import Candidate, ListRule, Match, RankedList
from worker.policies import ListLimit, Policy
from worker.ranking.join import Tables
from worker.ranking.limits import limits_of
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

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
