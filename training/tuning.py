"""What of a model learns, and how fast: full, frozen layers or LoRA; optimiser and schedule."""

from __future__ import annotations

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
    """Freeze, adapt and set the dropout of a trunk, in place.

    Raises BadRecipe where it has too few layers, or no module that LoRA's targets name.
    """
    if recipe.dropout is not None:
        _set_dropout(trunk, recipe.dropout)
    if recipe.freeze_embeddings or recipe.tuning == "frozen":
        _embeddings(trunk).requires_grad_(False)
    if recipe.tuning == "frozen":
        layers = _layers(trunk)
        count = len(layers) // 2 if recipe.frozen_layers is None else recipe.frozen_layers
        if count > len(layers):
            raise BadRecipe(
                f"frozen_layers {count}: expected at most the {len(layers)} layers of the base"
            )
        layers[:count].requires_grad_(False)
    if recipe.tuning == "lora":
        _adapt(trunk, recipe)


def merge(trunk: PreTrainedModel) -> None:
    """Add LoRA's factors into the layers that they adapt and take the factors away, in place."""
    if not hasattr(trunk, "peft_config"):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [
        (name, module)
        for name, module in trunk.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    for name, module in adapted:
        module.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(trunk.get_submodule(parent), attribute, module.get_base_layer())
    del trunk.peft_config


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
    learning = [each for each in trunk.parameters() if each.requires_grad]
    groups: list[dict[str, Any]] = [
        _group([each for each in learning if each.ndim > 1], recipe.learning_rate, recipe),
        _group([each for each in learning if each.ndim <= 1], recipe.learning_rate),
        _group(list(head.parameters()), recipe.head_learning_rate),
    ]
    if category_head is not None:
        groups.append(_group(list(category_head.parameters()), recipe.category_learning_rate))
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def schedule(optimizer: Optimizer, steps: int, recipe: Recipe) -> LRScheduler:
    """Rates that rise over the warm-up's share of `steps`, then fall to 0, or stay."""
    name = "constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule
    warmup = int(recipe.warmup * steps)
    found: LRScheduler = get_scheduler(name, optimizer, warmup, steps)
    return found


def _group(parameters: list[Any], rate: float, recipe: Recipe | None = None) -> dict[str, Any]:
    decay = 0.0 if recipe is None else recipe.weight_decay
    return {"params": parameters, "lr": rate, "weight_decay": decay}


def _embeddings(trunk: PreTrainedModel) -> torch.nn.Module:
    """All of the embeddings where the model keeps them together, else those of the words."""
    found = getattr(trunk, "embeddings", None) or trunk.get_input_embeddings()
    assert isinstance(found, torch.nn.Module), "every language model has embeddings: a bug"
    return found


def _layers(trunk: PreTrainedModel) -> torch.nn.ModuleList:
    """The trunk's layers, lowest first: its longest list of modules."""
    lists = [each for each in trunk.modules() if isinstance(each, torch.nn.ModuleList)]
    if not lists:
        raise BadRecipe("tuning `frozen`: the base has no list of layers to freeze; use `full`")
    return max(lists, key=len)


def _set_dropout(trunk: PreTrainedModel, chance: float) -> None:
    for module in trunk.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = chance
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = chance


def _adapt(trunk: PreTrainedModel, recipe: Recipe) -> None:
    """Low-rank factors beside the linear layers (Hu et al. 2022, "LoRA", section 4.1)."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds, and only LoRA needs it

    linear = [name for name, each in trunk.named_modules() if isinstance(each, torch.nn.Linear)]
    ends = recipe.lora_targets or ("",)
    targets = [name for name in linear if name.endswith(ends)]
    if not targets:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise BadRecipe(f"lora_targets {list(recipe.lora_targets)}: expected ends of {known}")
    trunk.requires_grad_(False)
    config = LoraConfig(r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, target_modules=targets)
    inject_adapter_in_model(config, trunk)
