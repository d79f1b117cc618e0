"""Adversarial training of small networks: nothing changes but what is attacked, to the last bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from export.models import PairPooling
from tests.training.attacked import KINDS, LOSSES, Step, batch, lengths, network, plain, step
from tests.training.tuned import tuned
from training.adversary import Kind
from training.losses import relevance_loss
from training.recipe import Loss
from training.trainer import TrainingFailed


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
