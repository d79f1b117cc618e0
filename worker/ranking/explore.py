"""Exploration: some neighbours change places, so that clicks can tell what a place itself is worth.

The page is walked in disjoint pairs of neighbours. Whether the pairs start at its odd or at its
even ranks is a fair coin; then each pair is swapped with chance e / 2. An item with two neighbours
so moves up with chance e / 4, down with e / 4, and stays with 1 - e / 2; the first and last of a
page have one neighbour less. The swaps of neighbours are those of FairPairs (Radlinski and
Joachims 2006, "Minimally invasive randomization for collecting unbiased preferences from
clickthrough logs", algorithm 1), there at e = 1; each item carries the chance of standing where it
stands, which is what its clicks are weighed by. The coins are lots of query and rank.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from worker.events import RankedItem
from worker.ranking.line import OF_A_CHANCE
from worker.ranking.lot import lot


def explore(
    items: Sequence[RankedItem],
    query_id: str,
    share: float,
    fixed: Container[int] = (),
) -> tuple[RankedItem, ...]:
    """`items` (one page, ranks in a row) with some neighbours swapped; `share` is e in [0, 1].

    A pair that touches a rank in `fixed`, or that reaches over the page's ends, is left alone, so
    that two neighbours that may both be swapped may be swapped with each other. Nobody moves by
    more than one rank. `base_rank` keeps where an item stood, and `shown_probability` is the chance
    that, standing there, it is shown where it is shown.
    """
    page = list(items)
    if share <= 0.0 or len(page) < 2:
        return tuple(page)
    odd = lot(query_id, "pairs") < 0.5  # the pairs are (1, 2), (3, 4), … or else (2, 3), (4, 5), …
    pairs = [one.rank not in fixed and one.rank + 1 not in fixed for one in page[:-1]]
    for first, open_ in enumerate(pairs):
        rank = items[first].rank
        if open_ and rank % 2 == odd and lot(query_id, "swap", str(rank)) < share / 2:
            page[first : first + 2] = items[first + 1], items[first]
    return tuple(_placed(one, place, pairs, items[0].rank, share) for place, one in enumerate(page))


def _placed(
    one: RankedItem, place: int, pairs: Sequence[bool], first_rank: int, share: float
) -> RankedItem:
    """An item at its new rank, with the chance of its standing there."""
    base = one.rank - first_rank
    neighbours = sum(pairs[max(base - 1, 0) : base + 1])
    if not neighbours:
        return one
    chance = share / 4 if base != place else 1.0 - neighbours * share / 4
    return msgspec.structs.replace(
        one,
        rank=first_rank + place,
        base_rank=one.rank,
        shown_probability=round(chance, OF_A_CHANCE),
    )
