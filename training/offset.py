"""What the encoder's cosine says of relevance, as a logit that the pair model learns to correct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.sheets import Sheet

NEWTON: Final = 20  # steps at most; a fit of one slope settles in about five
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
    weights = weights / weights.sum().clamp(min=1e-12)
    slope, intercept = _fitted(cosine, grades, weights)
    if slope > 0.0:
        return slope, intercept
    prior = (weights * grades).sum().clamp(min=EDGE, max=1.0 - EDGE)
    return 0.0, float(torch.logit(prior))


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
