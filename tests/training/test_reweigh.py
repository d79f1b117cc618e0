"""Re-weighting: the laws of independence, the hand formula, and what is left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fairlearn.metrics import (  # type: ignore[import-untyped]  # ships no types
    MetricFrame,
    selection_rate,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined
from tests.training.lists import labelled_lists
from training.dataset import LabelledList
from training.equity import Fairness, Groups
from training.reweigh import factors, reweighed

BRANDS = Fairness(groups=(Groups(field="brand"),), fewest=1, reweigh=True)
Row = tuple[str, bool, float]
rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0.1, 20.0)), min_size=1, max_size=40
)


def found(data: Sequence[Row]) -> tuple[list[tuple[str, ...] | None], np.ndarray, np.ndarray]:
    groups: list[tuple[str, ...] | None] = [(group,) for group, _, _ in data]
    weights = np.array([weight for _, _, weight in data])
    return groups, weights, factors(groups, [label for _, label, _ in data], weights)


def shelf(*rows: tuple[str | None, float], weight: float = 1.0) -> LabelledList:
    """A list of (brand, grade)."""
    items = [candidate(str(place), brand=brand) for place, (brand, _) in enumerate(rows)]
    grades = np.array([grade for _, grade in rows])
    return LabelledList(joined(event(items)), grades, np.full(len(rows), weight))


@given(rows)
def test_the_weighted_table_of_group_and_label_factorises(data: list[Row]) -> None:
    _, weights, factor = found(data)
    both = {g for g, _, _ in data if {label for o, label, _ in data if o == g} == {True, False}}
    mass = {
        (g, label): sum(
            w * f for (o, other, _), w, f in zip(data, weights, factor, strict=True)
            if (o, other) == (g, label)
        )
        for g in both
        for label in (True, False)
    }  # fmt: skip
    total = sum(mass.values())
    for group in both:
        of_group = mass[group, True] + mass[group, False]
        for label in (True, False):
            of_label = sum(mass[other, label] for other in both)
            assert mass[group, label] == pytest.approx(of_group * of_label / total)


@given(rows)
def test_the_mean_weight_is_1_of_each_group_too(data: list[Row]) -> None:
    groups, weights, factor = found(data)
    assert np.average(factor, weights=weights) == pytest.approx(1.0)
    for group in set(groups):
        of = [place for place, each in enumerate(groups) if each == group]
        assert np.average(factor[of], weights=weights[of]) == pytest.approx(1.0)


@given(rows)
def test_fairlearn_finds_every_group_relevant_as_often(data: list[Row]) -> None:
    groups, weights, factor = found(data)
    labels = [label for _, label, _ in data]
    both = {
        g for g in groups if len({la for o, la in zip(groups, labels, strict=True) if o == g}) == 2
    }
    kept = [place for place, group in enumerate(groups) if group in both]
    if len(both) > 1:
        frame = MetricFrame(
            metrics=selection_rate,
            y_true=[labels[place] for place in kept],
            y_pred=[labels[place] for place in kept],
            sensitive_features=[str(groups[place]) for place in kept],
            sample_params={"sample_weight": (weights * factor)[kept]},
        )
        assert frame.difference() == pytest.approx(0.0, abs=1e-9)


def test_by_hand_it_is_the_formula_of_kamiran_and_calders() -> None:
    # 4 of acme, 3 of them relevant; 6 of birch, 1 of them.
    lists = [
        shelf(("Acme", 1.0), ("Acme", 1.0), ("Birch", 0.0), ("Birch", 0.0), ("Birch", 0.3)),
        shelf(("acme", 0.7), ("acme", 0.0), ("birch", 1.0), ("birch", 0.0), ("birch", 0.0)),
    ]
    good, bad = 4 / 10 * 4 / 10 / (3 / 10), 4 / 10 * 6 / 10 / (1 / 10)
    birch_good, birch_bad = 6 / 10 * 4 / 10 / (1 / 10), 6 / 10 * 6 / 10 / (5 / 10)
    first, second = reweighed(lists, BRANDS)
    assert first.weights == pytest.approx([good, good, birch_bad, birch_bad, birch_bad])
    assert second.weights == pytest.approx([good, bad, birch_good, birch_bad, birch_bad])


def test_what_cannot_be_parted_keeps_its_weights() -> None:
    one = shelf(("Acme", 1.0), ("Acme", 0.0), ("Birch", 0.0), (None, 1.0), weight=3.0)
    (found,) = reweighed([one], BRANDS)
    assert found.weights.tolist() == [3.0] * 4, "birch is never relevant, and one has no brand"
    few = replace(one, weights=np.array([1.0, 1.0, 0.0, 1.0]))
    (found,) = reweighed([few], BRANDS)
    assert found.weights.tolist() == few.weights.tolist()


def test_a_small_group_is_none() -> None:
    one = shelf(*[("Acme", 1.0), ("Acme", 0.0)] * 2, ("Birch", 1.0), ("Birch", 0.0))
    few = Fairness(groups=BRANDS.groups, fewest=3, reweigh=True)
    assert reweighed([one], few)[0].weights.tolist() == [1.0] * 6


def test_off_the_lists_are_the_same_objects() -> None:
    lists = labelled_lists(5)
    assert reweighed(lists, Fairness(groups=BRANDS.groups)) is lists
