"""Adversarial training: against textbook forms on a linear model, laws, and on small networks."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence
from transformers.modeling_outputs import BaseModelOutput

from export.models import PairModel, PairPooling
from tests.export.models import make_model
from tests.training.tuned import tuned
from training.adversary import Kind
from training.attacks import attacked, divergence
from training.batches import Batch
from training.losses import relevance_loss
from training.model import RankingModel
from training.recipe import Loss, Recipe
from training.step import losses
from training.trainer import TrainingFailed
from training.tuning import prepare

KINDS: tuple[Kind, ...] = ("fgm", "pgd", "freelb", "smart")
LOSSES: tuple[Loss, ...] = ("bce", "listnet", "lambda")
WORDS = 40
seeds = st.integers(0, 2**32 - 1)
sizes = st.floats(1e-3, 10.0)


class Words(torch.nn.Module):
    """A trunk whose states are its word embeddings: under mean pooling a logit is linear in them.
    Keeps what each pass read. With a leak each state sees the mean of all, padding too."""

    def __init__(self, dimensions: int, leak: float) -> None:
        super().__init__()
        self.leak = leak
        self.config = SimpleNamespace(hidden_size=dimensions)
        self.table = torch.nn.Embedding(WORDS, dimensions)
        self.read: list[Tensor] = []

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        states = self.table(input_ids)
        self.read.append(states.detach())
        return BaseModelOutput(last_hidden_state=states + self.leak * states.mean(1, keepdim=True))


class Step(NamedTuple):
    """What one step gave: its loss and parts, and the gradient of every parameter that has one."""

    loss: Tensor
    parts: dict[str, Tensor]
    gradients: dict[str, Tensor]


def linear(dimensions: int = 5, seed: int = 0, leak: float = 0.0) -> RankingModel:
    torch.manual_seed(seed)
    return RankingModel(PairModel(Words(dimensions, leak), "mean"), None)


def network(family: str = "bert", pooling: PairPooling = "mean", **dials: Any) -> RankingModel:
    """A small network with dropout, learning as the dials say."""
    torch.manual_seed(3)
    trunk = make_model(family)
    model = RankingModel(PairModel(trunk, pooling), None)
    torch.nn.init.normal_(model.pair_model.head.weight)
    prepare(trunk, Recipe(**{"dropout": 0.2, **dials}))
    return model.train()


def batch(seed: int = 0, longest: int = 7) -> Batch:
    """Six pairs of one to `longest` words in lists of three, two and one."""
    chance = torch.Generator().manual_seed(seed)
    rows = torch.tensor([[0, 1, 2], [3, 4, -1], [5, -1, -1]])
    there = (rows >= 0).float()
    lengths = torch.randint(1, longest + 1, (6, 1), generator=chance)
    mask = (torch.arange(longest) < lengths).long()
    return Batch(
        input_ids=torch.randint(0, WORDS, (6, longest), generator=chance) * mask,
        attention_mask=mask,
        token_type_ids=None,
        rows=rows,
        grades=torch.randint(0, 2, rows.shape, generator=chance) * there,
        weights=(0.5 + torch.rand(rows.shape, generator=chance)) * there,
        cosine=torch.zeros(rows.shape),
        known=torch.full(rows.shape, -1),
        vectors=torch.zeros((*rows.shape, 1)),
    )


def descended(model: RankingModel, told: tuple[Tensor, dict[str, Tensor]]) -> Step:
    """A step's backward pass as the trainer makes it; the gradients are taken away."""
    loss, parts = told
    torch.autograd.backward(loss)
    named = [(name, each.grad) for name, each in model.named_parameters()]
    model.zero_grad()
    gradients = {name: each for name, each in named if each is not None}
    return Step(loss.detach(), {name: each.detach() for name, each in parts.items()}, gradients)


def step(model: RankingModel, one: Batch, seed: int = 1, **dials: Any) -> Step:
    """One step under the recipe of these dials, with chance from `seed`."""
    recipe = msgspec.convert(dials, Recipe)
    torch.manual_seed(seed)
    told = attacked(model, one, lambda reading: losses(one, reading, recipe), recipe)
    return descended(model, told)


def plain(model: RankingModel, one: Batch, seed: int = 1, **dials: Any) -> Step:
    """The same without what is tested: read, loss, backward."""
    torch.manual_seed(seed)
    return descended(model, losses(one, model(one), Recipe(**dials)))


def shifts(model: RankingModel, one: Batch, **dials: Any) -> list[Tensor]:
    """The shift of each pass of a step of a linear model: [p, s, d]."""
    read = model.pair_model.trunk.read
    read.clear()
    step(model, one, **dials)
    table = model.pair_model.trunk.table.weight.detach()
    return [each - table[one.input_ids] for each in read]


def lengths(shift: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(shift, dim=(1, 2))
    return found


def worst(model: RankingModel, one: Batch, reach: float) -> Tensor:
    """The shift of that length which harms a linear logit most, by hand: with m words the logit is
    the head times their mean, so each word moves along the head, reach / sqrt(m) of it, downward
    where the grade is 1 and upward where it is 0."""
    head = model.pair_model.head.weight.detach()[0]
    mask = one.attention_mask.float()
    grades = one.grades[one.rows >= 0]
    each = (1.0 - 2.0 * grades) * reach / mask.sum(1).sqrt()
    found: Tensor = each[:, None, None] * mask[:, :, None] * head / head.norm()
    return found


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


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("family", "pooling"), [("bert", "mean"), ("qwen3", "last")])
def test_a_small_shift_harms_a_network_by_its_length_times_the_slope(
    loss: Loss, family: str, pooling: PairPooling
) -> None:
    """To first order L(x + r) - L(x) = epsilon times the sum of the pairs' ||g||."""
    model, one = network(family, pooling), batch()
    words: list[Tensor] = []

    def watched(_module: Any, _ids: Any, given: Tensor) -> Tensor:
        words.append(given.detach().requires_grad_())
        return words[-1]

    with model.pair_model.trunk.get_input_embeddings().register_forward_hook(watched):
        torch.manual_seed(1)
        reading = model(one)
    relevance = relevance_loss(loss, reading.logits, one.grades, one.weights, 4.0, 10)
    (slope,) = torch.autograd.grad(relevance, words[0])
    epsilon = 1e-3
    parts = step(model, one, loss=loss, attack={"kind": "fgm", "epsilon": epsilon}).parts
    risen = (parts["adversarial"] - parts["relevance"]).item()
    assert risen == pytest.approx(epsilon * lengths(slope).sum().item(), rel=0.05)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_without_length_every_kind_is_plain_training(kind: Kind, loss: Loss) -> None:
    """To the last bit, under dropout: so all passes of a step see the same."""
    model, one = network(), batch()
    dials: dict[str, Any] = {"kind": kind, "epsilon": 0.0, "steps": 2}
    found = step(model, one, loss=loss, attack=dials)
    after = torch.get_rng_state()
    # freelb and smart draw a start, though one of no length, before dropout is drawn.
    if kind in ("freelb", "smart"):
        dials = {"kind": "freelb", "epsilon": 0.0, "steps": 1}
        expected = step(model, one, loss=loss, attack=dials)
    else:
        expected = plain(model, one, loss=loss)
    assert torch.equal(after, torch.get_rng_state())
    assert torch.equal(found.loss, expected.loss)
    assert_equal_gradients(found, expected)
    if kind == "smart":
        assert found.parts["adversarial"].item() == 0.0


def assert_equal_gradients(found: Step, expected: Step) -> None:
    assert found.gradients.keys() == expected.gradients.keys()
    for name, each in expected.gradients.items():
        assert torch.equal(found.gradients[name], each), name


@pytest.mark.parametrize("loss", LOSSES)
def test_freelb_of_one_pass_that_starts_nowhere_is_plain_training(loss: Loss) -> None:
    model, one = network(dropout=0.0), batch()
    dials = {"kind": "freelb", "epsilon": 0.0, "steps": 1}
    found, expected = step(model, one, loss=loss, attack=dials), plain(model, one, loss=loss)
    assert torch.equal(found.loss, expected.loss)
    assert_equal_gradients(found, expected)


def test_no_attack_is_plain_training_to_the_last_bit() -> None:
    model, one = network(), batch()
    found, after = step(model, one), torch.get_rng_state()
    expected = plain(model, one)
    assert torch.equal(after, torch.get_rng_state())
    assert found.parts.keys() == expected.parts.keys() == {"relevance"}
    assert_equal_gradients(found, expected)


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tuning", ["full", "frozen", "lora"])
@pytest.mark.parametrize(("family", "pooling"), [("bert", "mean"), ("qwen3", "last")])
def test_what_learns_under_an_attack_is_what_learns_without(
    family: str, pooling: PairPooling, tuning: Any, kind: Kind
) -> None:
    """Though the word embeddings keep still, what they give is attacked."""
    model, one = network(family, pooling, tuning=tuning), batch()
    found = step(model, one, attack={"kind": kind, "epsilon": 0.5})
    expected = plain(model, one)
    assert found.gradients.keys() == expected.gradients.keys()
    assert not any("embed" in name for name in found.gradients)
    if kind in ("fgm", "pgd"):
        assert found.parts["adversarial"] > found.parts["relevance"]
    assert any(
        not torch.allclose(found.gradients[name], each, rtol=1e-3)
        for name, each in expected.gradients.items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_goes_with_low_precision(kind: Kind) -> None:
    """As the trainer has it: the forward pass alone is under autocast."""
    model, one = network(), batch()
    attack = {"kind": kind, "epsilon": 0.5}
    expected = step(model, one, attack=attack)
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)  # type: ignore[method-assign]  # as accelerate does
    found = step(model, one, attack=attack)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, each in found.parts.items():
        assert each.item() == pytest.approx(expected.parts[name].item(), rel=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_goes_with_two_objectives_into_the_log(
    base: Path, tmp_path: Path, kind: Kind
) -> None:
    dials = {"combine": "pareto", "diversity_weight": 0.3, "max_steps": 4}
    trained = tuned({**dials, "attack": {"kind": kind}}, base, tmp_path / "run")
    parts = {"loss", "relevance", "diversity", "category", "adversarial"}
    assert trained.last_losses.keys() == parts
    assert all(math.isfinite(each) for one in trained.losses for each in one.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_still_ends_the_training(
    base: Path, tmp_path: Path, kind: Kind
) -> None:
    dials = {"learning_rate": 1e30, "attack": {"kind": kind}}
    with pytest.raises(TrainingFailed, match="expected a number"):
        tuned(dials, base, tmp_path / "run")


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
