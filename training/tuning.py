"""What of a trunk learns, and how fast: frozen parts, optimiser and schedule.

What learns beside a trunk that keeps still is in `training.adapters`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, get_scheduler

from training.recipe import Recipe
from worker.errors import PrismrankError

MOMENTUM = 0.9  # of plain gradient descent


class BadRecipe(PrismrankError):
    """A recipe does not fit the base model. Nothing was trained."""


def prepare(trunk: PreTrainedModel, recipe: Recipe) -> None:
    """Freeze what the recipe freezes of a trunk, and set its dropout, in place.

    Raises BadRecipe where it has too few layers.
    """
    if recipe.dropout is not None:
        _set_dropout(trunk, recipe.dropout)
    if recipe.freeze_embeddings or recipe.tuning == "frozen":
        _embeddings(trunk).requires_grad_(False)
    if recipe.tuning == "frozen":
        found = layers(trunk)
        count = len(found) // 2 if recipe.frozen_layers is None else recipe.frozen_layers
        if count > len(found):
            raise BadRecipe(
                f"frozen_layers {count}: expected at most the {len(found)} layers of the base"
            )
        found[:count].requires_grad_(False)


def optimiser(
    trunk: torch.nn.Module,
    head: torch.nn.Module,
    category_head: torch.nn.Module | None,
    recipe: Recipe,
) -> Optimizer:
    """One group of parameters for each rate and decay; biases, norms and heads do not decay.

    Decay is decoupled from the gradient in both (Loshchilov & Hutter 2019, algorithm 2), but for
    sgd, where it is the gradient of an L2 penalty.
    """
    groups: list[dict[str, Any]] = []
    for rate, learning in _by_rate(trunk, recipe).items():
        groups.append(_group([each for each in learning if _is_matrix(each)], rate, recipe))
        groups.append(_group([each for each in learning if not _is_matrix(each)], rate))
    groups.append(_group(list(head.parameters()), recipe.head_learning_rate))
    if category_head is not None:
        groups.append(_group(list(category_head.parameters()), recipe.category_learning_rate))
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _is_matrix(parameter: torch.nn.Parameter) -> bool:
    """A scale that is stored as a row or a column is none: at 0 it would switch off, not relax."""
    return parameter.ndim > 1 and min(parameter.shape) > 1


def schedule(optimizer: Optimizer, steps: int, recipe: Recipe) -> LRScheduler:
    """Rates that rise over the warm-up's share of `steps`, then fall to 0, or stay."""
    name = "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule
    warmup = int(recipe.warmup * steps)
    found: LRScheduler = get_scheduler(name, optimizer, warmup, steps)
    return found


def _by_rate(trunk: torch.nn.Module, recipe: Recipe) -> dict[float, list[torch.nn.Parameter]]:
    """What of a trunk learns, by its rate, each layer's that of the next higher one times the decay
    (Howard & Ruder 2018, "Universal language model fine-tuning", section 3.2; a decay in Clark et
    al. 2020, "ELECTRA", appendix A).

    The highest layer and what stands above it have the recipe's own rate; the embeddings, and what
    else stands below the lowest, are one layer more.
    """
    heights = _heights(trunk) if recipe.layer_decay < 1.0 else {}
    top = max(heights.values(), default=0)
    found: dict[float, list[torch.nn.Parameter]] = {}
    for each in trunk.parameters():
        if each.requires_grad:
            below = top - heights.get(each, top)
            found.setdefault(recipe.learning_rate * recipe.layer_decay**below, []).append(each)
    return found


def _heights(trunk: torch.nn.Module) -> dict[torch.nn.Parameter, int]:
    """The height of each parameter, from 0 below the lowest layer; those above all are left out."""
    found = {
        each: height
        for height, layer in enumerate(layers(trunk), start=1)
        for each in layer.parameters()
    }
    below = itertools.takewhile(lambda each: each not in found, trunk.parameters())
    return dict.fromkeys(below, 0) | found


def _group(parameters: list[Any], rate: float, recipe: Recipe | None = None) -> dict[str, Any]:
    decay = 0.0 if recipe is None else recipe.weight_decay
    return {"params": parameters, "lr": rate, "weight_decay": decay}


def _embeddings(trunk: PreTrainedModel) -> torch.nn.Module:
    """All of the embeddings where the model keeps them together, else those of the words."""
    found = getattr(trunk, "embeddings", None) or trunk.get_input_embeddings()
    assert isinstance(found, torch.nn.Module), "every language model has embeddings: a bug"
    return found


def layers(trunk: torch.nn.Module) -> torch.nn.ModuleList:
    """The trunk's layers, lowest first: its longest list of modules.

    Raises BadRecipe where it has none.
    """
    lists = [each for each in trunk.modules() if isinstance(each, torch.nn.ModuleList)]
    if not lists:
        raise BadRecipe(
            "the base has no list of layers to tell apart: expected tuning full or lora, "
            "layer_decay 1 and layers left out"
        )
    return max(lists, key=len)


def _set_dropout(trunk: PreTrainedModel, chance: float) -> None:
    for module in trunk.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = chance
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = chance
