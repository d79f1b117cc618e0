"""Lines -> the page that an event asks for: cut, drawn for the tail, numbered and explored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.events import RankedItem
from worker.ranking import rules
from worker.ranking.diversify.limits import bound_in, broken
from worker.ranking.explore import explore
from worker.ranking.join import JoinedSearch
from worker.ranking.limits import limits_of
from worker.ranking.line import Line
from worker.ranking.tail import outcomes, with_tail


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown, and what is to be said of it."""

    items: tuple[RankedItem, ...]
    relaxed: tuple[str, ...]  # limits that the list down to the page's end does not keep
    tail_items: tuple[str, ...]
    applied: tuple[str, ...]  # rules that block items whose title nobody knows


def paged(
    search: JoinedSearch,
    lines: Sequence[Line],
    below: Sequence[Line],
    known: int,
    *,
    degraded: bool = False,
) -> Page:
    """The page. `known` items would be in the list if it were not cut; some of those that are not
    in `lines` are `below`. What nobody knows follows, and in a degraded list nothing is drawn."""
    hidden, applied = _blocked_unknown(search)
    unknown = [
        Line(entry, None if degraded else 0.0, gain=0.0, fixed=True)
        for index, entry in enumerate(search.unknown)
        if index not in hidden
    ]
    shown = [*lines, *unknown][: search.depth]
    every = [*shown, *below]
    limits = limits_of(search, [line.entry.item for line in every], known + len(unknown))
    order, movable = list(range(len(every))), frozenset[int]()
    if not degraded:
        every, order, movable = with_tail(search, every, limits)
    start, end = search.event.offset or 0, len(shown)
    items = tuple(line.item(rank) for rank, line in enumerate(every[start:end], start=start + 1))
    if not degraded and search.dials.explore > 0.0:
        bound = bound_in(limits, [one[:end] for one in outcomes(len(every), movable)])
        fixed = {
            item.rank for item in items if every[item.rank - 1].fixed or item.rank - 1 in bound
        }
        items = explore(items, search.event.query_id, search.dials.explore, fixed)
    return Page(
        items=items,
        relaxed=broken(limits, order[:end]),
        tail_items=tuple(item.item_id for item in items if item.rank - 1 in movable),
        applied=applied,
    )


def _blocked_unknown(search: JoinedSearch) -> tuple[frozenset[int], tuple[str, ...]]:
    """A block holds for an item whose title nobody knows, too: a recall is a recall."""
    blocks = [rule for rule in search.rules if rule.action == "block"]
    placement = rules.place(blocks, [entry.item for entry in search.unknown])
    return placement.blocked, placement.applied
