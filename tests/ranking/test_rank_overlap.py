"""Rank-biased overlap against its own sum, as its paper writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ranking.metrics import rbo

LISTS = st.lists(st.integers(0, 15), max_size=12, unique=True)
PERSISTENCE = st.floats(0.05, 0.95)


def textbook(first: list[int], second: list[int], p: float) -> float:
    """(1 - p) sum_d p^(d - 1) A_d to a depth where nothing is left (Webber et al. 2010, equation
    7), with the agreements that section 4.4 assumes beyond what is seen: the shorter list goes on
    to share what it shared at its end, and past the longer one the agreement stays."""
    short, long = sorted((first, second), key=len)
    if not short:
        return float(not long)
    s, ends = len(short), len(set(short) & set(long[: len(short)]))

    def agreement(depth: int) -> float:
        if depth <= s:
            return len(set(short[:depth]) & set(long[:depth])) / depth
        at = min(depth, len(long))
        seen = len(set(short) & set(long[:at]))
        return (seen + ends * (at - s) / s) / at

    return (1 - p) * sum(p ** (depth - 1) * agreement(depth) for depth in range(1, 1_000))


@given(LISTS, LISTS, PERSISTENCE)
def test_it_is_the_sum_of_the_agreements(first: list[int], second: list[int], p: float) -> None:
    assert rbo(first, second, p) == pytest.approx(textbook(first, second, p), abs=1e-12)


@given(LISTS, LISTS, PERSISTENCE)
def test_it_knows_no_first_of_two_and_lies_in_0_to_1(
    first: list[int], second: list[int], p: float
) -> None:
    assert rbo(first, second, p) == rbo(second, first, p)
    assert -1e-12 <= rbo(first, second, p) <= 1.0 + 1e-12
    assert rbo(first, first, p) == pytest.approx(1.0)


def test_the_top_counts_most() -> None:
    whole = list(range(10))
    top, bottom = [1, 0, *whole[2:]], [*whole[:8], 9, 8]
    assert rbo(whole, top) < rbo(whole, bottom) < 1.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", 1.0),
        ("", "a", 0.0),
        ("ab", "cd", 0.0),
        ("ab", "ba", 0.9),
        ("abc", "abd", 0.1 * (1 + 0.9) + 0.81 * 2 / 3),
    ],
)
def test_by_hand(first: str, second: str, expected: float) -> None:
    assert rbo(first, second, 0.9) == pytest.approx(expected)
