"""Expected reciprocal rank: how early does a reader who goes down the list find what they want?

Chapelle et al., CIKM 2009 ("Expected reciprocal rank for graded relevance"): a reader stops at an
item with a chance that its grade tells, so an item counts for less below others that satisfy.
"""

from __future__ import annotations

from collections.abc import Sequence


def err(gains: Sequence[float], k: int = 10, levels: int = 4) -> float:
    """sum over ranks r <= k of R_r / r * prod over those above of (1 - R) (equation 5).

    `gains` in [0, 1] are grades over the highest, which is `levels`: R = (2 ** grade - 1) /
    2 ** levels (equation 4; 0 to 4, as in the paper and in TREC's gdeval).

    >>> err([1.0, 0.0], levels=1), err([0.0, 1.0], levels=1)
    (0.5, 0.25)
    """
    found, reading = 0.0, 1.0
    for rank, gain in enumerate(gains[:k], start=1):
        stop = (2.0 ** (gain * levels) - 1.0) / 2.0**levels
        found += reading * stop / rank
        reading *= 1.0 - stop
    return found


def err_ia(ranked: Sequence[frozenset[str]], pool: Sequence[frozenset[str]], k: int = 10) -> float:
    """ERR of each subtopic of the pool, in the mean: a reader who wants one of them, each as likely
    (Chapelle et al., Information Retrieval 2011, "Intent-based diversification", equation 7).

    An item is the set of its subtopics, empty where it is not relevant; each has a single level, so
    that R = 1/2. 0 where the pool has no subtopic.

    >>> red, blue = frozenset({"red"}), frozenset({"blue"})
    >>> err_ia([red, blue], [red, blue]) > err_ia([red, red], [red, blue])
    True
    """
    wanted = sorted(frozenset().union(*pool))
    each = (err([float(one in item) for item in ranked], k, levels=1) for one in wanted)
    return sum(each) / len(wanted) if wanted else 0.0
