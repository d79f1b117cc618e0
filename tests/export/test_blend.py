"""The second stage's logit: what it is made of, its laws, and its constants found again."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.blend import Blend, Curve, Doubles
from export.calibrate import CalibrationError, fit_blend

NUMBERS = st.floats(-1e6, 1e6)
SHARES = st.floats(0.0, 1.0)
WEIGHTS = st.floats(-5.0, 5.0)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    knots = sorted(
        draw(st.lists(NUMBERS, min_size=2, max_size=17).filter(lambda k: min(k) < max(k)))
    )
    return Curve(knots=tuple(knots), weight=draw(WEIGHTS))


@st.composite
def blends(draw: st.DrawFn) -> Blend:
    return Blend(
        pair=draw(st.floats(0.01, 5.0)),
        cosine=draw(st.floats(0.0, 5.0)),
        engine=draw(st.floats(0.0, 5.0)),
        intercept=draw(WEIGHTS),
        features={name: draw(curves()) for name in draw(st.sets(st.sampled_from("abc")))},
        origin="a test",
    )


def row(blend: Blend, pair: float, cosine: float, engine: float, **features: float) -> float:
    """The logit of one pair."""
    arrays = {name: np.array([value]) for name, value in features.items()}
    found = blend.logits(np.array([pair]), np.array([cosine]), np.array([engine]), arrays)
    return float(found[0])


def plain(**fields: Any) -> Blend:
    """A blend; say what matters."""
    return Blend(**{"pair": 1.0, "cosine": 0.0, "intercept": 0.0, "origin": "a test", **fields})


def test_the_logit_is_the_sum_of_its_parts() -> None:
    ctr = Curve(knots=(0.0, 0.1, 1.0), weight=4.0)
    blend = plain(pair=2.0, cosine=3.0, engine=5.0, intercept=-1.0, features={"ctr": ctr})
    assert row(blend, 0.5, 0.2, 0.9, ctr=0.1) == pytest.approx(2 * 0.5 + 3 * 0.2 + 5 * 0.4 - 1)
    assert row(blend, 0.0, 0.0, 0.5, ctr=1.0) == 4.0 * 0.5 - 1.0


def test_what_is_missing_adds_nothing() -> None:
    blend = plain(engine=5.0, features={"ctr": Curve(knots=(0.0, 1.0), weight=4.0)})
    assert row(blend, 0.7, 0.2, 0.5) == 0.7
    assert row(blend, 0.7, 0.2, 0.5, ctr=np.nan) == 0.7
    assert row(blend, 0.7, 0.2, 0.5, unheard_of=3.0) == 0.7


@given(blends(), NUMBERS, NUMBERS, st.floats(-1.0, 1.0), SHARES)
def test_a_better_pair_never_has_a_lower_logit(
    blend: Blend, low: float, high: float, cosine: float, engine: float
) -> None:
    low, high = sorted((low, high))
    assert row(blend, low, cosine, engine) <= row(blend, high, cosine, engine)


@given(blends(), st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=2), SHARES)
def test_a_nearer_item_never_has_a_lower_logit(
    blend: Blend, cosines: list[float], engine: float
) -> None:
    low, high = sorted(cosines)
    assert row(blend, 1.0, low, engine) <= row(blend, 1.0, high, engine)


@given(blends(), st.lists(SHARES, min_size=2, max_size=2))
def test_what_the_engine_prefers_never_has_a_lower_logit(blend: Blend, shares: list[float]) -> None:
    low, high = sorted(shares)
    assert row(blend, 1.0, 0.5, low) <= row(blend, 1.0, 0.5, high)


@given(curves(), st.lists(NUMBERS, min_size=1))
def test_a_share_rises_with_its_feature_and_stays_in_the_unit_interval(
    curve: Curve, values: list[float]
) -> None:
    shares = curve.share(np.sort(values))
    assert (np.diff(shares) >= 0.0).all()
    assert ((shares >= 0.0) & (shares <= 1.0)).all()
    assert curve.share(np.array([curve.knots[0] - 1.0, curve.knots[-1] + 1.0])).tolist() == [0, 1]


@given(blends(), st.lists(st.tuples(NUMBERS, st.floats(-1, 1), SHARES, NUMBERS), min_size=1))
def test_a_row_is_bit_equal_in_any_company(
    blend: Blend, rows: list[tuple[float, float, float, float]]
) -> None:
    pair, cosine, engine, feature = (np.array(column) for column in zip(*rows, strict=True))
    together = blend.logits(pair, cosine, engine, {"a": feature, "c": feature})
    for each, found in zip(rows, together, strict=True):
        assert row(blend, *each[:3], a=each[3], c=each[3]) == found


@given(blends())
def test_a_blend_survives_its_manifest_to_the_last_bit(blend: Blend) -> None:
    again = msgspec.json.decode(msgspec.json.encode(blend, order="deterministic"), type=Blend)
    parts = (0.3, 0.7, 0.2)
    assert row(again, *parts, a=1.0, b=2.0, c=3.0) == row(blend, *parts, a=1.0, b=2.0, c=3.0)


@pytest.mark.parametrize(
    ("knots", "why"),
    [
        ((1.0, 0.0), "never fall"),
        ((0.0, float("nan")), "finite"),
        ((1.0, 1.0), "constant"),
    ],
)
def test_knots_that_are_no_distribution_are_refused(knots: tuple[float, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Curve(knots=knots, weight=1.0)


def made(rows: int = 4000, seed: int = 5) -> dict[str, Any]:
    """Pairs whose chance is known: pair 1.5, cosine 2, engine 1, price -3 by its share, -1."""
    chance = np.random.default_rng(seed)
    pair, cosine = chance.normal(0.0, 1.5, rows), chance.uniform(0.0, 1.0, rows)
    engine, price = chance.uniform(0.0, 1.0, rows), chance.lognormal(3.0, 1.0, rows)
    place = np.argsort(np.argsort(price)) / (rows - 1)
    logit = 1.5 * pair + 2.0 * cosine + 1.0 * (engine - 0.5) - 3.0 * (place - 0.5) - 1.0
    return {
        "pair": pair,
        "cosine": cosine,
        "engine_share": engine,
        "features": {"price": price},
        "grade": 1.0 / (1.0 + np.exp(-logit)),
        "weight": np.ones(rows),
        "lists": 100 * rows,
        "origin": "a test",
    }


def test_the_blend_that_made_the_grades_is_found() -> None:
    found = fit_blend(**made())
    assert found.pair == pytest.approx(1.5, abs=0.02)
    assert found.cosine == pytest.approx(2.0, abs=0.02)
    assert found.engine == pytest.approx(1.0, abs=0.02)
    assert found.intercept == pytest.approx(-1.0, abs=0.02)
    assert found.features["price"].weight == pytest.approx(-3.0, abs=0.1)
    assert len(found.features["price"].knots) == 17


def test_a_weight_counts_as_that_many_rows() -> None:
    given_rows = made(60)
    given_rows["features"] = {}
    weight = np.random.default_rng(2).integers(0, 3, 60)
    weighted = fit_blend(**{**given_rows, "weight": weight.astype(np.float64)})
    arrays = ("pair", "cosine", "engine_share", "grade")
    repeated = {name: np.repeat(given_rows[name], weight) for name in arrays}
    again = fit_blend(**{**given_rows, **repeated, "weight": np.ones(int(weight.sum()))})
    assert weighted.pair == pytest.approx(again.pair, rel=1e-6)
    assert weighted.cosine == pytest.approx(again.cosine, rel=1e-6)


def test_few_lists_leave_the_pair_model_alone_and_many_decide() -> None:
    few, some, many = (fit_blend(**{**made(400), "lists": lists}) for lists in (1, 100, 1_000_000))
    assert few.cosine / few.pair < some.cosine / some.pair < many.cosine / many.pair
    assert few.cosine < 0.1
    assert abs(few.features["price"].weight) < 0.1
    assert many.cosine == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("weight", [1e-3, 1.0, 20.0])
def test_what_a_pair_weighs_does_not_stand_for_lists(weight: float) -> None:
    heavy = fit_blend(**{**made(400), "weight": np.full(400, weight), "lists": 50})
    light = fit_blend(**{**made(400), "lists": 50})
    assert heavy.pair == pytest.approx(light.pair, rel=1e-6)
    assert heavy.cosine == pytest.approx(light.cosine, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_the_scale_of_the_pair_model_s_logit_does_not_matter(scale: float) -> None:
    """Losses of whole lists leave it free."""
    given_rows = {**made(400), "lists": 50}
    found = fit_blend(**{**given_rows, "pair": scale * given_rows["pair"]})
    usual = fit_blend(**given_rows)
    assert found.pair * scale == pytest.approx(usual.pair, rel=1e-4)
    assert found.cosine == pytest.approx(usual.cosine, rel=1e-4)


@pytest.mark.parametrize("falling", ["cosine", "engine_share"])
def test_a_part_that_would_count_against_relevance_is_left_out(falling: str) -> None:
    given_rows = made(400)
    given_rows[falling] = 1.0 - given_rows[falling]
    found = fit_blend(**given_rows)
    weights = {"cosine": found.cosine, "engine_share": found.engine}
    assert weights.pop(falling) == 0.0
    assert weights.popitem()[1] > 0.0


def test_both_parts_are_left_out_where_both_would_count_against_it() -> None:
    given_rows = made(400)
    for name in ("cosine", "engine_share"):
        given_rows[name] = 1.0 - given_rows[name]
    found = fit_blend(**given_rows)
    assert (found.cosine, found.engine) == (0.0, 0.0)


def known_in(share: float, values: Doubles) -> Doubles:
    """The values, with all but a share of them missing."""
    return np.where(np.arange(len(values)) < share * len(values), values, np.nan)


def test_a_feature_enters_only_where_enough_is_known_of_it() -> None:
    given_rows = made(400)
    price = given_rows["features"]["price"]
    given_rows["features"] = {
        "often": known_in(0.1, price),
        "rarely": known_in(0.09, price),
        "never": known_in(0.0, price),
        "constant": np.ones(400),
        "a_flag": (price > 20.0).astype(np.float64),
    }
    found = fit_blend(**given_rows).features
    assert set(found) == {"often", "a_flag"}
    assert found["a_flag"].knots == (0.0, 1.0)


def test_a_pair_model_that_orders_worse_than_chance_is_refused() -> None:
    given_rows = made(400)
    with pytest.raises(CalibrationError, match="orders worse than chance by itself"):
        fit_blend(**{**given_rows, "pair": -given_rows["pair"]})


def test_a_pair_model_that_only_repeats_the_cosine_badly_is_refused() -> None:
    given_rows = made(400)
    noise = np.random.default_rng(3).normal(0.0, 0.1, 400)
    cosine = given_rows["cosine"]
    grade = 1.0 / (1.0 + np.exp(-(8.0 * cosine - 4.0 - 2.0 * noise)))
    with pytest.raises(CalibrationError, match="worse than chance beside the cosine"):
        fit_blend(**{**given_rows, "pair": cosine + noise, "grade": grade})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"weight": np.zeros(50)}, "some above"),
        ({"weight": -np.ones(50)}, "at least 0"),
        ({"pair": np.full(50, np.nan)}, "finite"),
        ({"grade": np.full(50, np.inf)}, "finite"),
    ],
    ids=["no weight", "a negative weight", "no logit", "no grade"],
)
def test_rows_that_give_no_blend_are_refused(changed: dict[str, Doubles], why: str) -> None:
    with pytest.raises(CalibrationError, match=why):
        fit_blend(**{**made(50), **changed})
