"""Two objectives, relevance and diversity, and how they become one number to descend.

L = a L_div + (1 - a) L_rel. The article that the project grew from adds metrics, which have no
gradient; here both are differentiable losses. Pure: tensors in, tensors out.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from training.losses import mean
from training.recipe import Combine

NEVER: Final = -1.0  # the worth of an item that is already chosen: below all others


def category_chances(logits: Tensor | None, known: Tensor, count: int) -> Tensor:
    """P(c | i) [b, n, C], detached: one-hot where the category is known, else the head's.

    `logits` [b, n, C] or None, `known` [b, n] is the category's index or -1. Without the detaching
    L_div would be lowered by calling every item something else.
    """
    named = known.unsqueeze(-1) == torch.arange(count, device=known.device)
    told = torch.zeros(()) if logits is None else torch.softmax(logits.detach().float(), dim=-1)
    return torch.where(known.unsqueeze(-1) >= 0, named.float(), told.to(known.device))


def diversity_loss(
    logits: Tensor,
    grades: Tensor,
    weights: Tensor,
    chances: Tensor,
    novelty: float,
    temperature: float,
) -> Tensor:
    """1 - soft alpha-DCG / its ideal, mean over lists (Yan et al. 2021, "Diversification-aware
    learning to rank using distributed representation", DALETOR, section 3.3): in [0, 1] but for the
    greedy ideal's own error.

    [b, n] each; `chances` [b, n, C] are P(c | i). The gain of item i for category c is grade times
    P(c | i), times (1 - novelty) to the power of what soft ranks put before it of that category.
    A list that has nothing to gain counts nothing, nor does an item of weight 0.
    """
    counted = (weights > 0).to(logits.dtype)
    gains = (grades * counted).unsqueeze(-1) * chances
    before = soft_before(logits, counted, temperature)
    seen = before @ gains  # [b, n, C]: what stands before i of each category
    kept = (gains * (1.0 - novelty) ** seen).sum(-1)
    reached = (kept / torch.log2(2.0 + before.sum(-1))).sum(1)  # a rank is 1 + what is before
    ideal = _ideal(gains, novelty)
    return mean(1.0 - reached / ideal.clamp(min=1e-12), (ideal > 1e-12).to(logits.dtype))


def soft_before(logits: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """[b, i, j]: how far item j of a list stands before item i, from 0 to 1; a soft rank is 1 + the
    sum over j. `counted` [b, n] is 1 for what stands in the list, else 0."""
    before = torch.sigmoid((logits.unsqueeze(1) - logits.unsqueeze(2)) / temperature)
    apart = 1.0 - torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return before * apart * counted.unsqueeze(1)


@torch.no_grad()
def _ideal(gains: Tensor, novelty: float) -> Tensor:
    """[b, n, C] -> [b]: alpha-DCG of the greedy order (Clarke et al. 2008, section 3.3)."""
    lists, items, _ = gains.shape
    left = torch.ones_like(gains[:, :1])  # what each category still pays
    chosen = torch.zeros(lists, items, dtype=torch.bool, device=gains.device)
    total = gains.new_zeros(lists)
    rows = torch.arange(lists, device=gains.device)
    for place in range(items):
        worth = (gains * left).sum(-1).masked_fill(chosen, NEVER)
        best = worth.argmax(1)
        total += worth[rows, best] / torch.log2(gains.new_tensor(place + 2.0))
        left = left * (1.0 - novelty) ** gains[rows, best].unsqueeze(1)
        chosen[rows, best] = True
    return total


def combined(
    how: Combine, relevance: Tensor, diversity: Tensor, weight: float, least: Tensor, pooled: Tensor
) -> Tensor:
    """One loss whose ordinary backward serves both objectives.

    sum: (1 - a) L_rel + a L_div. chebyshev: the larger of (1 - a)(L_rel - `least`) and a L_div, the
    weighted distance to the utopia point (Miettinen 1999, "Nonlinear multiobjective optimization",
    section 3.4.2). pareto: the sum under UPGrad's weights, with preference (1 - a, a), computed on
    the gradients of `pooled` [n, d] alone, below which both objectives share every weight.
    """
    if how == "sum":
        return (1.0 - weight) * relevance + weight * diversity
    if how == "chebyshev":
        return torch.maximum((1.0 - weight) * (relevance - least), weight * diversity)
    gradients = [
        torch.autograd.grad(loss, pooled, retain_graph=True)[0].flatten()
        for loss in (relevance, diversity)
    ]
    first, second = upgrad_weights(torch.stack(gradients), (1.0 - weight, weight))
    return first * relevance + second * diversity


@torch.no_grad()
def upgrad_weights(gradients: Tensor, preference: tuple[float, float]) -> tuple[float, float]:
    """The weights by which UPGrad sums two gradients [2, m] (Quinton & Rey 2024, "Jacobian descent
    for multi-objective optimization", section 2.3): each, scaled by its preference, is projected
    onto the cone of directions that lower neither objective, and the projections are added.

    For two the projection is known: nothing where they agree, else what goes against the other is
    taken out (adding the other times -g1.g2 / |other|^2).
    """
    (first, cross), (_, second) = (gradients.double() @ gradients.double().T).tolist()
    against = max(0.0, -cross)
    return (
        preference[0] + (preference[1] * against / first if against else 0.0),
        preference[1] + (preference[0] * against / second if against else 0.0),
    )
