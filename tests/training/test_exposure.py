"""The losses of fairness: where they are 0, by hand, what descending them does, and nothing off."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.training.attacked import batch as pairs
from training.batches import Batch
from training.equity import Due, Fairness, Groups
from training.exposure import disparity, exposure_loss, exposures, opportunity_loss
from training.model import Reading
from training.recipe import Recipe
from training.step import losses
from worker.ranking.metrics import exposure, exposure_per_merit

BRANDS = (Groups(field="brand"),)
COLD = 1e-3  # a temperature at which soft ranks are ranks
seeds = st.integers(0, 2**32 - 1)


def ways(*lists: list[int]) -> Tensor:
    """Groups of lists of equal length, told apart in one way: [b, n, 1]."""
    return torch.tensor(lists).unsqueeze(-1)


def loss_of(
    logits: Tensor, groups: Tensor, grades: Tensor | None = None, due: Due = "equal"
) -> Tensor:
    counted = torch.ones_like(logits)
    seen = exposures(logits, counted, 0.2)
    worth = counted if grades is None else grades
    return exposure_loss(seen, groups, counted, worth, Fairness(groups=BRANDS, due=due))


@given(seeds, st.integers(1, 8))
def test_cold_an_exposure_is_that_of_the_place_over_the_lists_mean(seed: int, count: int) -> None:
    order = np.random.default_rng(seed).permutation(count)
    seen = exposures(-torch.from_numpy(order).float()[None], torch.ones(1, count), COLD)
    places = np.array([exposure(place + 1, count) for place in order])
    assert seen[0].tolist() == pytest.approx(places / places.mean(), rel=1e-4)


@given(seeds)
def test_padding_is_not_seen_and_changes_nobodys_exposure(seed: int) -> None:
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(seed))
    counted = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    seen = exposures(logits, counted, 0.2)
    torch.testing.assert_close(seen[:, :3], exposures(logits[:, :3], counted[:, :3], 0.2))
    assert not seen[:, 3:].any()


@given(seeds, st.sampled_from(["equal", "merit"]))
def test_it_is_never_negative(seed: int, due: Due) -> None:
    chance = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 6, generator=chance)
    groups = torch.randint(-1, 3, (3, 6, 2), generator=chance)
    found = loss_of(logits, groups, torch.rand(3, 6, generator=chance), due)
    assert found >= 0.0
    assert torch.isfinite(found)


@given(seeds)
def test_groups_that_change_places_from_list_to_list_are_even(seed: int) -> None:
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed))
    groups = ways([0, 0, 1, 1], [1, 1, 0, 0])
    assert loss_of(logits.expand(2, 4), groups) == pytest.approx(0.0, abs=1e-9)
    assert loss_of(torch.zeros(2, 4), ways([0, 0, 0, 1], [1, 2, 2, -1])) == pytest.approx(0.0)


def test_by_hand_it_is_the_squared_difference_of_two_groups_mean_exposures() -> None:
    logits, groups = torch.tensor([[3.0, 2.0, 1.0]]), ways([0, 1, 1])
    places = [1.0, 1 / math.log2(3), 1 / 2]
    first, second, third = (each / (sum(places) / 3) for each in places)
    seen = exposures(logits, torch.ones(1, 3), COLD)
    found = disparity(seen, groups, torch.ones(1, 3), torch.ones(1, 3))
    assert float(found) == pytest.approx((first - (second + third) / 2) ** 2, rel=1e-4)


def test_by_merit_a_group_is_due_what_its_grades_are() -> None:
    seen, groups = torch.tensor([[1.5, 0.75]]), ways([0, 1])
    even, counted = torch.tensor([[1.0, 0.5]]), torch.ones(1, 2)
    assert exposure_per_merit(["a", "b"], [1, 3], [1.0, 0.5]) == 1.0
    assert disparity(seen, groups, counted, even) == 0.0
    assert disparity(seen, groups, counted, counted) == pytest.approx(0.75**2)


def test_a_group_without_merit_does_not_count() -> None:
    found = loss_of(torch.tensor([[2.0, 1.0]]), ways([0, 1]), torch.tensor([[1.0, 0.0]]), "merit")
    assert found == 0.0


@pytest.mark.parametrize("groups", [[0, 1, 1], [1, 0, 0]])
def test_descending_it_moves_two_groups_together(groups: list[int]) -> None:
    logits = torch.tensor([[0.6, 0.3, 0.0]], requires_grad=True)
    before = loss_of(logits, ways(groups))
    torch.autograd.backward(before)
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1:].max(), "down goes the first, up the others"
    assert loss_of(logits - 0.1 * logits.grad, ways(groups)) < before


def test_opportunity_looks_at_the_relevant_alone() -> None:
    counted, groups = torch.ones(1, 4), ways([0, 1, 0, 1])
    fairness = Fairness(groups=BRANDS)
    grades = torch.tensor([[1.0, 1.0, 0.0, 0.3]])
    logits = torch.tensor([[1.0, 1.0, 0.2, -5.0]])
    seen = exposures(logits, counted, 0.2)
    assert opportunity_loss(seen, groups, counted, grades, fairness) == pytest.approx(0.0, abs=1e-9)
    assert exposure_loss(seen, groups, counted, grades, fairness) > 1e-3
    apart = exposures(torch.tensor([[1.0, 0.8, 0.2, -5.0]]), counted, 0.2)
    assert opportunity_loss(apart, groups, counted, grades, fairness) > 1e-4


@given(st.integers(-1, 0))
def test_without_two_groups_there_is_nothing_to_move(number: int) -> None:
    logits = torch.tensor([[2.0, 1.0]], requires_grad=True)
    found = loss_of(logits, ways([number, number]))
    assert found == 0.0
    torch.autograd.backward(found)
    assert logits.grad is not None
    assert not logits.grad.any()


def step(one: Batch, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    logits = torch.linspace(-1.0, 1.0, one.rows.numel()).reshape(one.rows.shape)
    return losses(one, Reading(logits.new_zeros(6, 2), logits, None), recipe)


def test_off_a_step_is_bit_equal_and_on_the_total_is_the_weighted_sum() -> None:
    plain = pairs()
    told = plain._replace(groups=torch.randint(0, 2, (*plain.rows.shape, 1)))
    off, parts = step(plain, Recipe())
    assert list(parts) == ["relevance"]
    unasked, _ = step(told, Recipe(fairness=Fairness(groups=BRANDS)))
    assert torch.equal(off, unasked)
    fairness = Fairness(groups=BRANDS, exposure=0.5, opportunity=2.0)
    total, parts = step(told, Recipe(fairness=fairness))
    assert list(parts) == ["relevance", "exposure", "opportunity"]
    torch.testing.assert_close(
        total, parts["relevance"] + 0.5 * parts["exposure"] + 2.0 * parts["opportunity"]
    )
    half = msgspec.structs.replace(fairness, exposure=0.0)
    assert list(step(told, Recipe(fairness=half))[1]) == ["relevance", "opportunity"]
