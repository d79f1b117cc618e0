"""Periods of drift and what is lost in them: every query in one period, and numbers by hand."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.cells import ratio
from tests.benchmarks.drift_periods import CONTINUED, SAME
from tests.benchmarks.forgetting import AT_ONCE, FIRST, NAIVE, ZERO_SHOT, Line, forgotten, rows
from tests.benchmarks.periods import DAYS, LEANING, PERIODS, asked_in, assigned, period_of
from tests.benchmarks.processes import configured
from training.dataset import labelled
from training.judgments import GradedQuery
from training.replay import replayed
from training.sources import Replay
from worker.events import Candidate, SearchEvent
from worker.ranking.model import Vector

ARM = "replay"
TOPICS = np.eye(PERIODS, 8, dtype=np.float32)


def asked(text: str) -> GradedQuery:
    items = tuple(Candidate(item_id=name, title=f"{text} {name}") for name in "ab")
    return GradedQuery(SearchEvent(query_id=text, user_query=text, candidates=items), (0.0, 1.0))


def vectors(queries: int) -> dict[str, Vector]:
    """Queries of five topics that lie far apart, one after the other."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=(queries, 8)).astype(np.float32)
    return {f"query {row}": TOPICS[row % PERIODS] + noise[row] for row in range(queries)}


def line(arm: str, period: int, *by_period: list[float], seed: int = 1) -> Line:
    values = [value for each in by_period for value in each]
    return Line(
        arm=arm,
        seed=seed,
        period=period,
        bundle="" if arm == ZERO_SHOT else f"{arm} {seed} {period}",
        recipe={},
        pairs=0,
        seconds=0.0,
        commit="",
        machine="",
        queries={"dev": [len(each) for each in by_period]},
        ndcg={"dev": {"alone": values, "random": [0.0] * len(values)}},
    )


@given(st.text(), st.integers(0, PERIODS - 1))
def test_every_query_has_one_period_whoever_asks(query: str, topic: int) -> None:
    assert period_of(query, topic) == period_of(f"  {query} ", topic)
    assert period_of(query, topic) in range(PERIODS)


def test_every_query_is_asked_in_exactly_one_period() -> None:
    known = vectors(100)
    periods = assigned(known)
    assert periods == assigned(known)
    queries = [asked(text) for text in known]
    found = [
        query.event.user_query for p in range(PERIODS) for query in asked_in(p, queries, periods)
    ]
    assert sorted(found) == sorted(known)


def test_a_period_leans_towards_a_topic_of_its_own() -> None:
    periods = assigned(vectors(1_000))
    shares = np.zeros((PERIODS, PERIODS))
    for row, period in enumerate(periods.values()):
        shares[row % PERIODS, period] += PERIODS / 1_000
    assert sorted(shares.argmax(axis=1)) == list(range(PERIODS))
    assert shares.max(axis=1) == pytest.approx(LEANING + (1 - LEANING) / PERIODS, abs=0.1)
    assert shares.min() > 0.0


def test_what_is_replayed_knows_the_periods() -> None:
    periods = assigned(vectors(100))
    queries = [asked(text) for text in periods]
    lists = labelled([one for p in range(PERIODS) for one in asked_in(p, queries, periods)])
    newest = replayed(lists, Replay(share=0.0, period_days=DAYS), 0)
    last = [one.event for one in asked_in(PERIODS - 1, queries, periods)]
    assert [one.search.event for one in newest] == last


@pytest.mark.parametrize("added", CONTINUED.values(), ids=CONTINUED)
def test_every_arm_is_a_recipe(added: Mapping[str, Any], tmp_path: Path) -> None:
    options = argparse.Namespace(work=tmp_path, base=tmp_path)
    recipe = configured(options, {**SAME, **added, "seed": 1}).recipe
    assert recipe.start == "champion"
    assert recipe.replay.period_days == DAYS


def test_a_ratio_is_of_means_and_its_interval_of_the_same_queries() -> None:
    found = ratio(np.array([0.2, 0.4]), np.array([0.5, 0.5]))
    assert found.mean == pytest.approx(0.6)
    assert (found.low, found.high) == pytest.approx((0.4, 0.8))  # twice the first, or the second
    same = ratio(np.array([0.1, 0.9, 0.4]), np.array([0.2, 1.8, 0.8]))
    assert (same.mean, same.low, same.high) == pytest.approx((0.5, 0.5, 0.5))


def test_forgotten_is_from_the_best_of_each_old_period_to_the_last() -> None:
    old = [[0.9], [0.8], [0.7], [0.6]]
    lines = [line(FIRST, 1, [0.5])]
    lines += [line(ARM, period, *old[:period]) for period in range(2, PERIODS)]
    end = line(ARM, PERIODS, [0.8], [0.8], [0.5], [0.7], [0.1])
    lost = (0.9 - 0.8) + 0.0 + (0.7 - 0.5) + (0.6 - 0.7)
    assert forgotten([*lines, end], [end], "dev", "alone") == pytest.approx(lost / 4)
    assert forgotten([end], [end], "dev", "alone") is None


def test_an_arm_is_held_against_everything_at_once_over_old_and_new() -> None:
    whole = [[0.8], [0.8], [0.8], [0.8], [0.8]]
    lines = [
        line(ZERO_SHOT, PERIODS, [0.4], [0.4], [0.4], [0.4], [0.4], seed=0),
        line(AT_ONCE, PERIODS, *whole),
        line(ARM, PERIODS, [0.2], [0.2], [0.2], [0.2], [0.8]),
        line(ARM, PERIODS, *whole, seed=2),  # nothing was learned at once by this seed
        line(FIRST, 1, [0.2]),
        *(line(ARM, period, *[[0.2]] * period) for period in range(2, PERIODS)),
        line(NAIVE, PERIODS, [0.1], [0.1], [0.1], [0.1], [0.7]),
    ]
    found = {row["arm"]: row for row in rows(lines, "dev", "alone")}
    assert (found[ARM]["old"], found[ARM]["new"], found[ARM]["both"]) == (
        "0.2000",
        "0.8000",
        "0.3200",
    )
    assert re.match(r"0\.4000 \[0\.2500, ", found[ARM]["of at once"])
    assert found[ARM]["seeds"] == "1"
    assert found[ARM][f"from {NAIVE}"] == "+0.1000 [+0.1000, +0.1000]"
    assert found[ARM]["forgotten"] == "+0.0000"
    assert found[ZERO_SHOT]["of at once"] == "0.5000 [0.5000, 0.5000]"
    assert found["random"]["both"] == "0.0000"
