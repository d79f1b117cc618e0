"""The methods as their papers write them, item by item: slow, plain, and what ours must equal.

Each function gives the gain of adding an item to what was chosen, from unit vectors [n, d] and
relevance [n]; `greedy` takes the largest gain, the first of equal ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from worker.ranking.model import Doubles

Gain = Callable[[list[int], int], float]


def greedy(gain: Gain, count: int, depth: int) -> list[int]:
    """The indices, first place first."""
    chosen: list[int] = []
    while len(chosen) < min(depth, count):
        left = [item for item in range(count) if item not in chosen]
        chosen.append(max(left, key=lambda item: gain(chosen, item)))
    return chosen


def mmr(vectors: Doubles, relevance: Doubles, weight: float) -> Gain:
    """Carbonell & Goldstein 1998, section 2, lambda = 1 - weight; likeness begins at 0."""

    def gain(chosen: list[int], item: int) -> float:
        nearest = max([0.0, *(float(vectors[item] @ vectors[j]) for j in chosen)])
        return float((1 - weight) * relevance[item] - weight * nearest)

    return gain


def msd(vectors: Doubles, relevance: Doubles, weight: float) -> Gain:
    """Borodin et al. 2012, section 4."""

    def gain(chosen: list[int], item: int) -> float:
        apart = sum(1.0 - float(vectors[item] @ vectors[j]) for j in chosen)
        return float((1 - weight) * relevance[item] + weight * apart)

    return gain


def dpp(vectors: Doubles, quality: Doubles) -> Gain:
    """Kulesza & Taskar 2012, section 3.1: the ratio of the kernel's determinants."""
    kernel = quality[:, np.newaxis] * (vectors @ vectors.T) * quality

    def gain(chosen: list[int], item: int) -> float:
        with_it = [*chosen, item]
        before = np.linalg.det(kernel[np.ix_(chosen, chosen)]) if chosen else 1.0
        return float(np.linalg.det(kernel[np.ix_(with_it, with_it)]) / before)

    return gain


def ssd(vectors: Doubles, relevance: Doubles, weight: float) -> Gain:
    """Huang et al. 2021, equation 12 and section 5.3: the residual by least squares."""
    rows = np.hstack([vectors, np.ones((len(vectors), 1))])

    def gain(chosen: list[int], item: int) -> float:
        residual = rows[item]
        if chosen:
            spanned, *_ = np.linalg.lstsq(rows[chosen].T, rows[item], rcond=None)
            residual = rows[item] - rows[chosen].T @ spanned
        return float((1 - weight) * relevance[item] + weight * np.linalg.norm(residual))

    return gain


def cover(vectors: Doubles, relevance: Doubles, weight: float) -> Gain:
    """Lin & Bilmes 2011, equation 5, with a square root for the concave function."""

    def gain(chosen: list[int], item: int) -> float:
        def covered(items: list[int]) -> float:
            likeness = np.maximum(vectors @ vectors[items].T, 0.0).sum(axis=1)
            return float(np.sqrt(likeness).sum())

        return float(
            (1 - weight) * relevance[item] + weight * (covered([*chosen, item]) - covered(chosen))
        )

    return gain


def pm2(categories: Doubles, relevance: Doubles) -> Gain:
    """Dang & Croft 2012, algorithm 2, lambda = 1/2 and P(d | aspect) = relevance * P(c | d)."""
    votes = [float(relevance @ column) for column in categories.T]

    def gain(chosen: list[int], item: int) -> float:
        seats = [0.0] * len(votes)
        for shown in chosen:
            for category, share in enumerate(categories[shown] / categories[shown].sum()):
                seats[category] += share
        quotients = [v / (2 * s + 1) for v, s in zip(votes, seats, strict=True)]
        turn = quotients.index(max(quotients))
        shares = relevance[item] * categories[item] * quotients
        return float(0.5 * shares[turn] + 0.5 * (shares.sum() - shares[turn]))

    return gain


def calibrated(categories: Doubles, taste: Doubles, relevance: Doubles, weight: float) -> Gain:
    """Steck 2018, section 4: s is the mean relevance, lambda = weight and alpha = 0.01."""
    known = taste > 0.0

    def gain(chosen: list[int], item: int) -> float:
        with_it = [*chosen, item]
        shown = 0.99 * categories[with_it].mean(axis=0) + 0.01 * taste
        divergence = taste[known] @ np.log(taste[known] / shown[known])
        return float((1 - weight) * relevance[with_it].mean() - weight * divergence)

    return gain
