"""Losses of relevance over padded lists. Pure: tensors in, a number out.

Each takes logits, grades and weights [b, n]; `weights` >= 0 say how much an item's grade counts, 0
where it is unknown or padding, and equal weights are as none. Each is finite for any list, and 0
where nothing counts.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from training.recipe import Loss

LEAST: Final = 1e-12  # a sum of weights below this counts as none


def relevance_loss(
    kind: Loss, logits: Tensor, grades: Tensor, weights: Tensor, scale: float, depth: int
) -> Tensor:
    """The loss named `kind`; `scale` multiplies the grades of the two list losses, `depth` is
    lambda's."""
    if kind == "bce":
        return bce(logits, grades, weights)
    if kind == "listnet":
        return listnet(logits, scale * grades, weights)
    return lambda_loss(logits, scale * grades, weights, depth)


def least_loss(kind: Loss, grades: Tensor, weights: Tensor, scale: float) -> Tensor:
    """The lowest value that `relevance_loss` can take for these grades: the utopia point of it."""
    if kind == "bce":
        entropy = torch.special.entr(grades) + torch.special.entr(1.0 - grades)
        return mean(entropy, weights)
    if kind == "listnet":
        return listnet(scale * grades, scale * grades, weights)
    return grades.new_zeros(())


def bce(logits: Tensor, grades: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy -y log p - (1 - y) log(1 - p), p = sigmoid(logit), y the grade.

    The article that the project grew from writes -y log p + (1 - y) log(1 - p): with that sign a
    negative's loss falls without bound as p goes to 1, so it rewards calling everything relevant.
    """
    return mean(softplus(logits) - grades * logits, weights)


def listnet(logits: Tensor, grades: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the lists' top-one chances under grades and under logits (Cao et al. 2007,
    "Learning to rank: from pairwise approach to listwise approach", section 4.2), mean over lists.

    An item of weight 2 pulls as two such items would; a list counts by the mean of its weights.
    """
    counted = _counted(weights)
    share = weights / mean(weights, counted, dim=1).clamp(min=LEAST).unsqueeze(1)
    copies = share.clamp(min=LEAST).log().masked_fill(counted == 0, -math.inf)
    copies = torch.where(counted.any(1, keepdim=True), copies, 0.0)  # an empty list stays finite
    targets = torch.softmax(grades + copies, dim=1)
    losses = torch.logsumexp(logits + copies, dim=1) - (targets * logits).sum(1)
    return mean(losses, mean(weights, counted, dim=1))


def lambda_loss(
    logits: Tensor,
    grades: Tensor,
    weights: Tensor,
    depth: int | None = None,
    sigma: float = 1.0,
    mu: float = 10.0,
) -> Tensor:
    """NDCG-Loss2++ (Wang et al. 2018, "The LambdaLoss framework for ranking metric optimization",
    equation 17; cut at `depth` as equation 18), in bits, mean over the pairs that it orders.

    A pair of items counts by the product of their weights: the chance that both were examined.
    """
    counted = _counted(weights)
    ranks = _ranks(logits.detach(), counted)  # [b, n]
    gains = (torch.exp2(grades) - 1.0) * counted
    gains = gains / _ideal_dcg(gains, depth).clamp(min=1e-10).unsqueeze(1)
    discounts = 1.0 / torch.log2(1.0 + ranks)
    apart = (ranks.unsqueeze(2) - ranks.unsqueeze(1)).abs()  # [b, n, n]
    rank_steps = 1.0 / torch.log2(1.0 + apart.clamp(min=1.0)) - 1.0 / torch.log2(2.0 + apart)
    lambda_steps = (discounts.unsqueeze(2) - discounts.unsqueeze(1)).abs()
    stakes = (mu * rank_steps + lambda_steps) * (gains.unsqueeze(2) - gains.unsqueeze(1)).abs()
    ordered = grades.unsqueeze(2) > grades.unsqueeze(1)
    if depth is not None:
        ordered = ordered & (torch.minimum(ranks.unsqueeze(2), ranks.unsqueeze(1)) <= depth)
    pairs = ordered * weights.unsqueeze(2) * weights.unsqueeze(1)
    margins = sigma * (logits.unsqueeze(2) - logits.unsqueeze(1))
    return mean(-stakes * logsigmoid(margins) / math.log(2.0), pairs)


def mean(values: Tensor, weights: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """The weighted mean over all axes, or some; 0 where the weights are."""
    total = (values * weights).sum(dim)
    return total / weights.sum(dim).clamp(min=LEAST)


def _counted(weights: Tensor) -> Tensor:
    return (weights > 0.0).to(weights.dtype)


def _ranks(logits: Tensor, counted: Tensor) -> Tensor:
    """The place of each item, from 1, best first; those that do not count come last."""
    last = logits.masked_fill(counted == 0, -math.inf)
    order = last.argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) + 1).to(logits.dtype)


def _ideal_dcg(gains: Tensor, depth: int | None) -> Tensor:
    """[b, n] -> [b]: the discounted gains of the best order (Järvelin & Kekäläinen 2002)."""
    best = gains.sort(dim=1, descending=True).values[:, :depth]
    places = torch.arange(best.shape[1], device=gains.device, dtype=gains.dtype)
    return (best / torch.log2(2.0 + places)).sum(1)
