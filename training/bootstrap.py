"""Bootstraps of ratios of sums: draw groups of lists again, never single impressions.

Lists are dealt into blocks, and blocks are drawn (Efron & Tibshirani 1993, chapter 13, with the
block as the unit): what comes from one list stays together, and a draw costs a product of two small
matrices, however many impressions there are.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from worker.ranking.model import Doubles, Integers

BLOCKS: Final = 400
RESAMPLES: Final = 1_000
LEVELS: Final = (2.5, 97.5)


def block_sums(values: Doubles, lists: Integers) -> Doubles:
    """[blocks, m] the sums of the rows of `values` [n, m], list i falling into block i mod 400."""
    count = min(BLOCKS, int(lists.max()) + 1)
    sums = [np.bincount(lists % BLOCKS, weights=column, minlength=count) for column in values.T]
    return np.stack(sums, axis=1)


def resampled(sums: Doubles, seed: int) -> Doubles:
    """[1,000, m] the totals of `sums` [blocks, m] over blocks drawn with replacement."""
    blocks = len(sums)
    drawn = np.random.default_rng(seed).multinomial(
        blocks, np.full(blocks, 1.0 / blocks), size=RESAMPLES
    )
    return np.asarray(drawn @ sums, dtype=np.float64)


def percentiles(draws: Doubles) -> Doubles:
    """[2, m] the 95 % percentile interval of each column of `draws` [resamples, m].

    A draw that is NaN (its denominator was empty) says nothing and is left out; NaN where all are.
    """
    known = ~np.all(np.isnan(draws), axis=0)
    bounds = np.full((2, draws.shape[1]), np.nan)
    bounds[:, known] = np.nanpercentile(draws[:, known], LEVELS, axis=0)
    return bounds
