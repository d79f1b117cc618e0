"""The cosines of a pool's items.

For a single list each is computed when it is asked for, which is at most once. A family of lists
asks for nearly all of them again and again: there they are computed before, n x n numbers.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from worker.ranking.diversify.compiled import compiled, compiled_sum
from worker.ranking.model import Floats, Scores

WHEN_ASKED: Final = np.empty((0, 0), dtype=np.float32)


def cosines_for(scores: Scores, runs: int) -> Floats:
    """[n, n] for a family of lists, [0, 0] for a single one."""
    return scores.vectors @ scores.vectors.T if runs > 1 else WHEN_ASKED


@compiled_sum
def dot(rows: Floats, one: int, other: int) -> float:
    """[n, d]: the inner product of two rows, summed in single precision, to about 1e-7."""
    total = np.float32(0.0)
    for column in range(rows.shape[1]):
        total += rows[one, column] * rows[other, column]
    return float(total)


@compiled
def cosine(vectors: Floats, cosines: Floats, shown: int, item: int) -> float:
    """Of two rows of unit length [n, d]; in [-1, 1] but for rounding."""
    if cosines.size == 0:
        return dot(vectors, shown, item)
    return float(cosines[shown, item])
