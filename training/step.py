"""What one step descends: relevance, what a teacher says, diversity, categories and fairness, as
one loss."""

from __future__ import annotations

import torch
from torch import Tensor

from training.batches import Batch
from training.distil import distilled
from training.exposure import exposure_loss, exposures, opportunity_loss
from training.losses import least_loss, mean, relevance_loss
from training.model import Reading
from training.objectives import category_chances, combined, diversity_loss
from training.recipe import Recipe


def losses(batch: Batch, reading: Reading, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    """What is descended, and its parts by name."""
    relevance = relevance_of(batch, reading, recipe)
    parts, own = {"relevance": relevance}, 1.0
    if batch.taught is not None:
        parts["distilled"] = distilled(recipe.teacher, reading.logits, batch.taught, batch.rows)
        relevance = torch.lerp(relevance, parts["distilled"], recipe.teacher.weight)
        own -= recipe.teacher.weight  # what a teacher says can be met
    total = relevance
    if recipe.diversity_weight > 0.0:
        count = 0 if reading.categories is None else reading.categories.shape[-1]
        parts["diversity"] = diversity_loss(
            reading.logits,
            batch.grades,
            batch.weights,
            category_chances(reading.categories, batch.known, count),
            recipe.novelty,
            recipe.temperature,
        )
        least = own * least_loss(recipe.loss, batch.grades, batch.weights, recipe.grade_scale)
        weight = recipe.diversity_weight
        total = combined(
            recipe.combine, relevance, parts["diversity"], weight, least, reading.pooled
        )
    if reading.categories is not None:
        parts["category"] = category_loss(reading.categories, batch.known)
        total = total + parts["category"]
    for name, (weight, loss) in fairness_losses(batch, reading, recipe).items():
        parts[name] = loss
        total = total + weight * loss
    return total, parts


def fairness_losses(
    batch: Batch, reading: Reading, recipe: Recipe
) -> dict[str, tuple[float, Tensor]]:
    """The losses between groups that are on, by name, each with its weight."""
    dials = recipe.fairness
    if batch.groups is None:
        return {}
    counted = (batch.weights > 0).to(reading.logits.dtype)
    seen = exposures(reading.logits, counted, recipe.temperature)
    asked = {
        "exposure": (dials.exposure, exposure_loss),
        "opportunity": (dials.opportunity, opportunity_loss),
    }
    return {
        name: (weight, of(seen, batch.groups, counted, batch.grades, dials))
        for name, (weight, of) in asked.items()
        if weight > 0.0
    }


def relevance_of(batch: Batch, reading: Reading, recipe: Recipe) -> Tensor:
    """The recipe's loss of relevance."""
    return relevance_loss(
        recipe.loss,
        reading.logits,
        batch.grades,
        batch.weights,
        recipe.grade_scale,
        recipe.depth,
    )


def category_loss(logits: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy over the items whose category is known; 0 where none is: [b, n, C], [b, n]."""
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), known.flatten().clamp(min=0), reduction="none"
    )
    return mean(flat, (known.flatten() >= 0).float())
