"""What lists make of groups: by hand, against fairlearn, and as laws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from fairlearn.metrics import (  # type: ignore[import-untyped]  # ships no types
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
)
from hypothesis import given
from hypothesis import strategies as st

from worker.ranking.metrics import (
    equal_coverage,
    equal_opportunity,
    exposure,
    exposure_parity,
    exposure_per_merit,
)
from worker.ranking.metrics.parity import by_group

SECOND, THIRD = 1 / math.log2(3), 1 / math.log2(4)

Groups = list[str | None]
Places = list[int | None]
Shown = tuple[str, int | None, float]  # group, place, grade

DEPTHS = st.integers(1, 6)
CANDIDATES = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.none() | st.integers(1, 12),
        st.sampled_from([0.0, 1 / 3, 2 / 3, 1.0]),
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.parametrize(
    ("groups", "places", "relevant", "k", "covered", "opportunity"),
    [
        ([], [], [], 10, 0.0, 0.0),
        ([None, None], [1, None], [True, True], 10, 0.0, 0.0),
        (["a", "a"], [1, None], [True, True], 10, 0.0, 0.0),
        (["a", "b"], [1, 2], [True, True], 10, 0.0, 0.0),
        (["a", "b"], [1, 2], [True, True], 1, 1.0, 1.0),
        (["a", "b"], [1, None], [True, False], 10, 1.0, 0.0),
        (["a", "a", "b", "b"], [1, None, 2, 3], [True, False, True, True], 10, 0.5, 0.0),
        (["a", "a", "b", None], [None, 2, 1, None], [True, True, False, True], 10, 0.5, 0.0),
        (["a", "a", "b", "c"], [None, 2, 1, None], [True, True, True, True], 10, 1.0, 1.0),
    ],
)
def test_equal_coverage_and_equal_opportunity_by_hand(
    groups: Groups,
    places: Places,
    relevant: list[bool],
    k: int,
    covered: float,
    opportunity: float,
) -> None:
    assert equal_coverage(groups, places, k) == covered
    assert equal_opportunity(groups, places, relevant, k) == opportunity


@pytest.mark.parametrize(
    ("groups", "places", "merits", "k", "parity", "per_merit"),
    [
        ([], [], [], 10, 1.0, 1.0),
        ([None, "a"], [1, 2], [1, 1], 10, 1.0, 1.0),
        (["a", "b"], [None, None], [1, 1], 10, 1.0, 1.0),
        (["a", "b"], [1, None], [1, 1], 10, 0.0, 0.0),
        (["a", "b"], [1, 2], [1, 1], 1, 0.0, 0.0),
        (["a", "b"], [1, 2], [1, 1], 10, SECOND, SECOND),
        (["a", "b"], [2, 1], [0.5, 1], 10, SECOND, 1 / (2 * SECOND)),
        (["a", "b"], [1, 1], [1, 0], 10, 1.0, 1.0),
        (["a", "b"], [1, 3], [1, 0.5], 10, THIRD, 1.0),
        (["a", "b", "b"], [1, 1, None], [1, 1, 0], 10, 0.5, 1.0),
    ],
)
def test_fairness_of_exposure_by_hand(
    groups: Groups,
    places: Places,
    merits: list[float],
    k: int,
    parity: float,
    per_merit: float,
) -> None:
    assert exposure_parity(groups, places, k) == pytest.approx(parity)
    assert exposure_per_merit(groups, places, merits, k) == pytest.approx(per_merit)


@given(CANDIDATES, DEPTHS)
def test_equal_coverage_is_the_demographic_parity_difference_of_fairlearn(
    candidates: list[Shown], k: int
) -> None:
    groups, places, merits = _columns(candidates)
    shown = [exposure(place, k) > 0.0 for place in places]
    expected = demographic_parity_difference(_hits(merits), shown, sensitive_features=groups)
    assert equal_coverage(groups, places, k) == pytest.approx(expected)


@given(CANDIDATES, DEPTHS)
def test_equal_opportunity_is_that_of_fairlearn(candidates: list[Shown], k: int) -> None:
    groups, places, merits = _columns(candidates)
    found = equal_opportunity(groups, places, _hits(merits), k)
    able = {group for group, hit in zip(groups, _hits(merits), strict=True) if hit}
    if not able:
        assert found == 0.0
        return
    # fairlearn takes a group without a relevant candidate for one that is never shown.
    groups, places, merits = _columns([one for one in candidates if one[0] in able])
    shown = [exposure(place, k) > 0.0 for place in places]
    expected = equal_opportunity_difference(_hits(merits), shown, sensitive_features=groups)
    assert found == pytest.approx(expected)


@given(CANDIDATES, DEPTHS)
def test_exposure_parity_is_the_ratio_of_fairlearns_metric_frame(
    candidates: list[Shown], k: int
) -> None:
    groups, places, merits = _columns(candidates)
    seen = [0.0 if place is None or place > k else 1 / math.log2(place + 1) for place in places]
    found = MetricFrame(metrics=_mean, y_true=merits, y_pred=seen, sensitive_features=groups)
    if any(seen):
        assert exposure_parity(groups, places, k) == pytest.approx(found.ratio())
    else:
        assert exposure_parity(groups, places, k) == 1.0
    assert by_group(groups, seen) == pytest.approx(found.by_group.to_dict())


@given(CANDIDATES, DEPTHS)
def test_exposure_per_merit_is_the_ratio_of_fairlearns_metric_frame(
    candidates: list[Shown], k: int
) -> None:
    able = {group for group, _, merit in candidates if merit > 0.0}
    groups, places, merits = _columns([one for one in candidates if one[0] in able])
    seen = [exposure(place, k) for place in places]
    if any(seen):
        found = MetricFrame(metrics=_per, y_true=merits, y_pred=seen, sensitive_features=groups)
        expected = found.ratio()
    else:
        expected = 1.0
    assert exposure_per_merit(*_columns(candidates), k) == pytest.approx(expected)


@given(CANDIDATES, st.permutations("abc"))
def test_groups_are_compared_whatever_their_names_and_their_order(
    candidates: list[Shown], names: list[str]
) -> None:
    renamed = [(names["abc".index(group)], place, merit) for group, place, merit in candidates]
    before, after = _columns(candidates), _columns(renamed[::-1])
    assert equal_coverage(*after[:2]) == pytest.approx(equal_coverage(*before[:2]))
    assert exposure_parity(*after[:2]) == pytest.approx(exposure_parity(*before[:2]))
    assert exposure_per_merit(*after) == pytest.approx(exposure_per_merit(*before))


def _columns(
    candidates: Sequence[Shown],
) -> tuple[list[str], Places, list[float]]:
    return (
        [group for group, _, _ in candidates],
        [place for _, place, _ in candidates],
        [merit for _, _, merit in candidates],
    )


def _hits(merits: Sequence[float]) -> list[bool]:
    return [merit > 0.5 for merit in merits]


def _mean(_merits: Sequence[float], seen: Sequence[float]) -> float:
    return float(np.mean(seen))


def _per(merits: Sequence[float], seen: Sequence[float]) -> float:
    return float(np.mean(seen) / np.mean(merits))
