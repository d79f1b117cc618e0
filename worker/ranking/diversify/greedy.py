"""The greedy that every method shares: one pass gives the lists of a whole family of trade-offs.

For each trade-off in [0, 1] the next item is the one that maximises utility - trade_off * penalty.
The penalty is the method's redundancy after what was chosen (Carbonell & Goldstein 1998 with
lambda from 1 to 1/2: beyond, relevance only breaks ties), or, where a method weighs relevance,
utility * redundancy (Santos et al. 2010): what is new counts for what it is worth.

A single list is built lazily (Minoux 1978, "Accelerated greedy algorithms for maximizing submodular
set functions"): redundancy only grows, so what an item reached when it was last looked at bounds
what it reaches now, and an item whose bound is not above the best is not looked at. In a family
nearly all items are looked at in one list or another: there each is told of each place at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from worker.ranking.diversify.compiled import compiled
from worker.ranking.diversify.items import BIDS, FREE, STANDS, Items, reach_of, tell, tell_all
from worker.ranking.diversify.limits import NONE, Limit, Limits, limits_of
from worker.ranking.diversify.method import Method
from worker.ranking.diversify.slots import NO_SLOTS, Slots
from worker.ranking.model import Doubles, Integers

WON: Final = -2  # in the place of a limit: an advertisement won the slot
NO_PINS: Final = np.empty(0, dtype=np.int64)


class Lists(NamedTuple):
    """What the greedy built for each trade-off: [runs, depth]."""

    order: Integers
    redundancy: Doubles  # of each item at the moment when it was chosen
    burden: Integers  # [runs] the limits that were given up, as bits; the most important is highest
    held: Integers  # which limit held back an item that would have gained more; -1: none; or WON


def greedy(
    utility: Doubles,
    method: Method,
    trade_offs: Doubles,
    depth: int,
    pinned: Mapping[int, int],
    limits: Sequence[Limit] = (),
    slots: Slots = NO_SLOTS,
) -> Lists:
    """Build the first `depth` places of a list for each of `trade_offs`.

    `utility` [n] is sorted, highest first, so that ties go to the item that stands first. An item
    in `pinned` (place -> item) stands there and nowhere else. `limits` hold, the most important
    first, as far as what is left can keep them. `slots` are for advertisements.
    """
    runs, count = len(trade_offs), len(utility)
    order = np.empty((runs, depth), dtype=np.int64)
    held = np.empty((runs, depth), dtype=np.int64)
    redundancy = np.empty((runs, depth))
    burden = np.empty(runs, dtype=np.int64)
    build(
        method,
        limits_of(limits, count, depth, pinned) if limits else NONE,
        utility if utility.flags.c_contiguous else utility.copy(),
        trade_offs,
        _pins(pinned) if pinned else NO_PINS,
        *slots,
        order,
        redundancy,
        burden,
        held,
        np.empty((3, count)),
        np.empty(count, dtype=np.int64),
    )
    return Lists(order, redundancy, burden, held)


def _pins(pinned: Mapping[int, int]) -> Integers:
    """The item of each place, -1 for none, up to the last that is pinned."""
    pins = np.full(max(pinned) + 1, -1, dtype=np.int64)
    for place, item in pinned.items():
        pins[place] = item
    return pins


@compiled
def build(
    method: Method,
    limits: Limits,
    utility: Doubles,
    trade_offs: Doubles,
    pins: Integers,
    offers: Doubles,
    slots: Integers,
    page: int,
    most: int,
    orders: Integers,
    redundancies: Doubles,
    burdens: Integers,
    held: Integers,
    scratch: Doubles,
    known: Integers,
) -> None:
    """Fill a row [depth] of `orders`, `redundancies` and `held`, and a burden, for each trade-off.

    `pins` holds the item of a place, or -1, up to the last that is pinned; `offers`, `slots`,
    `page` and `most` are those of Slots. `scratch` [3, n] and `known` [n] are room for Items.
    """
    items = Items(utility, scratch[0], scratch[1], known, scratch[2])
    limited = limits.group.shape[1] > 0
    eager = method.stepwise and (trade_offs.size > 1 or limited)
    for run in range(trade_offs.size):
        order, shown = orders[run], 0  # advertisements of a page
        ordinary = begin(method, limits, items, trade_offs[run], offers, pins)
        burdens[run], held[run, :] = 0, -1
        if eager:
            tell_all(method, items, order, 0)
        for place in range(order.size):
            if ordinary == 0:
                release(items, offers)
            if place % page == 0:
                shown = pinned_offers(offers, pins, place, page)
            chosen = pins[place] if place < pins.size else -1
            if chosen < 0:
                limits.look_ahead(place)
                chosen, gain, burden = best(method, limits, items, order, place)
                burdens[run] |= burden
                bidder = -1
                if place < slots.size and slots[place] == 1 and shown < most:
                    bidder = highest_offer(limits, items, offers, place, burden)
                if bidder >= 0:
                    chosen, held[run, place], shown = bidder, WON, shown + 1
                elif limited:
                    held[run, place] = in_the_way(method, limits, items, order, place, gain, burden)
            if known[chosen] < place:
                tell(method, items, order, chosen, place)
            order[place], redundancies[run, place] = chosen, items.repeats[chosen]
            ordinary -= 1 if items.free[chosen] == FREE else 0
            items.free[chosen] = STANDS
            method.show(chosen)
            limits.take(chosen)
            if eager:
                tell_all(method, items, order, place + 1)


@compiled
def begin(
    method: Method,
    limits: Limits,
    items: Items,
    trade_off: float,
    offers: Doubles,
    pins: Integers,
) -> int:
    """A new list: nothing is shown yet. Gives how many items neither bid nor are pinned."""
    ordinary = items.utility.size
    for item in range(items.utility.size):
        weight = items.utility[item] if method.weighs_relevance else 1.0
        items.weight[item] = trade_off * weight
        items.known[item], items.repeats[item], items.free[item] = -1, 0.0, FREE
    for item in range(offers.size):
        if offers[item] >= 0.0:
            ordinary, items.free[item] = ordinary - 1, BIDS
    for item in pins:
        if item >= 0:
            ordinary -= 1 if items.free[item] == FREE else 0
            items.free[item] = STANDS
    method.start()
    limits.start()
    return ordinary


@compiled
def release(items: Items, offers: Doubles) -> None:
    """Nothing but advertisements is left: now they may stand anywhere."""
    for item in range(offers.size):
        items.free[item] = STANDS if items.free[item] == STANDS else FREE


@compiled
def pinned_offers(offers: Doubles, pins: Integers, place: int, page: int) -> int:
    """How many advertisements are pinned on the page that begins at a place."""
    count = 0
    for ahead in range(place, min(place + page, pins.size)):
        if pins[ahead] >= 0 and offers.size and offers[pins[ahead]] >= 0.0:
            count += 1
    return count


@compiled
def best(
    method: Method, limits: Limits, items: Items, order: Integers, place: int
) -> tuple[int, float, int]:
    """Of the items that break the least important limits, the one that gains the most; what it
    gains, and what it breaks."""
    chosen, gain, lightest = -1, -np.inf, -1
    ends = method.falls == 0.0 and limits.group.shape[1] == 0
    for item in range(items.utility.size):
        if ends and chosen >= 0 and items.utility[item] <= gain:
            break  # and so for all that follow
        if items.free[item] != FREE:
            continue
        burden = limits.burden(item, place)
        if lightest < 0 or burden < lightest:
            chosen, gain, lightest = -1, -np.inf, burden
        elif burden > lightest:
            continue
        reach = reach_of(method, items, item, place)
        while items.known[item] < place and (reach > gain or chosen < 0):
            until = max(items.known[item], 0) + 1 if method.stepwise else place
            tell(method, items, order, item, min(until, place))
            reach = reach_of(method, items, item, place)
        if items.known[item] == place and (reach > gain or chosen < 0):
            chosen, gain = item, reach
    return chosen, gain, lightest


@compiled
def highest_offer(limits: Limits, items: Items, offers: Doubles, place: int, burden: int) -> int:
    """The advertisement of the highest offer that breaks nothing beyond a burden; -1 for none."""
    bidder, offer = -1, 0.0
    for item in range(offers.size):
        bids = items.free[item] != STANDS and offers[item] > offer
        if bids and limits.burden(item, place) & ~burden == 0:
            bidder, offer = item, offers[item]
    return bidder


@compiled
def in_the_way(
    method: Method,
    limits: Limits,
    items: Items,
    order: Integers,
    place: int,
    gain: float,
    burden: int,
) -> int:
    """The limit that held back the item that would have gained the most; -1 where none did."""
    limit = -1
    for item in range(items.utility.size):
        if items.free[item] != FREE or reach_of(method, items, item, place) <= gain:
            continue
        if items.known[item] < place:
            tell(method, items, order, item, place)
        reach = reach_of(method, items, item, place)
        if reach > gain:
            gain, limit = reach, limits.heaviest(limits.burden(item, place) & ~burden)
    return limit
