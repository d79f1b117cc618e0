"""Intra-list distance: how unlike each other are the items? (Ziegler et al., WWW 2005.)"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def ild(vectors: ArrayLike) -> float:
    """The mean of 1 - cosine over all pairs of the unit vectors [n, d].

    Ziegler's intra-list similarity (equation 5), as a mean and turned into a distance. In [0, 1]
    where no two vectors point apart (else up to 2); 0 for fewer than two items: nothing differs.

    >>> ild([[1, 0], [0, 1]]), ild([[1, 0], [1, 0]]), ild([[1, 0]])
    (1.0, 0.0, 0.0)
    """
    rows = np.asarray(vectors, dtype=np.float64)
    count = len(rows)
    if count < 2:
        return 0.0
    total = rows.sum(axis=0)
    # |sum of v|^2 = sum of |v|^2 + 2 * the sum over pairs: no n x n matrix is needed.
    similarity = (total @ total - (rows * rows).sum()) / (count * (count - 1))
    return max(0.0, 1.0 - float(similarity))
