"""Losses of relevance: equal to torch's and sentence-transformers', and finite for any list."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.cross_encoder import losses as theirs
from torch import Tensor

from training.losses import bce, lambda_loss, least_loss, listnet, relevance_loss
from training.recipe import Loss

KINDS: tuple[Loss, ...] = ("bce", "listnet", "lambda")
SEEDS = range(8)


class Given(torch.nn.Module):
    """Stands where their losses expect a CrossEncoder: its scores are given, list after list."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def preprocess(self, pairs: list[Any], **_: Any) -> list[int]:
        return [int(document) for _, document in pairs]

    def forward(self, tokens: list[int]) -> dict[str, Tensor]:
        return {"scores": self.scores[tokens]}


def lists(seed: int) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Logits, grades and weights [b, n], padded, and the lists' lengths."""
    chance = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (4,), generator=chance).tolist()
    shape = (len(sizes), max(sizes))
    weights = (torch.arange(shape[1]) < torch.tensor(sizes).unsqueeze(1)).float()
    logits = 3 * torch.randn(shape, generator=chance)
    grades = torch.randint(0, 4, shape, generator=chance) * weights
    return logits, grades, weights, sizes


def their_loss(make: Any, logits: Tensor, grades: Tensor, sizes: list[int], **dials: Any) -> Tensor:
    flat = torch.cat([row[:size] for row, size in zip(logits, sizes, strict=True)])
    documents = [
        list(map(str, ids.tolist())) for ids in torch.split(torch.arange(len(flat)), sizes)
    ]
    labels = [row[:size] for row, size in zip(grades, sizes, strict=True)]
    loss = make(Given(flat), mini_batch_size=-1, **dials)
    found: Tensor = loss([["q"] * len(sizes), documents], labels)
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("depth", "sigma"), [(None, 1.0), (3, 0.5), (10, 2.0)])
def test_lambda_loss_is_that_of_sentence_transformers(
    seed: int, depth: int | None, sigma: float
) -> None:
    logits, grades, weights, sizes = lists(seed)
    ours = lambda_loss(logits, grades, weights, depth, sigma)
    their = their_loss(theirs.LambdaLoss, logits, grades, sizes, k=depth, sigma=sigma)
    torch.testing.assert_close(ours, their)


@pytest.mark.parametrize("seed", SEEDS)
def test_listnet_is_that_of_sentence_transformers(seed: int) -> None:
    logits, grades, weights, sizes = lists(seed)
    their = their_loss(theirs.ListNetLoss, logits, grades, sizes)
    torch.testing.assert_close(listnet(logits, grades, weights), their)


@pytest.mark.parametrize("seed", SEEDS)
def test_bce_is_that_of_torch(seed: int) -> None:
    logits, grades, weights, _ = lists(seed)
    real = weights > 0
    their = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[real], grades[real] / 3, reduction="mean"
    )
    torch.testing.assert_close(bce(logits, grades / 3, weights), their)


def test_the_seeds_cross_entropy_has_no_floor_and_ours_has() -> None:
    logit = torch.tensor([[100.0]])
    negative, one = torch.zeros(1, 1), torch.ones(1, 1)
    log_p, log_not_p = -torch.nn.functional.softplus(-logit), -torch.nn.functional.softplus(logit)
    seeds = -negative * log_p + (1 - negative) * log_not_p
    assert float(seeds) == -100.0
    assert float(bce(logit, negative, one)) == 100.0


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 50.0))
def test_equal_weights_are_as_none(kind: Loss, seed: int, factor: float) -> None:
    logits, grades, weights, _ = lists(seed)
    plain = relevance_loss(kind, logits, grades / 3, weights, 3.0, 5)
    weighed = relevance_loss(kind, logits, grades / 3, factor * weights, 3.0, 5)
    torch.testing.assert_close(plain, weighed)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_padding_counts_nothing(kind: Loss, seed: int, data: st.DataObject) -> None:
    logits, grades, weights, _ = lists(seed)
    padding = 10 * torch.randn(len(logits), data.draw(st.integers(1, 3)))
    wider = (
        torch.cat([logits, padding], 1),
        torch.cat([grades, padding.abs()], 1),
        torch.cat([weights, torch.zeros_like(padding)], 1),
    )
    torch.testing.assert_close(
        relevance_loss(kind, logits, grades, weights, 1.0, 5),
        relevance_loss(kind, *wider, 1.0, 5),
    )


@pytest.mark.parametrize("copied", [0, 2, 5])
@pytest.mark.parametrize("kind", ["bce", "listnet"])
def test_an_item_of_weight_two_pulls_as_two_such_items(kind: Loss, copied: int) -> None:
    logits, grades = torch.randn(1, 6), torch.rand(1, 6)
    weights = torch.ones(1, 6)
    weights[0, copied] = 2.0
    twice = [*range(6), copied]
    pulls = []
    for index, weigh in ((list(range(6)), weights), (twice, torch.ones(1, 7))):
        free = logits.clone().requires_grad_()
        torch.autograd.backward(
            relevance_loss(kind, free[:, index], grades[:, index], weigh, 4.0, 10)
        )
        pulls.append(free.grad)
    torch.testing.assert_close(*pulls)


EDGES = {
    "no grade above 0": (torch.zeros(2, 3), torch.ones(2, 3)),
    "one item": (torch.ones(2, 1), torch.ones(2, 1)),
    "equal grades": (torch.full((2, 3), 0.4), torch.ones(2, 3)),
    "nothing counts": (torch.rand(2, 3), torch.zeros(2, 3)),
    "one list counts nothing": (torch.rand(2, 3), torch.tensor([[0.0, 0, 0], [1.0, 1, 0]])),
    "tiny weights": (torch.rand(2, 3), torch.full((2, 3), 1e-9)),
}


@pytest.mark.parametrize("size", [1.0, 1e3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("grades", "weights"), EDGES.values(), ids=EDGES)
def test_every_loss_and_its_gradient_are_finite(
    kind: Loss, grades: Tensor, weights: Tensor, size: float
) -> None:
    logits = (size * torch.randn(grades.shape)).requires_grad_()
    loss = relevance_loss(kind, logits, grades, weights, 4.0, 10)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(least_loss(kind, grades, weights, 4.0))
    if not weights.any():
        assert float(loss.detach()) == 0.0
        assert not logits.grad.any()


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000))
def test_no_logits_reach_below_the_least_loss(kind: Loss, seed: int) -> None:
    logits, grades, weights, _ = lists(seed)
    grades = grades / 3
    least = least_loss(kind, grades, weights, 4.0)
    assert float(relevance_loss(kind, logits, grades, weights, 4.0, 10) - least) >= -1e-5
    if kind != "lambda":
        best = torch.logit(grades, eps=1e-7) if kind == "bce" else 4.0 * grades
        reached = relevance_loss(kind, best, grades, weights, 4.0, 10)
        torch.testing.assert_close(reached, least, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_descending_a_loss_puts_a_list_in_the_order_of_its_grades(kind: Loss) -> None:
    grades = torch.tensor([[0.0, 1.0, 0.33, 0.66]])
    logits = torch.zeros(1, 4, requires_grad=True)
    steps = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        steps.zero_grad()
        torch.autograd.backward(relevance_loss(kind, logits, grades, torch.ones(1, 4), 4.0, 10))
        steps.step()
    assert logits.argsort(descending=True).tolist() == [[1, 3, 2, 0]]
