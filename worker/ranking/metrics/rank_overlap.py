"""Rank-biased overlap: how alike are two lists, the top above all?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def rbo(first: Sequence[Hashable], second: Sequence[Hashable], p: float = 0.9) -> float:
    """The overlap at each depth, weighted by p^(depth - 1), the lists going on as they ended: the
    extrapolated RBO_ext of Webber, Moffat & Zobel, TOIS 2010, "A similarity measure for indefinite
    rankings", equation 32, of lists of any two lengths.

    `p` in (0, 1): at .9 the first ten places have 86 % of the weight. Items of a list are distinct.
    1 for equal lists, 0 where nothing is shared or a list is empty; two empty lists are equal.

    >>> rbo("abc", "abc")
    1.0
    >>> round(rbo("ab", "ba"), 4)  # .1 * 0 + .9 * 1
    0.9
    >>> rbo("ab", "cd")
    0.0
    """
    short, long = sorted((first, second), key=len)
    if not short:
        return float(not long)
    shared, at_short, total = 0, 0, 0.0
    seen: set[Hashable] = set()
    for depth in range(1, len(long) + 1):
        for each in (long[depth - 1], *short[depth - 1 : depth]):
            shared += each in seen
            seen.add(each)
        if depth <= len(short):
            at_short = shared
        beyond = max(0, depth - len(short)) * at_short / len(short)
        total += (shared + beyond) / depth * p**depth
    end = (shared - at_short) / len(long) + at_short / len(short)
    return (1.0 - p) / p * total + end * p ** len(long)
