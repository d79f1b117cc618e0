"""The Gini coefficient: how unevenly are places shared out? (Fleder & Hosanagar, Management Science
2009, who measure what recommenders do to the diversity of sales.)"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def gini(amounts: ArrayLike) -> float:
    """Twice the area between the Lorenz curve of the amounts and the diagonal of equal shares.

    Each item of the catalogue has its amount, 0 where it is never shown: clicks, exposure, or what
    `times_shown` counts. 0 where all are equal, none included; 1 - 1/n where one of n has all.

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, 8]), gini([])
    (0.0, 0.75, 0.0)
    """
    ordered = np.sort(np.asarray(amounts, dtype=np.float64))
    count, total = len(ordered), float(ordered.sum())
    if total <= 0.0:
        return 0.0
    weights = 2.0 * np.arange(1, count + 1) - count - 1.0
    return max(0.0, float(weights @ ordered) / (count * total))
