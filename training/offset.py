"""What a cosine says of relevance, as a logit from which the pair model begins to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from export.models import PairModel
from training.batches import Batch, Steps
from training.sheets import Sheet

NEWTON: Final = 20  # steps at most; a fit of one slope settles in about five
FIRST: Final = 16  # steps that a model of products is first set by
EDGE: Final = 1e-3  # a mean grade is kept this far from 0 and 1, where a logit has no end


def cosine_says(sheets: Sequence[Sheet]) -> tuple[float, float]:
    """The slope and intercept of a logit of relevance on the cosine (Platt 1999, section 2).

    Without cosines, or where more of it is not more relevance, the slope is 0 and the intercept the
    logit of the mean grade.
    """
    cosine, grades, weights = (
        torch.from_numpy(np.concatenate([getattr(sheet, name) for sheet in sheets])).double()
        for name in ("cosine", "grades", "weights")
    )
    return _says(cosine, grades, weights)


def _says(cosine: Tensor, grades: Tensor, weights: Tensor) -> tuple[float, float]:
    weights = weights / weights.sum().clamp(min=1e-12)
    slope, intercept = _fitted(cosine, grades, weights)
    if slope > 0.0:
        return slope, intercept
    prior = (weights * grades).sum().clamp(min=EDGE, max=1.0 - EDGE)
    return 0.0, float(torch.logit(prior))


@torch.inference_mode()
def begin_as_cosine(pair_model: PairModel, steps: Steps) -> None:
    """Set the head of a model of products to the cosine of its own two states, made a logit by
    the first steps' grades. Where more of it is not more relevance there, to the mean grade."""
    read = [steps[index] for index in range(min(FIRST, len(steps)))]
    was_training = pair_model.training
    pair_model.eval()
    root = math.sqrt(pair_model.head.in_features)
    cosine = torch.cat([_own_cosine(pair_model, batch) / root for batch in read]).double()
    pair_model.train(was_training)
    shown = [batch.rows >= 0 for batch in read]
    grades, weights = (
        torch.cat([getattr(batch, name)[at] for batch, at in zip(read, shown, strict=True)])
        for name in ("grades", "weights")
    )
    slope, intercept = _says(cosine, grades.double(), weights.double())
    pair_model.head.weight.fill_(slope / root)
    pair_model.head.bias.fill_(intercept)


def _own_cosine(pair_model: PairModel, batch: Batch) -> Tensor:
    """[p]: of each place that is no padding, times the root of d."""
    device = next(pair_model.trunk.parameters()).device  # a quantised one is where it was loaded
    tokens = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    pooled = pair_model.pooled(*(None if each is None else each.to(device) for each in tokens))  # type: ignore[arg-type]  # only types may be none
    return pooled.sum(1).cpu()[batch.rows[batch.rows >= 0]]


def _fitted(inputs: Tensor, grades: Tensor, weights: Tensor) -> tuple[float, float]:
    """[p] each -> logistic regression by Newton's method (Hastie et al. 2009, "The elements of
    statistical learning", section 4.4.1), with a ridge that keeps it finite on separable grades."""
    columns = torch.stack([inputs, torch.ones_like(inputs)], dim=1)
    ridge = 1e-4 * torch.eye(2, dtype=inputs.dtype)
    found = torch.zeros(2, dtype=inputs.dtype)
    for _ in range(NEWTON):
        chances = torch.sigmoid(columns @ found)
        slope = columns.T @ (weights * (chances - grades)) + ridge @ found
        curve = (columns.T * (weights * chances * (1.0 - chances))) @ columns + ridge
        step = torch.linalg.solve(curve, slope)
        found = found - step
        if step.abs().max() < 1e-9:
            break
    return float(found[0]), float(found[1])
