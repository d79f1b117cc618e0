"""A relevance head that fits the base's own states before anything else learns.

A trunk under a random head first learns to serve that head, and loses what it knew (Kumar et al.
2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution", section
3): so the head is fitted first, and then both learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.batches import Steps
from training.model import RankingModel
from training.sheets import Sheet

PAIRS: Final = 1024  # that the head is fitted on
RIDGE: Final = 1e-2  # penalty on the squared weights of standardised states, a pair
NEWTON: Final = 12  # steps at most; a logistic fit of this size settles in five to eight


@torch.no_grad()
def head_start(model: RankingModel, steps: Steps) -> None:
    """Fit the head to the grades of the run's first pairs: ridge logistic regression, in place."""
    pair_model = model.pair_model.eval()
    states, grades, weights, offsets = [], [], [], []
    for index in range(len(steps)):
        batch = steps[index]
        pooled = pair_model.pooled(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        real = batch.rows >= 0
        states.append(pooled.double())
        grades.append(batch.grades[real].double())
        weights.append(batch.weights[real].double())
        offsets.append(model.offset(batch)[real].double())
        if sum(map(len, states)) >= PAIRS:
            break
    weight, bias = fitted(*map(torch.cat, (states, grades, weights, offsets)))
    pair_model.head.weight.copy_(weight)
    pair_model.head.bias.copy_(bias)


def fitted(
    states: Tensor, grades: Tensor, weights: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """[p, d], [p], [p], [p] -> the weight [d] and bias of what a logit adds to `offsets`, by
    Newton's method on standardised states (Hastie et al. 2009, "The elements of statistical
    learning", section 4.4.1)."""
    weights = weights / weights.sum().clamp(min=1e-12)
    centre = states.mean(0)
    spread = states.std(0, correction=0).clamp(min=1e-6)
    inputs = torch.cat([(states - centre) / spread, torch.ones_like(states[:, :1])], dim=1)
    penalty = torch.full_like(inputs[0], RIDGE)
    penalty[-1] = 1e-6
    solution = torch.zeros_like(penalty)
    for _ in range(NEWTON):
        chances = torch.sigmoid(inputs @ solution + offsets)
        slope = inputs.T @ (weights * (chances - grades)) + penalty * solution
        curve = (inputs.T * (weights * chances * (1.0 - chances))) @ inputs + penalty.diag()
        step = torch.linalg.solve(curve, slope)
        solution = solution - step
        if step.abs().max() < 1e-8:
            break
    weight = solution[:-1] / spread
    return weight, solution[-1] - weight @ centre


def cosine_says(sheets: Sequence[Sheet]) -> tuple[float, float]:
    """The slope and intercept of a logit of relevance on the cosine; (0, 0) without cosines, or
    where they say nothing."""
    cosine = torch.from_numpy(np.concatenate([sheet.cosine for sheet in sheets])).double()
    if not cosine.any():
        return 0.0, 0.0
    grades, weights = (
        torch.from_numpy(np.concatenate([getattr(sheet, name) for sheet in sheets])).double()
        for name in ("grades", "weights")
    )
    weight, bias = fitted(cosine.unsqueeze(1), grades, weights, torch.zeros_like(cosine))
    return (float(weight), float(bias)) if weight > 0 else (0.0, 0.0)
