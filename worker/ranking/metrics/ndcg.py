"""nDCG: is what is most relevant at the top? (Järvelin & Kekäläinen, TOIS 2002, section 2.2.)"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ndcg(gains: Sequence[float], ideal: Sequence[float] | None = None, k: int = 10) -> float:
    """DCG over the DCG of the best order, with linear gain and a log2(rank + 1) discount, at k.

    `gains` are in the order of the list; `ideal` are those of every judged item of the query, in
    any order, where the list does not hold them all. 0 where nothing has a gain.

    >>> ndcg([3, 2, 0])
    1.0
    >>> round(ndcg([0, 1]), 4)  # 1 / log2(3)
    0.6309
    >>> ndcg([1], ideal=[1, 1], k=1)
    1.0
    """
    best = dcg(sorted(gains if ideal is None else ideal, reverse=True), k)
    return dcg(gains, k) / best if best > 0.0 else 0.0


def dcg(gains: Sequence[float], k: int = 10) -> float:
    """sum over ranks r <= k of gain / log2(r + 1): the form of Burges et al. 2005, gain linear.

    >>> dcg([1, 0, 1])
    1.5
    """
    top = np.asarray(gains[:k], dtype=np.float64)
    return float(top @ (1.0 / np.log2(np.arange(len(top)) + 2.0)))
