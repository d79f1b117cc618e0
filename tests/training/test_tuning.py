"""What of a model learns: by gradients, on small models of four families."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from export.models import PairModel
from tests.export.models import make_model
from training.recipe import Recipe
from training.tuning import BadRecipe, optimiser, prepare, schedule

FAMILIES = ("bert", "roberta", "distilbert", "qwen3")


def prepared(family: str = "bert", **dials: Any) -> Any:
    torch.manual_seed(3)
    trunk = make_model(family).eval()
    prepare(trunk, Recipe(**dials))
    return trunk


def output(trunk: Any) -> torch.Tensor:
    tokens = torch.arange(4, 24).reshape(2, 10)
    found: torch.Tensor = trunk(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    return found


def learning(trunk: Any) -> set[str]:
    """The parameters that a backward pass gives a gradient."""
    torch.autograd.backward(output(trunk).square().sum())
    return {name for name, each in trunk.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_full_tuning_leaves_the_embeddings_unless_asked(family: str) -> None:
    names = learning(prepared(family))
    assert not any("embed" in name for name in names)
    assert any(".0." in name for name in names)
    assert any("embed" in name for name in learning(prepared(family, freeze_embeddings=False)))


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_frozen_tuning_leaves_the_lower_half(family: str) -> None:
    names = learning(prepared(family, tuning="frozen"))
    assert not any("embed" in name or ".0." in name for name in names)
    assert any(".1." in name for name in names)


def test_the_number_of_frozen_layers_can_be_set() -> None:
    assert any(".0." in name for name in learning(prepared(tuning="frozen", frozen_layers=0)))
    with pytest.raises(BadRecipe, match="frozen_layers 3: expected at most the 2 layers"):
        prepared(tuning="frozen", frozen_layers=3)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_the_recipes_where_it_says_so(family: str) -> None:
    torch.manual_seed(0)
    off = prepared(family, dropout=0.0).train()
    torch.testing.assert_close(output(off), output(off))
    on = prepared(family, dropout=0.5).train()
    assert not torch.allclose(output(on), output(on))


def test_each_part_has_its_own_rate_and_only_matrices_decay() -> None:
    model = PairModel(prepared(), "mean")
    recipe = Recipe(learning_rate=1e-5, head_learning_rate=1e-3, category_learning_rate=1e-2)
    steps = optimiser(model.trunk, model.head, torch.nn.Linear(32, 3), recipe)
    rates = [(group["lr"], group["weight_decay"]) for group in steps.param_groups]
    assert rates == [(1e-5, 0.01), (1e-5, 0.0), (1e-3, 0.0), (1e-2, 0.0)]
    assert all(each.ndim > 1 for each in steps.param_groups[0]["params"])


RATES = {
    "bert": [("embeddings.", 0.25), ("encoder.layer.0.", 0.5), ("encoder.layer.1.", 1.0)],
    "distilbert": [
        ("embeddings.", 0.25),
        ("transformer.layer.0.", 0.5),
        ("transformer.layer.1.", 1.0),
    ],
    "qwen3": [("embed_tokens.", 0.5), ("layers.0.", 1.0), ("norm.", 1.0)],
}


@pytest.mark.parametrize(("family", "rates"), RATES.items(), ids=RATES)
def test_each_layer_has_half_the_rate_of_the_next_higher_one(
    family: str, rates: list[tuple[str, float]]
) -> None:
    trunk = prepared(family, freeze_embeddings=False)
    recipe = Recipe(learning_rate=1.0, head_learning_rate=7.0, layer_decay=0.5)
    steps = optimiser(trunk, torch.nn.Linear(32, 1), None, recipe)
    found = {id(each): group["lr"] for group in steps.param_groups for each in group["params"]}
    decays = {id(e): g["weight_decay"] for g in steps.param_groups for e in g["params"]}
    for name, each in trunk.named_parameters():
        known = [rate for start, rate in rates if name.startswith(start)]
        assert found.pop(id(each)) == (known or [1.0])[0], name  # a pooler stands above all layers
        assert decays[id(each)] == (0.01 if each.ndim > 1 else 0.0)
    assert set(found.values()) == {7.0}


def test_without_decay_no_layers_are_looked_for() -> None:
    flat = torch.nn.Linear(3, 2)
    assert len(optimiser(flat, torch.nn.Linear(3, 1), None, Recipe()).param_groups) == 3
    with pytest.raises(BadRecipe, match="no list of layers to tell apart"):
        optimiser(flat, torch.nn.Linear(3, 1), None, Recipe(layer_decay=0.9))


def test_either_optimiser_descends() -> None:
    for name in ("adamw", "sgd"):
        model = PairModel(prepared(), "mean")
        recipe = Recipe(optimiser=name, learning_rate=1e-3)
        steps = optimiser(model.trunk, model.head, None, recipe)
        tokens = torch.arange(4, 24).reshape(2, 10)
        losses = []
        for _ in range(8):
            loss = (model(tokens, torch.ones_like(tokens)) - 1.0).square().mean()
            losses.append(loss.item())
            steps.zero_grad()
            torch.autograd.backward(loss)
            steps.step()
        assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.0, 0.5, 1.0, 0.8536, 0.5, 0.1464]),
    ],
)
def test_rates_rise_in_the_warm_up_and_follow_the_schedule(name: Any, rates: list[float]) -> None:
    steps = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    course = schedule(steps, 6, Recipe(schedule=name, warmup=0.34))
    found = []
    for _ in range(6):
        found.append(steps.param_groups[0]["lr"])
        steps.step()
        course.step()
    assert found == pytest.approx(rates, abs=1e-3)
