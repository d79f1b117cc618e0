"""Platt's logistic: truth recovered from graded pairs, and bad input named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.calibrate import ZERO_SHOT, CalibrationError, fit_platt
from export.graded import GradedCandidate, GradedEvent, calibrate, read_graded
from export.session import open_session


@given(st.floats(0.5, 12.0), st.floats(-4.0, 4.0))
def test_the_logistic_that_made_the_grades_is_found(slope: float, intercept: float) -> None:
    cosine = np.linspace(-0.2, 0.9, 50)
    grade = 1.0 / (1.0 + np.exp(-(slope * cosine + intercept)))
    found = fit_platt(cosine, grade, "a test")
    assert found.slope == pytest.approx(slope, rel=1e-4, abs=1e-4)
    assert found.intercept == pytest.approx(intercept, rel=1e-4, abs=1e-4)
    assert found.origin == "a test"


def test_at_the_optimum_the_mean_probability_is_the_mean_grade() -> None:
    chance = np.random.default_rng(3)
    cosine = chance.uniform(0.0, 1.0, 400)
    grade = (chance.uniform(0.0, 1.0, 400) < cosine).astype(np.float64)
    found = fit_platt(cosine, grade, "a test")
    probability = 1.0 / (1.0 + np.exp(-(found.slope * cosine + found.intercept)))
    assert probability.mean() == pytest.approx(grade.mean(), abs=1e-6)


def test_separable_pairs_still_give_finite_constants() -> None:
    found = fit_platt(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0]), "a test")
    assert np.isfinite([found.slope, found.intercept]).all()


@pytest.mark.parametrize(
    ("cosine", "grade", "why"),
    [
        ([0.1, 0.9], [1.0, 0.0], "is not positive"),
        ([0.5, 0.5], [1.0, 0.0], "is not positive"),
        ([], [], "no graded pairs"),
        ([0.1, float("nan")], [0.0, 1.0], "finite"),
    ],
    ids=["falling grades", "one cosine", "nothing", "nan"],
)
def test_pairs_that_give_no_calibration_are_refused(
    cosine: list[float], grade: list[float], why: str
) -> None:
    with pytest.raises(CalibrationError, match=why):
        fit_platt(np.array(cosine), np.array(grade), "a test")


def test_the_default_rises_with_the_cosine_and_names_its_origin() -> None:
    assert ZERO_SHOT.slope > 0.0
    assert "Crowdflower" in ZERO_SHOT.origin


def line(**candidate: object) -> str:
    """One graded event."""
    candidates = [{"item_id": "a", "title": "shoe", "grade": 1.0, **candidate}]
    return json.dumps({"query_id": "q", "user_query": "shoes", "candidates": candidates})


BAD = [
    ("a grade above 1", line(grade=3), r"line 2: .*<= 1\.0.*candidates\[0\]\.grade.*got 3"),
    ("a grade that is no number", line(grade="high"), r"line 2: .*\.grade.*got 'high'"),
    ("an empty item id", line(item_id=""), r"line 2: .*\.item_id.*got ''"),
    ("no candidates", '{"query_id": "q", "user_query": "x"}', "line 2: .*`candidates`"),
    ("not JSON", "{", "line 2: "),
]


@pytest.mark.parametrize(("bad", "why"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_line_is_named_with_path_and_value(tmp_path: Path, bad: str, why: str) -> None:
    path = tmp_path / "graded.jsonl"
    path.write_text(f"{line()}\n{bad}\n")
    with pytest.raises(CalibrationError, match=why):
        read_graded(path)


def test_blank_lines_and_unknown_fields_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "graded.jsonl"
    path.write_text(f"{line(price=3)}\n\n{line(grade=0.5)}\n")
    assert [event.candidates[0].grade for event in read_graded(path)] == [1.0, 0.5]


def test_a_session_is_calibrated_through_its_own_template(small_bundle: Path) -> None:
    session = open_session(small_bundle, device="cpu")
    rising = {"shoe": 1.0, "shoes": 0.9, "9, 9": 0.2, "xylo": 0.0}
    falling = {title: 1.0 - grade for title, grade in rising.items()}
    calibration, blend = calibrate(session, [graded(rising)], "a test")
    assert calibration.slope > 0.0
    assert blend is None
    with pytest.raises(CalibrationError, match="is not positive"):
        calibrate(session, [graded(falling)], "a test")


def graded(grades: dict[str, float]) -> GradedEvent:
    """The query `shoe` with these titles."""
    candidates = tuple(
        GradedCandidate(item_id=title, title=title, grade=grade) for title, grade in grades.items()
    )
    return GradedEvent(query_id="q", user_query="shoe", candidates=candidates)
