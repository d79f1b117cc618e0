"""Replay: the newest period whole, an even sample of the older ones, and the seed alone decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from tests.training.lists import labelled_list
from training.dataset import LabelledList
from training.replay import replayed, reservoir, shares
from training.sources import Replay

NOW = datetime(2026, 11, 28, tzinfo=UTC)
ONE_DAY = Replay(share=0.5, period_days=1)
ages = st.lists(st.integers(0, 6) | st.none(), max_size=60)


def aged(days: Sequence[float | None]) -> list[LabelledList]:
    """A list for each age in days; None: it says no time."""
    return [
        labelled_list(row, 2, timestamp=None if age is None else NOW - timedelta(days=age))
        for row, age in enumerate(days)
    ]


def days_of(lists: Sequence[LabelledList]) -> Counter[int | None]:
    times = [one.search.event.timestamp for one in lists]
    return Counter(None if at is None else (NOW - at).days for at in times)


def test_without_a_share_everything_is_learned() -> None:
    lists = aged([0, 5, None])
    assert replayed(lists, Replay(), 0) is lists


def test_a_time_without_a_zone_is_of_utc() -> None:
    first, second = aged([0, 3])
    event = msgspec.structs.replace(second.search.event, timestamp=datetime(2026, 11, 25))
    naive = replace(second, search=replace(second.search, event=event))
    newest = Replay(share=0.0, period_days=1)
    assert replayed([first, naive], newest, 0) == replayed([first, second], newest, 0) == [first]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, {0: 12}),
        (0.25, {0: 12, 1: 1, 2: 1, 3: 2}),
        (0.5, {0: 12, 1: 2, 2: 5, 3: 5}),  # a period that has no more gives what it has
        (0.9, {0: 12, 1: 2, 2: 8, 3: 30}),
    ],
)
def test_the_share_is_drawn_evenly_from_older_periods(
    share: float, expected: dict[int, int]
) -> None:
    lists = aged([0] * 12 + [1] * 2 + [2] * 8 + [3] * 30)
    assert days_of(replayed(lists, Replay(share=share, period_days=1), 1)) == expected


@given(days=ages, share=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_the_newest_period_is_whole_and_the_order_is_kept(
    days: list[int | None], share: float, seed: int
) -> None:
    lists = aged(days)
    found = replayed(lists, Replay(share=share, period_days=1), seed)
    rows = [next(row for row, one in enumerate(lists) if one is each) for each in found]
    assert rows == sorted(set(rows))
    assert found == replayed(lists, Replay(share=share, period_days=1), seed)
    newest = min((day for day in days if day is not None), default=None)
    new = [one for one, day in zip(lists, days, strict=True) if day == newest]
    assert all(any(one is each for each in found) for one in new)
    wanted = round(len(new) * share / (1 - share))
    assert len(found) == len(new) + min(wanted, len(lists) - len(new))


def test_another_seed_draws_others() -> None:
    lists = aged([0] * 5 + [1] * 50)
    first, again, other = (replayed(lists, ONE_DAY, seed) for seed in (1, 1, 2))
    assert [id(one) for one in first] == [id(one) for one in again]
    assert [id(one) for one in first] != [id(one) for one in other]


def test_what_says_no_time_is_the_oldest() -> None:
    assert days_of(replayed(aged([0, None, 0]), Replay(share=0.0), 0)) == {0: 2}
    assert days_of(replayed(aged([None, None]), Replay(share=0.0), 0)) == {None: 2}


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8), wanted=st.integers(0, 200))
def test_parts_are_as_even_as_the_sizes_allow(sizes: list[int], wanted: int) -> None:
    found = shares(sizes, wanted)
    assert sum(found) == min(wanted, sum(sizes))
    assert all(0 <= part <= size for part, size in zip(found, sizes, strict=True))
    short = [part for part, size in zip(found, sizes, strict=True) if part < size]
    assert all(part <= min(short, default=part) + 1 for part in found)


def test_each_is_as_likely_to_stay_in_the_reservoir_as_any_other() -> None:
    chance = np.random.default_rng(0)
    counts = Counter(each for _ in range(4000) for each in reservoir(range(12), 3, chance))
    assert sum(counts.values()) == 3 * 4000
    assert chisquare([counts[each] for each in range(12)]).pvalue > 0.001


@given(count=st.integers(0, 30), size=st.integers(0, 40), seed=st.integers(0, 99))
def test_a_reservoir_holds_what_it_can_each_once(count: int, size: int, seed: int) -> None:
    found = reservoir(range(count), size, np.random.default_rng(seed))
    assert len(found) == len(set(found)) == min(size, count)
