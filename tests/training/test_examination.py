"""The curve that is recovered is the one that the clicks were drawn from."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.training.clicked import clicked, explored
from tests.training.pages import joined, place, ranked, search
from training.columns import Booleans, Columns, columns
from training.examination import Examination, ExaminationSettings, em, estimate, harvest
from worker.ranking.explore import explore
from worker.ranking.model import Doubles

PLACES = np.arange(1, 11)
PLAIN = ExaminationSettings()


def off(found: Examination, truth: Doubles) -> float:
    """The largest distance from the truth on the first 10 places."""
    return float(np.abs(found.at(PLACES) - truth[:10]).max())


def click_rates(table: Columns) -> Doubles:
    rates = np.bincount(table.places, weights=table.clicks) / np.bincount(table.places).clip(1)
    return np.asarray(rates[1:] / rates[1])


def unexplored(table: Columns) -> Columns:
    """The same clicks, where nobody knows what exploration did."""
    none = np.zeros(len(table), dtype=bool)
    return replace(table, ups=none, downs=none)


@pytest.mark.parametrize("seed", range(3))
def test_harvesting_recovers_the_curve_where_click_rates_do_not(seed: int) -> None:
    table, truth = clicked(20_000, seed=seed)
    found = harvest(table, PLAIN)
    assert len(found.theta) == 10
    assert off(found, truth.theta) <= 0.03
    # Relevant items stand at the top: what is seen less is also worth less.
    below = click_rates(table)[1:] - truth.theta[1:]
    assert below.min() < -0.03
    assert (below < 0).all()


def test_the_interval_of_harvesting_holds_the_truth() -> None:
    inside = []
    for seed in range(10):
        table, truth = clicked(4_000, seed=seed)
        found = harvest(table, PLAIN)
        assert found.low is not None
        assert found.high is not None
        true = truth.theta[: len(found.theta)]
        inside += (np.array(found.low) <= true)[1:].tolist()
        inside += (true <= np.array(found.high))[1:].tolist()
    assert np.mean(inside) > 0.9


def test_less_exploration_reaches_less_far_and_goes_on_as_a_power_law() -> None:
    table, truth = clicked(20_000, share=0.2)
    found = harvest(table, PLAIN)
    assert 3 <= len(found.theta) < 10
    assert found.eta == pytest.approx(1.0, abs=0.1)
    assert off(found, truth.theta) <= 0.08


def test_em_comes_near_where_pairs_are_shown_often() -> None:
    table, truth = clicked(20_000, queries=100)
    found, attraction = em(table, PLAIN)
    assert off(found, truth.theta) <= 0.04
    often = np.bincount(table.pairs, weights=truth.theta[table.places - 1]) > 30
    assert np.corrcoef(attraction[often], truth.attraction[often])[0, 1] > 0.8


def test_regression_em_comes_near_where_pairs_hardly_repeat() -> None:
    table, truth = clicked(10_000, queries=10_000, share=0.0)
    found = estimate(table, PLAIN)
    assert found.method == "regression-em"
    assert off(found, truth.theta) <= 0.02
    assert off(em(table, ExaminationSettings(iterations=50))[0], truth.theta) > 0.1


@pytest.mark.parametrize(
    ("table", "method", "why"),
    [
        (clicked(5_000)[0], "harvest", "clicks on swapped neighbours"),
        (clicked(5_000, share=0.0, queries=20)[0], "em", "exploration tells 1 of 3 places"),
        (clicked(5_000, share=0.0, queries=5_000)[0], "regression-em", "a pair was shown 1."),
        (clicked(10, share=1.0)[0], "assumed", "clicks"),
    ],
    ids=["explored", "repeated", "rare", "nothing"],
)
def test_the_method_is_what_the_impressions_allow(table: Columns, method: str, why: str) -> None:
    found = estimate(table, PLAIN)
    assert found.method == method
    assert why in found.why


@pytest.mark.parametrize("method", ["harvest", "em", "regression-em", "assumed"])
def test_a_method_can_be_asked_for(method: str) -> None:
    found = estimate(clicked(3_000)[0], ExaminationSettings(method=method))  # type: ignore[arg-type]
    assert found.method == method
    assert found.theta[0] == 1.0
    assert (np.array(found.theta) > 0).all()


def test_smoothing_is_a_setting() -> None:
    table, _ = clicked(5_000)
    rough, smooth = harvest(table, PLAIN), harvest(table, ExaminationSettings(smooth=True))
    assert smooth.eta == rough.eta
    assert smooth.at(PLACES) == pytest.approx((1 / PLACES) ** smooth.eta)
    assert rough.theta != smooth.theta


def at_the_first(table: Columns, kept: float) -> Columns:
    """The same, where only that share of the first place's clicks fell."""
    lost = (table.places == 1) & (np.random.default_rng(0).random(len(table)) >= kept)
    none = np.zeros(len(table))
    return replace(
        table,
        clicks=np.where(lost, none, table.clicks),
        grades=np.where(lost, none, table.grades),
    )


def only(table: Columns, rows: Booleans) -> Columns:
    return Columns(*(getattr(table, name)[rows] for name in Columns.__slots__))


@pytest.mark.parametrize("method", ["auto", "harvest", "em", "regression-em"])
@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize(
    "kept",
    [0.0, 0.01, 0.05, None],
    ids=["a banner", "clicked on a few times", "clicked on seldom", "never shown"],
)
def test_where_the_first_place_cannot_be_held_against_the_curve_is_assumed(
    kept: float | None, share: float, method: str
) -> None:
    table, _ = clicked(6_000, share=share, seed=1)
    seen = only(table, table.places > 1) if kept is None else at_the_first(table, kept)
    found = estimate(seen, ExaminationSettings(method=method))  # type: ignore[arg-type]
    assert found.method == "assumed"
    assert found.at(PLACES) == pytest.approx(1 / PLACES)
    assert "first" in found.why or "exploration swapped too little" in found.why


@pytest.mark.parametrize("method", ["harvest", "em", "regression-em"])
def test_a_place_that_is_looked_at_a_little_more_than_the_first_counts_as_it(method: str) -> None:
    table = at_the_first(clicked(6_000, seed=1)[0], 0.4)
    found = estimate(table, ExaminationSettings(method=method))  # type: ignore[arg-type]
    assert found.method == method
    assert found.theta[:2] == (1.0, 1.0)
    assert max(found.theta) == 1.0


def test_a_place_that_was_hardly_shown_does_not_belie_the_first() -> None:
    table, truth = clicked(6_000, share=0.0, seed=1)
    deep = (table.places == 10) & (table.clicks > 0) & (np.cumsum(table.clicks) < 500)
    assert 0 < deep.sum() < PLAIN.least_clicks
    rare = only(table, (table.places < 10) | deep)
    found = estimate(rare, PLAIN)
    assert found.method == "regression-em"
    assert found.theta[9] == 1.0
    assert np.abs(np.array(found.theta[:9]) - truth.theta[:9]).max() < 0.05


@pytest.mark.parametrize("method", ["auto", "harvest", "em", "regression-em", "assumed"])
def test_no_impressions_give_the_assumed_curve(method: str) -> None:
    settings = ExaminationSettings(method=method, eta=2.0)  # type: ignore[arg-type]
    found = estimate(columns([])[0], settings)
    assert found.method == "assumed"
    assert found.at(np.array([1, 2, 50])) == pytest.approx([1, 1 / 4, 1 / 2_500])


def test_without_claims_of_relevance_nothing_is_read_off_them() -> None:
    table, _ = clicked(3_000)
    silent = replace(table, relevance=np.full(len(table), np.nan))
    found = estimate(silent, ExaminationSettings(method="regression-em"))
    assert (found.method, found.why) == ("assumed", "asked for; no list claims a relevance")


def test_a_pinned_neighbour_is_no_partner_of_a_comparison() -> None:
    items = explore([place(i, n) for n, i in enumerate("abcdef", 1)], "q-1", 1.0, fixed={3})
    one = joined([], [ranked(1, items)], [search(1, "abcdef")]).lists
    table, pairs = columns(one)
    swaps = {
        pairs[pair][1]: (bool(up), bool(down))
        for pair, up, down in zip(table.pairs, table.ups, table.downs, strict=True)
    }
    assert swaps == {
        "a": (False, True),
        "b": (True, False),
        "c": (False, False),
        "d": (False, True),
        "e": (True, True),
        "f": (True, False),
    }


def test_what_hung_on_the_long_tails_lot_is_no_partner_of_a_comparison() -> None:
    items = explore([place(i, n) for n, i in enumerate("abcdef", 1)], "q-1", 1.0, fixed={3})
    lots = [
        msgspec.structs.replace(item, shown_probability=0.01) if item.rank == 3 else item
        for item in items
    ]
    for tail, free in (((), True), (("c",), False)):
        one = joined([], [ranked(1, lots, tail_items=tail)], [search(1, "abcdef")]).lists
        table, pairs = columns(one)
        numbers = [pairs[pair][1] for pair in table.pairs]
        assert bool(table.downs[numbers.index("b")]) is free


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_the_drawn_swaps_have_the_law_of_the_workers_own(share: float) -> None:
    base = [place(f"i{n}", n) for n in range(1, 6)]
    pages = [
        explore(base, hashlib.sha256(bytes([n % 256, n // 256])).hexdigest(), share)
        for n in range(3_000)
    ]
    at, chance = explored(30_000, 5, share, np.random.default_rng(0))
    for here in range(5):
        for from_ in range(5):
            theirs = np.mean([page[here].base_rank == from_ + 1 for page in pages])
            assert np.mean(at[:, here] == from_) == pytest.approx(theirs, abs=0.03)
    told = {
        (item.base_rank - item.rank, item.base_rank): item.shown_probability
        for page in pages
        for item in page
    }
    mine = {
        (int(a - b), int(a + 1)): float(p)
        for row, ps in zip(at[:500], chance[:500], strict=True)
        for b, (a, p) in enumerate(zip(row, ps, strict=True))
    }
    assert mine == pytest.approx({key: told[key] for key in mine})


def test_a_hundred_thousand_lists_are_harvested_in_one_piece() -> None:
    table, truth = clicked(100_000)
    assert off(harvest(table, PLAIN), truth.theta) <= 0.015


@given(st.randoms(use_true_random=False), st.integers(0, 5))
@examples(max_examples=20)
def test_the_order_of_rows_does_not_matter(chance: object, seed: int) -> None:
    table, _ = clicked(500, seed=seed)
    order = np.random.default_rng(seed).permutation(len(table))
    mixed = Columns(*(getattr(table, name)[order] for name in Columns.__slots__))
    easy = ExaminationSettings(least_clicks=1, iterations=50)
    assert harvest(mixed, easy).theta == pytest.approx(harvest(table, easy).theta)
    assert em(mixed, easy)[0].theta == pytest.approx(em(table, easy)[0].theta)


@given(st.integers(0, 20), st.floats(0.0, 1.0), st.sampled_from([1, 2, 5]))
@examples(max_examples=30)
def test_every_method_gives_a_finite_positive_curve_that_is_highest_at_the_first(
    seed: int, share: float, least: int
) -> None:
    table, _ = clicked(200, seed=seed, share=share)
    for method in ("auto", "harvest", "em", "regression-em"):
        chosen = ExaminationSettings(method=method, least_clicks=least, iterations=30)
        curve = estimate(table, chosen).at(np.arange(1, 40))
        assert curve[0] == 1.0
        assert np.isfinite(curve).all()
        assert (curve > 0).all()
        assert (curve <= 1.0).all()
