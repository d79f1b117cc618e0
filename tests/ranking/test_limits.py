"""Limits: caps, quotas, shares and fair tables hold where they can, and are given up in order."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from tests.factories import random_scores
from worker.ranking.diversify import METHODS, Diversified, diversify
from worker.ranking.diversify.dial import discounts
from worker.ranking.diversify.limits import MOST_LIMITS, Limit, broken
from worker.ranking.limits import fair

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


@given(seed=SEEDS, data=st.data())
def test_two_quotas_that_cross_are_kept_wherever_that_is_possible(
    seed: int, data: st.DataObject
) -> None:
    sizes = st.lists(st.sampled_from([-1, 0]), min_size=6, max_size=6)
    limits = [
        Limit(name, data.draw(sizes), at_least=[0, 0, data.draw(st.integers(1, 2))])
        for name in "ab"
    ]
    possible = any(not broken(limits, order) for order in permutations(range(6), 3))
    assert not possible or ranked(list(limits[0].group), limits, 3, seed).relaxed == ()


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
