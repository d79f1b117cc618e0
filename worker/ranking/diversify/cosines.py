"""The cosines of a pool's items, each computed when it is asked for.

In one list a pair is asked for at most once. Where a family of lists shares a pool, what is known
is kept; that costs n x n numbers.
"""

from __future__ import annotations

import numpy as np

from worker.ranking.diversify.compiled import compiled, compiled_sum
from worker.ranking.model import Doubles, Floats, Scores


@compiled_sum
def dot(rows: Floats, one: int, other: int) -> float:
    """[n, d]: the inner product of two rows, summed in single precision, to about 1e-7."""
    total = np.float32(0.0)
    for column in range(rows.shape[1]):
        total += rows[one, column] * rows[other, column]
    return float(total)


def kept(scores: Scores, runs: int) -> Doubles:
    """What is known of a pool, at first nothing: [n, n] of NaN, or [0, 0] for a single list."""
    count = len(scores.vectors) if runs > 1 else 0
    return np.full((count, count), np.nan)


@compiled
def cosine(vectors: Floats, known: Doubles, one: int, other: int) -> float:
    """Of two rows of unit length [n, d]; in [-1, 1] but for rounding."""
    if known.size == 0:
        return dot(vectors, one, other)
    found: float = known[one, other]
    if np.isnan(found):
        found = dot(vectors, one, other)
        known[one, other] = found
        known[other, one] = found
    return found
