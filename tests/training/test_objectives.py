"""The diversity loss, and the ways to descend two objectives at once."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import UPGradWeighting
from torchjd.scalarization import STCH

from training.objectives import category_chances, combined, diversity_loss, upgrad_weights
from training.recipe import Combine
from worker.ranking.metrics import alpha_ndcg

COLD = 1e-3  # a temperature at which soft ranks are ranks
FLOOR = torch.tensor(0.0)


def one_hot(*categories: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor([categories]), max(categories) + 1).float()


def loss_of(logits: list[float], grades: list[float], chances: Tensor, soft: float = COLD) -> float:
    scores, worth = torch.tensor([logits]), torch.tensor([grades])
    return float(diversity_loss(scores, worth, torch.ones_like(worth), chances, 0.5, soft))


@given(
    categories=st.lists(st.integers(0, 2), min_size=2, max_size=7),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_cold_and_certain_it_is_one_minus_alpha_ndcg(
    categories: list[int], seed: int, data: st.DataObject
) -> None:
    count = len(categories)
    relevant = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    logits = [float(-order.index(item)) for item in range(count)]
    subtopics = [
        frozenset({str(category)}) if good else frozenset()
        for category, good in zip(categories, relevant, strict=True)
    ]
    grades = [float(good) for good in relevant]
    expected = alpha_ndcg([subtopics[item] for item in order], subtopics, count)
    found = loss_of(logits, grades, one_hot(*categories))
    assert found == pytest.approx(1.0 - expected if any(relevant) else 0.0, abs=1e-4)


def test_an_order_that_covers_more_costs_less() -> None:
    chances = one_hot(0, 0, 1)
    covering = loss_of([3.0, 1.0, 2.0], [1.0, 1.0, 1.0], chances, soft=0.2)
    assert covering < loss_of([3.0, 2.0, 1.0], [1.0, 1.0, 1.0], chances, soft=0.2)


def test_another_category_is_worth_nothing_where_it_is_not_relevant() -> None:
    chances = one_hot(0, 0, 1)
    assert loss_of([3.0, 2.0, 1.0], [1.0, 1.0, 0.0], chances) == pytest.approx(0.0, abs=1e-4)
    assert loss_of([3.0, 1.0, 2.0], [1.0, 1.0, 0.0], chances) > 0.04


def test_descending_it_moves_the_new_category_past_the_one_that_was_shown() -> None:
    logits = torch.tensor([[1.0, 0.9, 0.8]], requires_grad=True)
    ones = torch.ones(1, 3)
    torch.autograd.backward(diversity_loss(logits, ones, ones, one_hot(0, 0, 1), 0.5, 0.2))
    assert logits.grad is not None
    assert logits.grad[0, 1] > logits.grad[0, 2]


EDGES = {
    "nothing is relevant": (torch.zeros(2, 3), torch.ones(2, 3)),
    "one item": (torch.ones(2, 1), torch.ones(2, 1)),
    "nothing counts": (torch.ones(2, 3), torch.zeros(2, 3)),
    "one list counts nothing": (torch.ones(2, 3), torch.tensor([[0.0, 0, 0], [1.0, 1, 0]])),
}


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize(("grades", "weights"), EDGES.values(), ids=EDGES)
def test_it_and_its_gradient_are_finite(grades: Tensor, weights: Tensor, count: int) -> None:
    logits = (100 * torch.randn(grades.shape)).requires_grad_()
    chances = torch.softmax(torch.randn(*grades.shape, count), -1)
    loss = diversity_loss(logits, grades, weights, chances, 0.5, 0.2)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@given(seed=st.integers(0, 10_000))
def test_padding_counts_nothing(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    logits, grades = torch.randn(2, 5, generator=chance), torch.rand(2, 5, generator=chance)
    chances = torch.softmax(torch.randn(2, 5, 3, generator=chance), -1)
    weights = torch.ones(2, 5)
    plain = diversity_loss(logits, grades, weights, chances, 0.5, 0.2)
    wide, worth = (torch.cat([each, each[:, :2]], 1) for each in (logits, grades))
    padded = torch.cat([weights, torch.zeros(2, 2)], 1)
    more = torch.cat([chances, chances[:, :2]], 1)
    torch.testing.assert_close(plain, diversity_loss(wide, worth, padded, more, 0.5, 0.2))


def test_a_category_that_the_event_names_wins_over_the_heads_word() -> None:
    logits = torch.zeros(1, 2, 3)
    found = category_chances(logits, torch.tensor([[2, -1]]), 3)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]]))
    assert not category_chances(None, torch.tensor([[-1]]), 3).any()


def test_the_category_head_gets_no_gradient_from_the_diversity_loss() -> None:
    logits = torch.randn(1, 4, requires_grad=True)
    categories = torch.randn(1, 4, 3, requires_grad=True)
    chances = category_chances(categories, torch.full((1, 4), -1), 3)
    torch.autograd.backward(
        diversity_loss(logits, torch.ones(1, 4), torch.ones(1, 4), chances, 0.5, 0.2)
    )
    assert categories.grad is None
    assert logits.grad is not None
    assert logits.grad.any()


@pytest.mark.parametrize("preference", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.8)])
@pytest.mark.parametrize("seed", range(6))
def test_upgrads_weights_are_those_of_torchjd(seed: int, preference: tuple[float, float]) -> None:
    chance = torch.Generator().manual_seed(seed)
    gradients = torch.randn(2, 3, generator=chance, dtype=torch.float64)
    gradients[1] -= seed * gradients[0] / 2  # from free to opposed
    theirs = UPGradWeighting(torch.tensor(preference, dtype=torch.float64))
    expected = theirs(gradients @ gradients.T)
    found = torch.tensor(upgrad_weights(gradients, preference), dtype=torch.float64)
    # torchjd adds 1e-4 to the diagonal of its normalised Gramian
    torch.testing.assert_close(found, expected, atol=0, rtol=0.02)


@given(seed=st.integers(0, 10_000), tilt=st.floats(0.0, 3.0), first=st.floats(0.0, 1.0))
def test_upgrad_lowers_neither_objective(seed: int, tilt: float, first: float) -> None:
    gradients = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed)).double()
    gradients[1] -= tilt * gradients[0]
    weights = torch.tensor(upgrad_weights(gradients, (first, 1 - first)), dtype=torch.float64)
    assert ((gradients @ (weights @ gradients)) >= -1e-9).all()


@pytest.mark.parametrize("still", [0, 1])
def test_an_objective_without_a_gradient_leaves_the_other_as_it_is(still: int) -> None:
    gradients = torch.randn(2, 4)
    gradients[still] = 0.0
    assert upgrad_weights(gradients, (0.7, 0.3)) == (0.7, 0.3)


def two_losses(free: Tensor) -> tuple[Tensor, Tensor]:
    return ((free - 1.0) ** 2).mean(), ((free + 0.5) ** 2).mean()


def test_the_sum_weighs_the_two() -> None:
    first, second = torch.tensor(0.6), torch.tensor(0.2)
    assert float(combined("sum", first, second, 0.25, FLOOR, first)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("relevance", "diversity", "weight"),
    [*itertools.product((0.3, 0.9), (0.1, 0.8), (0.2, 0.6))],
)
def test_chebyshev_is_the_limit_of_torchjds_smooth_one(
    relevance: float, diversity: float, weight: float
) -> None:
    values = torch.tensor([relevance, diversity])
    least = torch.tensor(0.25)
    found = combined("chebyshev", values[0], values[1], weight, least, values)
    theirs = STCH(1e-4, torch.tensor([1 - weight, weight]), torch.tensor([0.25, 0.0]))
    assert float(found) == pytest.approx(float(theirs(values)), abs=1e-3)


def test_pareto_descends_along_upgrads_direction() -> None:
    pooled = torch.randn(3, 2, requires_grad=True)
    relevance, diversity = two_losses(pooled)
    torch.autograd.backward(combined("pareto", relevance, diversity, 0.4, FLOOR, pooled))
    rows = [torch.autograd.grad(loss, pooled)[0].flatten() for loss in two_losses(pooled)]
    weights = torch.tensor(upgrad_weights(torch.stack(rows), (0.6, 0.4)))
    assert pooled.grad is not None
    torch.testing.assert_close(pooled.grad.flatten(), weights @ torch.stack(rows))


@pytest.mark.parametrize("how", ["sum", "chebyshev", "pareto"])
def test_every_way_descends_to_where_neither_can_gain_without_the_other(how: Combine) -> None:
    free = torch.full((4,), 3.0, requires_grad=True)
    steps = torch.optim.SGD([free], lr=0.1)
    for _ in range(300):
        steps.zero_grad()
        torch.autograd.backward(combined(how, *two_losses(free), 0.5, FLOOR, free))
        steps.step()
    assert ((free >= -0.55) & (free <= 1.05)).all()
