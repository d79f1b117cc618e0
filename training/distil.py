"""Losses of a student's logits from a teacher's. Pure: tensors in, a number out.

Each takes logits and `taught`, the teacher's, [b, n] each, and says how far the student is from
saying the same of a list, whatever either says of lists as a whole: both see differences within a
list alone. `there` [b, n] is 1 where an item stands and 0 where padded; what stands there is
taught, whether or not its grade counts. Lists of fewer than two items say nothing. The teacher
does not learn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.losses import mean
from training.sources import Teacher


def distilled(teacher: Teacher, logits: Tensor, taught: Tensor, rows: Tensor) -> Tensor:
    """The loss that `teacher` names; of `rows` [b, n] those of padding are below 0."""
    there = (rows >= 0).to(logits.dtype)
    if teacher.loss == "margin_mse":
        return margin_mse(logits, taught, there)
    return kl(logits, taught, there, teacher.temperature)


def margin_mse(logits: Tensor, taught: Tensor, there: Tensor) -> Tensor:
    """Margin-MSE (Hofstätter et al. 2020, "Improving efficient neural ranking models with
    cross-architecture knowledge distillation", equation 1) of all pairs of a list, mean over lists.

    With d the student's logit less the teacher's, a pair's error is (d_i - d_j)^2; its mean over
    the pairs is twice the sample variance of d, and is computed as that.
    """
    count = there.sum(1)
    apart = (logits - taught.detach()) * there
    middle = apart.sum(1, keepdim=True) / count.clamp(min=1.0).unsqueeze(1)
    squares = ((apart - middle) ** 2 * there).sum(1)
    return mean(2.0 * squares / (count - 1.0).clamp(min=1.0), _compared(there))


def kl(logits: Tensor, taught: Tensor, there: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) over each list, mean over lists (Hinton
    et al. 2015, "Distilling the knowledge in a neural network", section 2; for lists, Cao et al.
    2007, section 4.2). T^2 keeps the gradient's size where T changes."""
    wanted, found = (
        torch.log_softmax(each.masked_fill(_hidden(there), -math.inf) / temperature, dim=1)
        for each in (taught.detach(), logits)
    )
    terms = wanted.exp() * (wanted - found).masked_fill(_hidden(there), 0.0)
    return mean(temperature**2 * terms.sum(1), _compared(there))


def _hidden(there: Tensor) -> Tensor:
    """Where padded; nowhere in a list of padding alone, which so stays finite."""
    return (there == 0) & there.any(1, keepdim=True)


def _compared(there: Tensor) -> Tensor:
    """[b] 1 for a list of two items or more."""
    return (there.sum(1) > 1).to(there.dtype)
