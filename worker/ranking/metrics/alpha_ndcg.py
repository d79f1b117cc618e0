"""alpha-nDCG: is what is relevant at the top, and new there? (Clarke et al., SIGIR 2008.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from worker.ranking.metrics.ndcg import dcg


def alpha_ndcg(
    ranked: Sequence[frozenset[str]],
    pool: Sequence[frozenset[str]],
    k: int = 10,
    alpha: float = 0.5,
) -> float:
    """DCG of the novelty gains (equation 7) over that of the greedy ideal (section 4.1), at k.

    An item is the set of its subtopics, empty where it is not relevant; `pool` holds every
    candidate of the query. 0 where nothing in the pool has a subtopic. The greedy ideal is not
    always the optimum (that is NP-complete), so a list may beat it: that counts as 1.

    >>> shoe, red, blue = frozenset({"shoe"}), frozenset({"shoe", "red"}), frozenset({"blue"})
    >>> alpha_ndcg([red, blue, shoe], [shoe, red, blue])
    1.0
    >>> alpha_ndcg([shoe, shoe], [shoe, blue], k=2) < alpha_ndcg([shoe, blue], [shoe, blue], k=2)
    True
    """
    best = dcg(novelty_gains(greedy_ideal(pool, k, alpha), alpha), k)
    return min(1.0, dcg(novelty_gains(ranked[:k], alpha), k) / best) if best > 0.0 else 0.0


def novelty_gains(ranked: Sequence[frozenset[str]], alpha: float) -> list[float]:
    """Of each item, the sum over its subtopics of (1 - alpha) ** (how often it was shown above).

    >>> novelty_gains([frozenset("ab"), frozenset("a"), frozenset()], alpha=0.5)
    [2.0, 0.5, 0.0]
    """
    shown: Counter[str] = Counter()
    gains = []
    for subtopics in ranked:
        gains.append(_gain(subtopics, shown, alpha))
        shown.update(subtopics)
    return gains


def greedy_ideal(pool: Sequence[frozenset[str]], k: int, alpha: float) -> list[frozenset[str]]:
    """The item of the largest novelty gain, k times; ties go to the one that stands first."""
    left = [subtopics for subtopics in pool if subtopics]
    shown: Counter[str] = Counter()
    ideal: list[frozenset[str]] = []
    while left and len(ideal) < k:
        gains = [_gain(subtopics, shown, alpha) for subtopics in left]
        ideal.append(left.pop(gains.index(max(gains))))
        shown.update(ideal[-1])
    return ideal


def _gain(subtopics: frozenset[str], shown: Counter[str], alpha: float) -> float:
    # Sorted, since the order of a set of strings differs from process to process, and so would
    # the last bit of the sum, which can decide a tie.
    return float(sum((1.0 - alpha) ** shown[subtopic] for subtopic in sorted(subtopics)))
