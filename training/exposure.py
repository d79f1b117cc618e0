"""Losses of fairness: what the lists of a step let people see of each group, made differentiable.

Pure: tensors in, a number out; [b, n] each, b lists of n places. What is compared is a group's mean
over all lists of the step, for a group need not be even in every list to be so in all of them
(Biega et al. 2018, "Equity of attention"); of a step's few lists it is a noisy one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.equity import Fairness
from training.losses import mean
from training.objectives import soft_before


def exposures(logits: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """[b, n] 1 / log2(1 + soft rank), over its mean in the list: 1 is what an even lottery gives.

    `counted` [b, n] is 1 for what stands in the list, and 0 for padding, whose exposure is 0.
    """
    ranks = 1.0 + soft_before(logits, counted, temperature).sum(-1)
    seen = counted / torch.log2(1.0 + ranks)
    return seen / mean(seen, counted, dim=1).clamp(min=1e-12).unsqueeze(1)


def exposure_loss(
    seen: Tensor, groups: Tensor, counted: Tensor, grades: Tensor, fairness: Fairness
) -> Tensor:
    """How far groups' exposures are from what is due to them, by `fairness.due`.

    equal: demographic parity, merit: disparate treatment (Singh & Joachims, KDD 2018, "Fairness of
    exposure in rankings", sections 4.1 and 4.2, the merit of an item being its grade).
    """
    merits = grades if fairness.due == "merit" else torch.ones_like(grades)
    return disparity(seen, groups, counted, merits)


def opportunity_loss(
    seen: Tensor, groups: Tensor, counted: Tensor, grades: Tensor, fairness: Fairness
) -> Tensor:
    """How far apart the exposures of groups' relevant items are: equal opportunity (Hardt et al.,
    NeurIPS 2016, definition 2.2) with exposure as the outcome, as the principle of equal expected
    exposure has it for items of one grade (Diaz et al., CIKM 2020, "Evaluating stochastic rankings
    with expected exposure")."""
    relevant = counted * (grades >= fairness.relevant)
    return disparity(seen, groups, relevant, torch.ones_like(grades))


def disparity(seen: Tensor, groups: Tensor, counted: Tensor, merits: Tensor) -> Tensor:
    """The mean, over ways to tell groups apart, of the mean over pairs of groups of
    (E_g M_h - E_h M_g)^2, E and M the mean exposure and merit of what counts of a group.

    0 where exposure per merit is the same for all, never below. `groups` [b, n, ways] are numbers,
    -1 for none. A group without merit does not count: nothing says what it should get.
    """
    ways = groups.unbind(-1)
    return torch.stack([_between(seen, way, counted, merits) for way in ways]).mean()


def _between(seen: Tensor, groups: Tensor, counted: Tensor, merits: Tensor) -> Tensor:
    numbers = torch.arange(int(groups.max()) + 1, device=groups.device)
    members = (groups.unsqueeze(-1) == numbers) * counted.unsqueeze(-1)  # [b, n, G]
    exposure, merit = (
        mean(each.unsqueeze(-1), members, dim=(0, 1)) for each in (seen, merits)
    )  # [G]
    there = (merit > 0).to(seen.dtype)
    pairs = there.unsqueeze(1) * there * (1.0 - torch.eye(len(there), device=seen.device))
    gaps = exposure.unsqueeze(1) * merit - exposure * merit.unsqueeze(1)
    return mean(gaps.square(), pairs)
