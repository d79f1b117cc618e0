"""Scores and rules -> a RankedList: who stands where, and why.

Order of a list: what the diversifier made of the candidates (pins at their places), then what a
rule buried, then unknown items in event order. Blocked items are not in it. Exploration may then
swap neighbours of the page that no rule has placed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from worker import codec
from worker.events import Candidate, RankedList, Reason
from worker.ranking import rules
from worker.ranking.ads import slots_of
from worker.ranking.diversify import diversify
from worker.ranking.diversify.limits import Limit, as_good, broken
from worker.ranking.explore import explore
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import best_first, engine_share, sigmoid
from worker.ranking.limits import caps_applied, groups_of, limits_of
from worker.ranking.line import DECIMALS, Line
from worker.ranking.model import Doubles, Floats, Integers, Scores
from worker.ranking.tail import with_tail

LARGEST_BOOST = 300.0  # of a logarithm: beyond, numbers end


def rank(search: JoinedSearch, scores: Scores, model: str | None) -> RankedList:
    """The diversified list, in the order that the scores, the dial and the rules ask for."""
    placement = rules.place(search.rules, [entry.item for entry in search.entries])
    raw = scores.raw + np.asarray(placement.boosts)
    free, buried = _by_strength(search, raw, placement)
    utility = sigmoid(raw[free])
    pinned = _pinned(placement, free)
    items = [search.entries[row].item for row in free]
    limits = limits_of(search, items)
    taken = _taken(scores, free)
    places = min(len(free), search.depth or len(free))
    slots = slots_of(search, items, taken.relevance, places)
    chosen = diversify(
        taken,
        utility,
        search.dials.method,
        search.dials.diversity,
        depth=min(len(free), search.event.k or len(free)),
        places=places,
        pinned=pinned,
        limits=limits,
        slots=slots,
    )
    won = slots.won(chosen.order.tolist(), pinned)
    gains = zip(chosen.relevance_gain.tolist(), chosen.diversity_gain.tolist(), strict=True)
    repeats = _repeats(taken.vectors[chosen.order], chosen.diversity_gain)
    rows = [free[index] for index in chosen.order.tolist()]
    lines = [
        dataclasses.replace(
            _line(search, scores, placement, row, gain, fixed=place in pinned or place in won),
            repeats=None if above is None else search.entries[rows[above]].item.item_id,
            limit=limit,
            offer=won.get(place),
        )
        for place, (row, gain, above, limit) in enumerate(
            zip(rows, gains, repeats, chosen.held, strict=True)
        )
    ]
    lines += [_line(search, scores, placement, index, None, fixed=True) for index in buried]
    below = [
        dataclasses.replace(
            _line(search, scores, placement, free[index], None, fixed=index in pinned.values()),
            base=len(rows) + number,
        )
        for number, index in enumerate(_below(search, items, chosen.order), start=1)
    ]
    return _assembled(
        search,
        lines,
        below,
        (*placement.applied, *caps_applied(search, limits)),
        model=model,
        pair_count=scores.pair_count,
        pair_share=scores.pair_share,
    )


def _below(search: JoinedSearch, items: Sequence[Candidate], order: Integers) -> list[int]:
    """Of the items, strongest first, those of the tail's group that the list does not show."""
    groups = groups_of(search.tail, items) if search.tail is not None else ()
    shown = set(order.tolist())
    return [index for index, each in enumerate(groups) if each is not None and index not in shown]


def _repeats(shown: Floats, diversity_gain: Doubles) -> list[int | None]:
    """The place above whose item each of the shown [depth, d] resembles most; None without cost."""
    cosines = np.tril(shown @ shown.T, -1) - 2.0 * np.triu(np.ones((len(shown), len(shown))))
    nearest = cosines.argmax(axis=1).tolist() if len(shown) else []
    costs = diversity_gain < -0.5 * 10.0**-DECIMALS
    return [
        above if cost and place else None
        for place, (above, cost) in enumerate(zip(nearest, costs.tolist(), strict=True))
    ]


def fall_back(search: JoinedSearch, overlap: Scores, reason: Reason) -> RankedList:
    """The fallback order: the engine's score where every candidate has one, else word overlap.

    Rules apply (a boost multiplies the score), diversity does not, and no relevance is claimed.
    """
    placement = rules.place(search.rules, [entry.item for entry in search.entries])
    scored = all(entry.item.score is not None for entry in search.entries)
    strength = engine_share(search) if scored else overlap.raw
    boost = np.exp(np.clip(placement.boosts, -LARGEST_BOOST, LARGEST_BOOST))
    strength = (1.0 + np.clip(strength, 0.0, 1.0)) * boost  # from 1, so that a boost finds a hold
    free, buried = _by_strength(search, strength, placement)
    count = len(free)
    items = [search.entries[row].item for row in free]
    limits = limits_of(search, items)
    pinned = _pinned(placement, free)
    slots = slots_of(search, items, None, count)
    chosen = diversify(
        _taken(overlap, free),
        np.arange(count, 0, -1) / (count + 1.0),
        "mmr",
        0.0,
        count,
        pinned=pinned,
        limits=limits,
        slots=slots,
    )
    won = slots.won(chosen.order.tolist(), pinned)
    lines = [
        Line(search.entries[index], None, rule=placement.rule_of.get(index), offer=won.get(place))
        for place, index in enumerate((*(free[row] for row in chosen.order), *buried))
    ]
    applied = (*placement.applied, *caps_applied(search, limits))
    return _assembled(search, lines, (), applied, reason=reason)


def _by_strength(
    search: JoinedSearch, strength: Doubles, placement: rules.Placement
) -> tuple[list[int], list[int]]:
    """The free and the buried candidates, strongest first."""
    order = [row for row in best_first(search, strength) if row not in placement.blocked]
    free = [row for row in order if row not in placement.buried]
    return free, [row for row in order if row in placement.buried]


def _taken(scores: Scores, rows: Sequence[int]) -> Scores:
    """The scores of some candidates, in that order."""
    rows = list(rows)
    return scores._replace(
        raw=scores.raw[rows],
        relevance=None if scores.relevance is None else scores.relevance[rows],
        vectors=scores.vectors[rows],
        categories=scores.categories[rows],
        brands=scores.brands[rows],
    )


def _pinned(placement: rules.Placement, free: Sequence[int]) -> dict[int, int]:
    """place -> index in `free`; a place beyond the end becomes the last one that is open."""
    where = {candidate: index for index, candidate in enumerate(free)}
    pinned: dict[int, int] = {}
    for place, candidate in sorted(placement.pinned.items()):
        if place < len(free):
            pinned[place] = where[candidate]
    beyond = [c for place, c in sorted(placement.pinned.items()) if place >= len(free)]
    open_places = [place for place in range(len(free)) if place not in pinned]
    for place, candidate in zip(open_places[len(open_places) - len(beyond) :], beyond, strict=True):
        pinned[place] = where[candidate]
    return pinned


def _line(
    search: JoinedSearch,
    scores: Scores,
    placement: rules.Placement,
    index: int,
    gain: tuple[float, float] | None,
    *,
    fixed: bool,
) -> Line:
    return Line(
        entry=search.entries[index],
        relevance=None if scores.relevance is None else float(scores.relevance[index]),
        gain=None if gain is None else sum(gain),
        why=gain or (0.0, 0.0),
        rule=placement.rule_of.get(index),
        fixed=fixed,
    )


def _assembled(
    search: JoinedSearch,
    lines: Iterable[Line],
    below: Iterable[Line],
    applied: tuple[str, ...],
    *,
    model: str | None = None,
    pair_count: int = 0,
    pair_share: float = 0.0,
    reason: Reason | None = None,
) -> RankedList:
    """The page that the event asks for, numbered and signed; `below` goes on where `lines` end."""
    event = search.event
    hidden, recalls = _blocked_unknown(search)
    unknown = [
        Line(entry, None if reason else 0.0, gain=0.0, fixed=True)
        for index, entry in enumerate(search.unknown)
        if index not in hidden
    ]
    start = event.offset or 0
    shown = [*lines, *unknown][: search.depth]
    movable: frozenset[int] = frozenset()
    if reason is None and search.tail is not None:
        drawn, movable = with_tail(search, [*shown, *below])
        shown = drawn[: len(shown)]
    page = shown[start:]
    limits = limits_of(search, [line.entry.item for line in shown])
    relaxed = broken(limits, range(len(shown)))
    items = tuple(line.item(rank) for rank, line in enumerate(page, start=start + 1))
    tail_items = tuple(item.item_id for item in items if item.rank - 1 in movable)
    if reason is None and search.dials.explore > 0.0:
        fixed = frozenset(item.rank for item, line in zip(items, page, strict=True) if line.fixed)
        bound = _bound(limits, start, len(shown))
        items = explore(items, event.query_id, search.dials.explore, fixed, bound)
    answer = RankedList(
        query_id=event.query_id,
        list_id="",
        user_id=event.user_id,
        client_id=event.client_id,
        user_query=event.user_query,
        timestamp=None,
        model=model,
        policy=search.policy_id,
        diversity=search.dials.diversity,
        experiment=event.experiment,
        degraded=reason is not None,
        reason=reason,
        candidate_count=len(event.candidates),
        pair_count=pair_count,
        pair_share=round(pair_share, DECIMALS),
        items=items,
        unknown_items=tuple(entry.item.item_id for entry in search.unknown),
        repeated_items=search.repeated,
        tail_items=tail_items,
        rules_applied=(*applied, *(rule for rule in recalls if rule not in applied)),
        limits_relaxed=relaxed,
    )
    return msgspec.structs.replace(answer, list_id=codec.list_id(answer))


def _bound(limits: Sequence[Limit], start: int, end: int) -> frozenset[int]:
    """The ranks of the page that cannot change places with the next without breaking a limit."""
    keeps = as_good(limits, end, range(end))
    ranks = range(start + 1, end) if limits else ()
    swapped = ([*range(rank - 1), rank, rank - 1, *range(rank + 1, end)] for rank in ranks)
    return frozenset(rank for rank, order in zip(ranks, swapped, strict=True) if not keeps(order))


def _blocked_unknown(search: JoinedSearch) -> tuple[frozenset[int], tuple[str, ...]]:
    """A block holds for an item whose title nobody knows, too: a recall is a recall."""
    blocks = [rule for rule in search.rules if rule.action == "block"]
    placement = rules.place(blocks, [entry.item for entry in search.unknown])
    return placement.blocked, placement.applied
