"""A test that may be looked at after every observation, for ever, and stopped at any of them.

It is a bet. Who holds that a mean is above `most` stakes money on each observation, at odds that
are fair if the mean is `most`, and lose if it is below: whoever grows rich all the same was right.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from worker.ranking.model import Doubles

STAKES: Final = 0.9 * 0.5 ** np.arange(10)
"""Shares of the capital that are lost at the worst: the first finds large differences soon, the
last finds small ones at all."""

EPOCH: Final = 1_000  # observations


class Bet:
    """Whether the mean of observations in [low, high] is above `most`. What lies outside counts as
    the bound next to it.

    The capital is that of Waudby-Smith & Ramdas (Estimating means of bounded random variables by
    betting, JRSS B 2024, section 4): K_t(m) = prod_i (1 + lambda (X_i - m)), with X_i scaled to
    [0, 1], and here the average over a grid of constant lambda in (0, 1 / m), their diversified
    Kelly betting (appendix B). If the mean of each X_i, given those before it, is m or less, K_t is
    a nonnegative supermartingale that begins with 1, so by Ville's inequality
    P(K_t >= 1 / alpha for any t) <= alpha. Nothing is assumed of the distribution.

    A bet that has lost for long takes as long to find what begins late. So half of alpha is staked
    anew every EPOCH observations, on the j-th time 6 / (pi j)^2 of that half, which sum to it.
    """

    def __init__(self, most: float, low: float, high: float) -> None:
        self._low, self._width = low, high - low
        self._most = (most - low) / self._width
        self._stakes = STAKES / self._most
        self._seen = 0
        self._lasting = np.zeros(len(STAKES))  # logarithms of capitals
        self._anew = np.zeros(len(STAKES))  # of those of the present epoch

    def see(self, value: float) -> None:
        """One more observation."""
        scaled = min(max((value - self._low) / self._width, 0.0), 1.0)
        grown = np.log1p(self._stakes * (scaled - self._most))
        if self._seen % EPOCH == 0:
            self._anew = np.zeros(len(STAKES))
        self._seen += 1
        self._lasting = self._lasting + grown
        self._anew = self._anew + grown

    def won(self, alpha: float) -> bool:
        """Whether the mean is above `most`, but for a chance of `alpha` ever to say so wrongly."""
        epoch = -(-self._seen // EPOCH)
        half = -math.log(alpha / 2.0)
        if _mean(self._lasting) >= half:
            return True
        return epoch > 0 and _mean(self._anew) >= half + math.log((math.pi * epoch) ** 2 / 6.0)


def _mean(logs: Doubles) -> float:
    """The logarithm of the mean of what these are the logarithms of."""
    return float(np.logaddexp.reduce(logs) - math.log(len(logs)))
