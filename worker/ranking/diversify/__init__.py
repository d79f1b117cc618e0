"""Hop 5: scores -> the order of a list. A new method is one file, and one line in `METHODS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from worker.ranking.diversify.calibrated import Calibrated
from worker.ranking.diversify.cover import Cover
from worker.ranking.diversify.coverage import Coverage
from worker.ranking.diversify.dial import TRADE_OFFS, choose
from worker.ranking.diversify.exchange import exchanged
from worker.ranking.diversify.facets import Facets
from worker.ranking.diversify.greedy import WON, greedy
from worker.ranking.diversify.limits import Limit, broken, counting
from worker.ranking.diversify.method import Method
from worker.ranking.diversify.mmr import MMR
from worker.ranking.diversify.msd import MSD
from worker.ranking.diversify.pm2 import PM2
from worker.ranking.diversify.slots import NO_SLOTS, Slots
from worker.ranking.diversify.volume import DPP, SSD
from worker.ranking.model import Doubles, Floats, Integers, Scores

METHODS: Final[dict[str, type[Method]]] = {
    "facets": Facets,
    "mmr": MMR,
    "coverage": Coverage,
    "cover": Cover,
    "pm2": PM2,
    "calibrated": Calibrated,
    "msd": MSD,
    "dpp": DPP,
    "ssd": SSD,
}


@dataclass(frozen=True, slots=True)
class Diversified:
    """The chosen items, first place first, and the two terms of each one's gain."""

    order: Integers  # [depth]
    relevance_gain: Doubles  # [depth]
    diversity_gain: Doubles  # [depth]: what repetition cost, or above 0 what the list lacked
    relaxed: tuple[str, ...]  # the limits that could not be kept, the most important first
    held: tuple[str | None, ...]  # [depth] the limit that held back an item that gained more
    won: frozenset[int]  # the places that an advertisement won


def diversify(
    scores: Scores,
    utility: Doubles,
    method: str,
    dial: float,
    depth: int,
    *,
    places: int | None = None,
    pinned: dict[int, int] | None = None,
    limits: Sequence[Limit] = (),
    slots: Slots = NO_SLOTS,
) -> Diversified:
    """The first `places` (default: `depth`) of the list that `dial` asks for.

    The dial weighs the first `depth` places; those that follow go on with the same trade-off, so
    that the pages of one list fit together. `utility` [n] is sorted, highest first, and `scores`
    are in that order. `pinned` items (place -> item) stand where they are pinned, and `limits`, the
    most important first, are kept as far as they can be: where items had to be exchanged for that,
    the dial's promise is of the list before. `slots` are given to the advertisements that win them,
    unless a limit is kept only without them.

    Raises ValueError where a score is not a finite number.
    """
    _check(scores, utility)
    count = len(utility)
    depth, places = min(depth, count), min(places or depth, count)
    trade_offs = TRADE_OFFS if dial > 0.0 else TRADE_OFFS[:1]
    shown = METHODS[method].of(scores, max(depth, places), len(trade_offs))

    def built(auctioned: Slots) -> Diversified:
        return _built(
            utility, shown, trade_offs, dial, depth, places, pinned or {}, limits, auctioned
        )

    def given_up(found: Diversified) -> list[bool]:
        names = broken(limits, found.order[:depth].tolist())
        return [limit.name in names for limit in limits]

    found = built(slots)
    if found.won and any(given_up(found)):
        without = built(slots._replace(places=NO_SLOTS.places))
        if given_up(without) < given_up(found):
            return without
    return found


def _built(
    utility: Doubles,
    shown: Method,
    trade_offs: Doubles,
    dial: float,
    depth: int,
    places: int,
    pinned: dict[int, int],
    limits: Sequence[Limit],
    slots: Slots,
) -> Diversified:
    counted, won = counting(limits), frozenset[int]()
    lists = greedy(utility, shown, trade_offs, depth, pinned, counted, slots)
    run = choose(lists, utility, dial)
    trade_off = trade_offs[run : run + 1]
    first, mended = lists.order[run].tolist(), False
    if broken(counted, first):
        at_slots = _won(lists.held[run])
        exchanges = _mended(first, at_slots, len(utility), pinned, counted, slots)
        mended = [exchanges[place] for place in range(depth)] != first
        won, pinned = (at_slots, exchanges) if mended else (won, pinned)
    if places != depth or mended:
        lists, run = greedy(utility, shown, trade_off, places, pinned, counted, slots), 0
    order = lists.order[run]
    weight = utility[order] if shown.weighs_relevance else 1.0
    cost = float(trade_off[0]) * weight * lists.redundancy[run]
    return Diversified(
        order=order,
        relevance_gain=utility[order],
        diversity_gain=0.0 - cost,
        relaxed=broken(limits, order.tolist()),
        held=tuple(counted[each].name if each >= 0 else None for each in lists.held[run].tolist()),
        won=won | _won(lists.held[run]),
    )


def _won(held: Integers) -> frozenset[int]:
    return frozenset(np.flatnonzero(held == WON).tolist())


def _mended(
    order: Sequence[int],
    won: frozenset[int],
    count: int,
    pinned: dict[int, int],
    limits: Sequence[Limit],
    slots: Slots,
) -> dict[int, int]:
    """place -> item, after exchanges; no slot changes hands, and no advertisement comes in."""
    fixed = pinned | {place: order[place] for place in won}
    barred = np.setdiff1d(np.flatnonzero(slots.offers >= 0.0), list(fixed.values()))
    return pinned | exchanged(limits, np.array(order, dtype=np.int64), count, fixed, barred)


def _check(scores: Scores, utility: Doubles) -> None:
    """A number that is none would stand wherever comparisons with it happen to leave it."""
    given: dict[str, Doubles | Floats] = {
        "raw": scores.raw,
        "utility": utility,
        "vectors": scores.vectors,
        "categories": scores.categories,
        **({} if scores.taste is None else {"taste": scores.taste}),
    }
    for name, values in given.items():
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            raise ValueError(f"{name} of candidate {row}: expected finite, got {values[row]}")
