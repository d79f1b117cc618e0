"""The long tail's slot: now and then a place of the first page goes to what is never shown.

With a probability p the item at the slot's rank changes places with one that is drawn uniformly
from the m of a group that the first page does not show: each then stands there with p / m, and the
item that it moves with 1 - p (a mixture with a uniform policy, as in epsilon-greedy; Sutton & Barto
2018, section 2.2). Nobody who could be moved is swapped with a neighbour besides, so that these are
the whole truth. The lot is of the query: all pages of a list know the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from worker.policies import Tail
from worker.ranking.diversify.limits import Limit, as_good
from worker.ranking.join import JoinedSearch
from worker.ranking.limits import groups_of
from worker.ranking.line import Line
from worker.ranking.lot import lot


def with_tail(
    search: JoinedSearch, lines: Sequence[Line], limits: Sequence[Limit]
) -> tuple[list[Line], list[int], frozenset[int]]:
    """The lines after the lot, where each stood before, and the places that it could have changed.

    `lines` are the list and what goes on below it, and `limits` are numbered like them. What is
    sponsored, pinned or buried, and what would break a limit on the first page takes no part.
    """
    tail, page, order = search.tail, search.event.k or len(lines), list(range(len(lines)))
    lines, slot = list(lines), 0 if tail is None else tail.rank - 1
    if tail is None or slot >= min(page, len(lines)) or not _may_move(lines[slot]):
        return lines, order, frozenset()
    pool = _pool(tail, lines, limits, slot, page)
    if not pool:
        return lines, order, frozenset()
    each = tail.probability / len(pool)
    drawn = lot(search.event.query_id, "tail")
    lines[slot] = replace(lines[slot], chance=1.0 - tail.probability, fixed=True)
    for place in pool:
        lines[place] = replace(lines[place], chance=1.0 - each, fixed=True)
    if drawn < tail.probability:
        place = pool[min(int(drawn / each), len(pool) - 1)]
        come = replace(lines[place], chance=each, base=lines[place].base or place + 1)
        gone = replace(lines[slot], chance=each, base=slot + 1)
        lines[slot], lines[place] = come, gone
        order[slot], order[place] = place, slot
    return lines, order, frozenset((slot, *pool))


def outcomes(count: int, movable: frozenset[int]) -> Iterator[list[int]]:
    """How `count` lines would stand after each of the lot's outcomes."""
    yield list(range(count))
    slot, *pool = sorted(movable) or (0,)
    for place in pool:
        other = list(range(count))
        other[slot], other[place] = place, slot
        yield other


def _pool(
    tail: Tail, lines: Sequence[Line], limits: Sequence[Limit], slot: int, page: int
) -> list[int]:
    """The places of those who may be drawn, in the event's order."""
    groups = groups_of(tail, [line.entry.item for line in lines])
    keeps = as_good(limits, range(min(page, len(lines))))
    pool = [
        place
        for place in range(page, len(lines))
        if groups[place] is not None
        and _may_move(lines[place])
        and (lines[place].relevance or 0.0) >= tail.relevance_at_least
        and keeps([*range(slot), place, *range(slot + 1, page)])
    ]
    return sorted(pool, key=lambda place: lines[place].entry.engine_rank)


def _may_move(line: Line) -> bool:
    return not line.fixed and not line.entry.item.sponsored
