"""Adversarial training against textbook forms on a linear model, and as laws."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from tests.training.attacked import (
    KINDS,
    LOSSES,
    Step,
    batch,
    lengths,
    linear,
    plain,
    seeds,
    shifts,
    sizes,
    step,
    worst,
)
from training.adversary import Kind
from training.attacks import divergence
from training.batches import Batch
from training.model import RankingModel
from training.recipe import Loss, Recipe


@given(seeds, sizes)
def test_fgm_is_the_worst_shift_of_a_linear_model(seed: int, epsilon: float) -> None:
    model, one = linear(seed=seed), batch(seed)
    still, moved = shifts(model, one, attack={"kind": "fgm", "epsilon": epsilon})
    assert not still.any()
    torch.testing.assert_close(moved, worst(model, one, epsilon), atol=1e-5, rtol=1e-4)


@given(seeds, sizes, sizes, st.integers(1, 4))
def test_pgd_walks_the_same_way_in_steps_until_the_balls_edge(
    seed: int, epsilon: float, size: float, steps: int
) -> None:
    model, one = linear(seed=seed), batch(seed)
    dials = {"kind": "pgd", "epsilon": epsilon, "step_size": size, "steps": steps}
    seen = shifts(model, one, attack=dials)
    assert len(seen) == steps + 1, "a pass a step, and one that learns"
    for made, shift in enumerate(seen):
        expected = worst(model, one, min(epsilon, made * size))
        torch.testing.assert_close(shift, expected, atol=1e-4, rtol=1e-3)


def by_hand(model: RankingModel, one: Batch, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """bce of the linear model under a shift: the loss, its gradient in head and shift, by hand."""
    table, head = model.pair_model.trunk.table.weight.detach(), model.pair_model.head
    mask = one.attention_mask[:, :, None].double()
    counts = mask.sum(1)
    means = ((table[one.input_ids] + shift).double() * mask).sum(1) / counts
    weights, grades = (each[one.rows >= 0].double() for each in (one.weights, one.grades))
    logits = means @ head.weight[0].detach().double() + head.bias.detach().double()
    chances = torch.sigmoid(logits)
    each = -grades * chances.log() - (1.0 - grades) * (1.0 - chances).log()
    slopes = weights / weights.sum() * (chances - grades)
    upward = (slopes[:, None] * head.weight.detach().double() / counts)[:, None, :] * mask
    return (weights / weights.sum() * each).sum(), slopes @ means, upward


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("kind", "steps"), [("fgm", 1), ("pgd", 2)])
def test_fgm_and_pgd_learn_from_the_plain_pairs_and_the_shifted_ones(
    kind: Kind, steps: int, weight: float
) -> None:
    model, one = linear(), batch()
    dials = {"kind": kind, "epsilon": 0.7, "step_size": 0.5, "steps": steps, "weight": weight}
    found = step(model, one, attack=dials)
    still, moved = (by_hand(model, one, at) for at in (torch.zeros(1), worst(model, one, 0.7)))
    assert found.parts["relevance"].item() == pytest.approx(still[0].item(), rel=1e-5)
    assert found.parts["adversarial"].item() == pytest.approx(moved[0].item(), rel=1e-5)
    loss, gradient = (
        (a + weight * b) / (1.0 + weight) for a, b in zip(still[:2], moved[:2], strict=True)
    )
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert_gradient_of_head(found, gradient)


def assert_gradient_of_head(found: Step, expected: Tensor) -> None:
    head = found.gradients["pair_model.head.weight"][0].double()
    torch.testing.assert_close(head, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_freelb_is_its_papers_algorithm(steps: int) -> None:
    """Algorithm 1 of Zhu et al. 2020, lines 5 to 13, from the start that was drawn."""
    model, one = linear(), batch()
    epsilon, size = 0.8, 0.3
    dials = {"kind": "freelb", "epsilon": epsilon, "step_size": size, "steps": steps}
    seen = shifts(model, one, attack=dials)
    found = step(model, one, attack=dials)
    shift, loss, gradient = seen[0].double(), 0.0, torch.zeros(5).double()
    for each in seen:
        torch.testing.assert_close(each.double(), shift, atol=1e-5, rtol=1e-4)
        here, slope, upward = by_hand(model, one, shift)
        loss, gradient = loss + here.item() / steps, gradient + slope / steps
        shift = shift + size * upward / lengths(upward)[:, None, None]
        shift = shift * (epsilon / lengths(shift)).clamp(max=1.0)[:, None, None]
    assert found.loss.item() == found.parts["adversarial"].item() == pytest.approx(loss, rel=1e-5)
    assert_gradient_of_head(found, gradient)
    assert len(seen) == steps, "a pass a step, and none more"


@given(seeds, sizes)
def test_a_random_start_lies_in_the_ball_and_has_no_side(seed: int, epsilon: float) -> None:
    """Its square length is epsilon squared times the mean of so many squares of U(-1, 1)."""
    model, one = linear(dimensions=400), batch(seed)
    dials = {"kind": "freelb", "epsilon": epsilon, "steps": 1}
    (start,) = shifts(model, one, attack=dials)
    assert lengths(start).div(epsilon).tolist() == pytest.approx([3**-0.5] * 6, rel=0.2)
    assert abs(start.sign().mean().item()) < 0.2


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds, epsilon=sizes, size=sizes, steps=st.integers(1, 4), loss=st.sampled_from(LOSSES))
def test_a_shift_keeps_to_its_length_and_off_the_padding(
    kind: Kind, seed: int, epsilon: float, size: float, steps: int, loss: Loss
) -> None:
    model, one = linear(seed=seed, leak=0.5), batch(seed)
    dials = {"kind": kind, "epsilon": epsilon, "step_size": size, "steps": steps}
    for shift in shifts(model, one, attack=dials, loss=loss):
        assert lengths(shift).max().item() <= epsilon * (1 + 1e-5) + 1e-5
        assert not shift[one.attention_mask == 0].any()


@pytest.mark.parametrize("kind", ["fgm", "pgd"])
@given(seed=seeds, epsilon=sizes, size=sizes, steps=st.integers(1, 4))
def test_a_convex_loss_is_never_lower_where_it_is_attacked(
    kind: Kind, seed: int, epsilon: float, size: float, steps: int
) -> None:
    dials = {"kind": kind, "epsilon": epsilon, "step_size": size, "steps": steps}
    parts = step(linear(seed=seed), batch(seed), attack=dials).parts
    assert parts["adversarial"] >= parts["relevance"] * (1 - 1e-6)


@given(seeds)
def test_the_divergence_is_that_of_torchs_distributions(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    first, second = (4 * torch.randn((3, 3), generator=chance) for _ in range(2))
    there = batch().rows >= 0

    def both(make: Any, a: Tensor, b: Tensor) -> Tensor:
        p, q = make(logits=a), make(logits=b)
        return kl_divergence(p, q) + kl_divergence(q, p)

    pairs = both(Bernoulli, first[there].double(), second[there].double()).mean()
    assert divergence("bce", first, second, there).item() == pytest.approx(pairs.item(), rel=1e-4)
    rows = [
        both(Categorical, a[real].double(), b[real].double())
        for a, b, real in zip(first, second, there, strict=True)
    ]
    lists = torch.stack(rows).mean().item()
    for kind in ("listnet", "lambda"):
        found = divergence(kind, first, second, there).item()
        assert found == pytest.approx(lists, rel=1e-4, abs=1e-6)


@given(seed=seeds, epsilon=sizes, loss=st.sampled_from(LOSSES))
def test_what_smart_adds_is_never_negative_and_grows_with_its_weight(
    seed: int, epsilon: float, loss: Loss
) -> None:
    model, one = linear(seed=seed), batch(seed)
    for weight in (0.0, 2.5):
        dials = {"kind": "smart", "epsilon": epsilon, "weight": weight}
        found = step(model, one, loss=loss, attack=dials)
        assert found.parts["adversarial"].item() >= -1e-6
        total = found.parts["relevance"] + weight * found.parts["adversarial"]
        assert found.loss.item() == pytest.approx(total.item(), rel=1e-5)


def test_smart_finds_the_shift_that_moves_a_linear_logit_most() -> None:
    """By epsilon ||head|| / sqrt(m) of m words, up or down, as it happened to start; one step is
    enough where it leads far beyond the ball's edge."""
    model, one = linear(), batch()
    dials = {"kind": "smart", "epsilon": 0.7, "step_size": 1e5, "steps": 1}
    shift = shifts(model, one, attack=dials)[-1]
    most = worst(model, one, 0.7)
    side = (shift * most).flatten(1).sum(1).sign()[:, None, None]
    torch.testing.assert_close(shift, side * most, atol=1e-5, rtol=1e-4)
    apart = 0.7 * model.pair_model.head.weight.norm() / one.attention_mask.sum(1).sqrt()
    toward = side[:, 0, 0] * (1.0 - 2.0 * one.grades[one.rows >= 0])
    logits = model(one).logits[one.rows >= 0]
    moved = logits + toward * apart
    expected = ((torch.sigmoid(moved) - torch.sigmoid(logits)) * (moved - logits)).mean()
    found = step(model, one, attack=dials)
    torch.testing.assert_close(found.parts["adversarial"], expected.detach())
    (slope,) = torch.autograd.grad(expected, model.pair_model.head.bias)  # through both sides
    alone = plain(model, one).gradients["pair_model.head.bias"]
    torch.testing.assert_close(found.gradients["pair_model.head.bias"], alone + slope)


@pytest.mark.parametrize(
    ("dials", "why"),
    [
        ({"kind": "bim"}, r"'bim'.*\$\.attack\.kind"),
        ({"epsilon": -1.0}, r"float` >= 0.0.*\$\.attack\.epsilon"),
        ({"step_size": 0.0}, r"float` > 0.0.*\$\.attack\.step_size"),
        ({"steps": 0}, r"int` >= 1.*\$\.attack\.steps"),
        ({"weight": -0.5}, r"float` >= 0.0.*\$\.attack\.weight"),
    ],
)
def test_an_attack_checks_itself(dials: dict[str, Any], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"attack": dials}, Recipe)
