"""The gate: what stops a challenger, what lets it pass, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.gate import Check, GateSettings, decide, judged, known

SETTINGS = GateSettings(margins={"relevance": 0.01, "diversity": 0.02}, asked=("relevance",))


def check(measure: str, low: float, high: float, on: str = "held-out") -> Check:
    """A change of (low + high) / 2 on top of .5."""
    change = (low + high) / 2
    return judged(
        Check(
            measure=measure,
            on=on,
            champion=0.5,
            challenger=0.5 + change,
            change=change,
            low=low,
            high=high,
        ),
        SETTINGS,
    )


@pytest.mark.parametrize(
    ("measure", "low", "high", "verdict"),
    [
        ("relevance", 0.001, 0.02, "better"),
        ("relevance", -0.009, 0.02, "held"),
        ("relevance", -0.011, 0.02, "worse"),  # a loss beyond the margin cannot be excluded
        ("relevance", -0.03, -0.02, "worse"),
        ("diversity", -0.019, -0.001, "held"),  # surely a little worse, and within the margin
        ("ild", -0.5, -0.4, "held"),  # not guarded: shown, never in the way
    ],
)
def test_a_change_is_judged_by_its_interval(
    measure: str, low: float, high: float, verdict: str
) -> None:
    assert check(measure, low, high).verdict == verdict


@pytest.mark.parametrize(
    ("measure", "low", "high", "says"),
    [
        ("relevance", 0.001, 0.02, "relevance on held-out better: "),
        ("relevance", -0.03, -0.02, "relevance on held-out worse: "),
        ("relevance", -0.2, 0.3, "relevance on held-out not shown to be no worse: "),
        ("relevance", -0.009, -0.001, "relevance on held-out worse within its margin: "),
        ("ild", -0.5, -0.4, "ild on held-out worse and not guarded: "),
        ("ild", -0.5, 0.4, "ild on held-out held: "),
    ],
)
def test_a_loss_that_cannot_be_excluded_is_not_called_one_that_is_certain(
    measure: str, low: float, high: float, says: str
) -> None:
    assert check(measure, low, high).line.startswith(says)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"margins": {"relevanse": 0.01}}, r"'relevanse': expected one of relevance, diversity"),
        ({"asked": ("relevnce",)}, r"'relevnce': expected one of relevance"),
        ({"floors": {"parity": 0.8}}, r"'parity': expected one of .*, exposure_parity"),
        ({"asked": ()}, r"asked: nothing, so that nothing could be promoted"),
    ],
)
def test_a_measure_that_there_is_not_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GateSettings(**settings)


def test_what_was_not_measured_is_not_known_and_stands_in_nobodys_way() -> None:
    nothing = judged(Check(measure="relevance", on="golden", note="no golden queries"), SETTINGS)
    assert nothing.verdict == "unknown"
    assert "no golden queries" in nothing.line
    assert decide([nothing, check("relevance", 0.01, 0.02)], SETTINGS).promote


def test_where_all_that_was_asked_for_is_unknown_the_reason_says_so() -> None:
    few = known(check("relevance", 0.01, 0.02), 6, 6, SETTINGS)
    decision = decide([few, check("calibration", -0.005, 0.005)], SETTINGS)
    assert not decision.promote
    assert decision.reason.startswith("refused: nothing asked for is known: relevance on held-out")
    assert decision.reason.endswith("6 of 6 queries tell of it, 20 are needed")


def test_nothing_better_means_nothing_changes() -> None:
    decision = decide([check("relevance", -0.005, 0.005)], SETTINGS)
    assert not decision.promote
    assert decision.reason.startswith("refused: nothing asked for got better")


def test_a_gain_that_nobody_asked_for_is_not_enough() -> None:
    assert not decide([check("diversity", 0.1, 0.2)], SETTINGS).promote


def test_one_guarded_loss_outweighs_every_gain_and_is_named() -> None:
    checks = [check("relevance", 0.1, 0.2), check("diversity", -0.2, -0.1, on="golden")]
    decision = decide(checks, SETTINGS)
    assert not decision.promote
    assert "diversity on golden worse" in decision.reason
    assert "may lose 0.02" in decision.reason


def test_what_became_better_is_the_reason_for_a_promotion() -> None:
    decision = decide([check("relevance", 0.01, 0.03)], SETTINGS)
    assert decision.promote
    assert decision.reason == (
        "promoted: relevance on held-out better: 0.5000 -> 0.5200 "
        "(+0.0200, 95 % between +0.0100 and +0.0300), may lose 0.01"
    )


SIZES = st.floats(-0.5, 0.5)


@given(st.lists(st.tuples(st.sampled_from(["relevance", "diversity"]), SIZES, SIZES), max_size=6))
def test_a_promotion_has_no_guarded_loss_and_at_least_one_gain(
    changes: list[tuple[str, float, float]],
) -> None:
    checks = [check(measure, min(a, b), max(a, b)) for measure, a, b in changes]
    decision = decide(checks, SETTINGS)
    surely_lost = [
        each for each in checks if each.low is not None and each.low < -(each.margin or 0)
    ]
    gains = [each for each in checks if each.measure == "relevance" and (each.low or 0) > 0]
    assert decision.promote == (not surely_lost and bool(gains))
