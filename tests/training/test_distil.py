"""Losses from a teacher: equal to sentence-transformers' and to the textbook's, and finite."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
from sentence_transformers.util import pairwise_dot_score
from torch import Tensor
from torch.nn.functional import kl_div

from tests.training.test_losses import lists
from training.distil import distilled, kl, margin_mse
from training.sources import Distillation, Teacher

KINDS: tuple[Distillation, ...] = ("margin_mse", "kl")
SEEDS = range(6)


def scored(seed: int) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Logits, a teacher's, and what is there, [b, n] each; and the lists' lengths."""
    logits, _, there, sizes = lists(seed)
    taught = 3 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(100 + seed))
    return logits, taught, there, sizes


def loss_of(
    kind: Distillation, logits: Tensor, taught: Tensor, there: Tensor, temperature: float
) -> Tensor:
    """By the road that training takes."""
    rows = torch.where(there > 0, 0, -1)
    return distilled(Teacher(loss=kind, temperature=temperature), logits, taught, rows)


def columns(scores: Tensor) -> list[Tensor]:
    """A query and its documents [b, d] each, as their losses take them: the products are [b, n]."""
    return [torch.ones(len(scores), 1), *torch.split(scores, 1, dim=1)]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_margins_are_those_of_sentence_transformers_with_each_item_in_turn_before_the_others(
    seed: int, count: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    logits, taught = (3 * torch.randn((4, count), generator=chance) for _ in range(2))
    theirs = MarginMSELoss(torch.nn.Identity())
    turns = [
        theirs.compute_loss_from_embeddings(columns(logits.roll(turn, 1)), taught.roll(turn, 1))
        for turn in range(count)
    ]
    ours = margin_mse(logits, taught, torch.ones(4, count))
    torch.testing.assert_close(ours, torch.stack(turns).mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_margins_are_those_of_every_pair_of_a_list(seed: int) -> None:
    logits, taught, there, sizes = scored(seed)
    rows = []
    for student, teacher, size in zip(logits, taught, sizes, strict=True):
        errors = [
            float(((student[i] - student[j]) - (teacher[i] - teacher[j])) ** 2)
            for i, j in combinations(range(size), 2)
        ]
        rows += [sum(errors) / len(errors)] if errors else []
    assert float(margin_mse(logits, taught, there)) == pytest.approx(sum(rows) / len(rows))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_divergence_is_that_of_sentence_transformers(seed: int, temperature: float) -> None:
    chance = torch.Generator().manual_seed(seed)
    logits, taught = (torch.randn((5, 4), generator=chance) for _ in range(2))
    theirs = DistillKLDivLoss(
        torch.nn.Identity(),
        similarity_fct=pairwise_dot_score,
        temperature=temperature,
    )
    their = theirs.compute_loss_from_embeddings(columns(logits), taught)
    torch.testing.assert_close(kl(logits, taught, torch.ones(5, 4), temperature), their)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_divergence_of_padded_lists_is_that_of_each_alone(seed: int) -> None:
    logits, taught, there, sizes = scored(seed)
    rows = [
        4.0
        * kl_div(
            torch.log_softmax(student[:size] / 2.0, 0),
            torch.log_softmax(teacher[:size] / 2.0, 0),
            reduction="sum",
            log_target=True,
        )
        for student, teacher, size in zip(logits, taught, sizes, strict=True)
        if size > 1
    ]
    torch.testing.assert_close(kl(logits, taught, there, 2.0), torch.stack(rows).mean())


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10_000), shift=st.floats(-20, 20), temperature=st.floats(0.2, 5))
def test_what_either_says_of_a_whole_list_does_not_matter(
    kind: Distillation, seed: int, shift: float, temperature: float
) -> None:
    logits, taught, there, _ = scored(seed)
    whole = loss_of(kind, logits, taught, there, temperature)
    assert float(whole) >= -1e-6
    moved = shift * torch.randn(len(taught), 1, generator=torch.Generator().manual_seed(seed))
    again = loss_of(kind, logits, taught + moved, there, temperature)
    torch.testing.assert_close(again, whole, atol=1e-3, rtol=1e-4)
    same = loss_of(kind, taught + moved, taught, there, temperature)
    assert float(same) == pytest.approx(0.0, abs=1e-6 + 1e-9 * shift**2 + 1e-5 * temperature**2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_does_not_learn_and_padding_neither_teaches_nor_learns(
    kind: Distillation,
) -> None:
    logits, taught, there, _ = scored(1)
    there[0] = 0.0
    logits.requires_grad_()
    taught.requires_grad_()
    loss = loss_of(kind, logits, taught, there, 2.0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert taught.grad is None
    assert logits.grad is not None
    assert torch.equal(logits.grad[there == 0], torch.zeros(int((there == 0).sum())))
    other = torch.where(there > 0, taught, torch.full_like(taught, 50.0))
    torch.testing.assert_close(loss_of(kind, logits, other, there, 2.0), loss)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_one_say_nothing(kind: Distillation) -> None:
    there = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    logits = torch.randn(2, 2, requires_grad=True)
    loss = loss_of(kind, logits, torch.randn(2, 2), there, 1.0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(2, 2))


def test_a_higher_temperature_keeps_the_size_of_the_gradient() -> None:
    """Hinton et al. 2015, section 2: in the limit it is that of the squared error of the logits,
    each centred, over the length of the list."""
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(3), requires_grad=True)
    taught = torch.randn(1, 5, generator=torch.Generator().manual_seed(4))
    kl(logits, taught, torch.ones(1, 5), 1000.0).backward()  # type: ignore[no-untyped-call]  # torch's
    apart = (logits - logits.mean()) - (taught - taught.mean())
    torch.testing.assert_close(logits.grad, (apart / 5).detach(), atol=1e-3, rtol=1e-2)
