"""The model that a training begins with: an earlier training's, or the base's; whole, or with
fewer layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from transformers import PreTrainedModel

from export.models import PairModel, PairPooling, is_causal
from export.onnx import input_names, load_trunk
from export.source import Source
from export.tokenizer import PairTokenizer
from export.trained import Trained, read_trained
from training.quantised import load_quantised
from training.recipe import FULL_BITS, Recipe
from training.students import thin
from training.tuning import BadRecipe

Load: TypeAlias = Callable[[Source], PreTrainedModel]
"""How a base's trunk is had: read anew, or shared with others that leave its weights as they are"""


def first_model(
    recipe: Recipe,
    source: Source,
    categories: tuple[str, ...],
    start: Path | None,
    load: Load = load_trunk,
) -> Trained:
    """The model to begin with: an earlier training's, or the base's with a head of 0.

    A head of 0 adds nothing to what the cosine says; one of products then begins as a cosine. One
    fitted to the base's mean states beforehand, on a thousand pairs, was no better on others than
    the cosine alone, under any ridge.
    """
    if start is not None:
        assert recipe.base_bits == FULL_BITS, "a recipe of few bits begins with the base: a bug"
        pair_model = read_trained(start, source).pair_model
        if recipe.pooling not in ("auto", pair_model.pooling):
            raise BadRecipe(
                f"pooling {recipe.pooling}: expected auto or {pair_model.pooling}, as the weights"
                " that it begins with are pooled"
            )
    else:
        few = recipe.base_bits < FULL_BITS
        trunk = load_quantised(source, recipe) if few else load(source)
        pair_model = PairModel(trunk, _pooling(recipe, source, trunk))
        torch.nn.init.zeros_(pair_model.head.weight)
        torch.nn.init.zeros_(pair_model.head.bias)
    if recipe.layers is not None:
        thin(pair_model.trunk, recipe.layers)
    head = None
    if categories:
        head = torch.nn.Linear(pair_model.trunk.config.hidden_size, len(categories))
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    return Trained(pair_model, head, categories)


def _pooling(recipe: Recipe, source: Source, trunk: PreTrainedModel) -> PairPooling:
    tokenizer = PairTokenizer(source.folder, source.max_tokens)
    typed = "token_type_ids" in input_names(trunk) and any(tokenizer([("a", "b")])[0].types)
    if recipe.pooling == "product" and not typed:
        raise BadRecipe(
            f"pooling product: {source.name} does not tell a query's tokens from an item's by "
            "their types; leave it at auto"
        )
    if recipe.pooling != "auto":
        return recipe.pooling
    if is_causal(trunk):
        return "last"
    return "product" if typed else source.pooling
