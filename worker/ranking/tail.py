"""The long tail's slot: now and then a place of the first page goes to what is never shown.

With a chance c the item at the slot's rank changes places with one that is drawn uniformly from the
m of a group that the first page does not show: each then stands there with c / m, and the item that
it moves with 1 - c (a mixture with a uniform policy, as in epsilon-greedy; Sutton & Barto 2018,
section 2.2). Nobody who could be moved is swapped with a neighbour besides, so that these are the
whole truth. The lot is of the query: all pages of a list know the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from worker.policies import Tail
from worker.ranking.diversify.limits import as_good
from worker.ranking.join import JoinedSearch
from worker.ranking.limits import groups_of, limits_of
from worker.ranking.line import Line
from worker.ranking.lot import lot, seed_of


def with_tail(search: JoinedSearch, lines: Sequence[Line]) -> tuple[list[Line], frozenset[int]]:
    """The lines after the lot, and at which places stands what it could have moved.

    `lines` are the list and what goes on below it. An advertisement, what is pinned or buried, and
    what would break a limit on the first page takes no part.
    """
    tail, page = search.tail, search.event.k
    lines, slot = list(lines), 0 if tail is None else tail.rank - 1
    if tail is None or page is None or slot >= min(page, len(lines)) or lines[slot].fixed:
        return lines, frozenset()
    pool = _pool(search, tail, lines, slot, page)
    if not pool:
        return lines, frozenset()
    each = tail.chance / len(pool)
    drawn = int(lot(seed_of(search.event.query_id), b"tail") / each)
    lines[slot] = replace(lines[slot], chance=1.0 - tail.chance, fixed=True)
    for place in pool:
        lines[place] = replace(lines[place], chance=1.0 - each, fixed=True)
    if drawn < len(pool):
        place = pool[drawn]
        lines[slot], lines[place] = (
            replace(lines[place], chance=each, base=lines[place].base or place + 1),
            replace(lines[slot], chance=each, base=slot + 1),
        )
    return lines, frozenset((slot, *pool))


def _pool(
    search: JoinedSearch, tail: Tail, lines: Sequence[Line], slot: int, page: int
) -> list[int]:
    """The places of those who may be drawn, in the event's order."""
    groups = groups_of(tail, [line.entry.item for line in lines])
    meant = [
        place
        for place in range(page, len(lines))
        if groups[place] is not None and _may_come(tail, lines[place])
    ]
    items = [lines[place].entry.item for place in (*range(page), *meant)]
    keeps = as_good(limits_of(search, items), len(items), range(page))
    pool = [
        place
        for row, place in enumerate(meant, start=page)
        if keeps([*range(slot), row, *range(slot + 1, page)])
    ]
    return sorted(pool, key=lambda place: lines[place].entry.engine_rank)


def _may_come(tail: Tail, line: Line) -> bool:
    if line.fixed or line.entry.item.sponsored:
        return False
    return line.relevance is not None and line.relevance >= tail.floor
