"""Scores and rules -> a RankedList: who stands where, and why.

Order of a list: what the diversifier made of the candidates (pins at their places), then what a
rule buried, then unknown items in event order. Blocked items are not in it. Exploration may then
swap neighbours of the page that no rule has placed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from worker import codec
from worker.events import RankedList, Reason
from worker.ranking import rules
from worker.ranking.ads import slots_of
from worker.ranking.diversify import Diversified, diversify
from worker.ranking.diversify.slots import Slots
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import best_first, engine_share, sigmoid
from worker.ranking.limits import caps_applied, groups_of, limits_of
from worker.ranking.line import DECIMALS, Line
from worker.ranking.model import Doubles, Floats, Scores
from worker.ranking.page import Page, paged

LARGEST_BOOST = 300.0  # of a logarithm: beyond, numbers end


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the diversifier made of the candidates that may stand anywhere."""

    free: list[int]  # those candidates, strongest first
    buried: list[int]
    taken: Scores  # of the free
    pinned: dict[int, int]  # place -> index in `free`
    slots: Slots
    found: Diversified  # its items are indices in `free`
    applied: tuple[str, ...]  # rules

    def offer(self, place: int) -> float | None:
        """What won the place, where it is a slot."""
        won = place in self.found.won
        return float(self.slots.offers[self.found.order[place]]) if won else None


def rank(search: JoinedSearch, scores: Scores, model: str | None) -> RankedList:
    """The diversified list, in the order that the scores, the dial and the rules ask for."""
    placement = rules.place(search.rules, [entry.item for entry in search.entries])
    raw = scores.raw + np.asarray(placement.boosts)
    dials, event = search.dials, search.event
    chosen = _choose(
        search, placement, scores, raw, sigmoid, dials.method, dials.diversity, event.k
    )
    found, free = chosen.found, chosen.free
    gains = zip(found.relevance_gain.tolist(), found.diversity_gain.tolist(), strict=True)
    repeats = _repeats(chosen.taken.vectors[found.order], found.diversity_gain)
    rows = [free[index] for index in found.order.tolist()]
    lines = [
        dataclasses.replace(
            _line(search, scores, placement, row, gain),
            repeats=None if above is None else search.entries[rows[above]].item.item_id,
            limit=limit,
            offer=chosen.offer(place),
            fixed=place in chosen.pinned or chosen.slots.bids(index),
        )
        for place, (index, row, gain, above, limit) in enumerate(
            zip(found.order.tolist(), rows, gains, repeats, found.held, strict=True)
        )
    ]
    lines += [_line(search, scores, placement, row, None, fixed=True) for row in chosen.buried]
    below = [
        _line(search, scores, placement, free[index], None, base=len(rows) + number)
        for number, index in enumerate(_below(search, chosen), start=1)
    ]
    return _signed(
        search,
        paged(search, lines, below, len(free) + len(chosen.buried)),
        chosen.applied,
        model=model,
        pair_count=scores.pair_count,
        pair_share=scores.pair_share,
    )


def fall_back(search: JoinedSearch, overlap: Scores, reason: Reason) -> RankedList:
    """The fallback order: the engine's score where every candidate has one, else word overlap.

    Rules apply (a boost multiplies the score), diversity does not, and no relevance is claimed.
    """
    placement = rules.place(search.rules, [entry.item for entry in search.entries])
    scored = all(entry.item.score is not None for entry in search.entries)
    strength = engine_share(search) if scored else overlap.raw
    boost = np.exp(np.clip(placement.boosts, -LARGEST_BOOST, LARGEST_BOOST))
    strength = (1.0 + np.clip(strength, 0.0, 1.0)) * boost  # from 1, so that a boost finds a hold
    unclaimed = overlap._replace(relevance=None)
    chosen = _choose(search, placement, unclaimed, strength, _by_rank, "mmr", 0.0, None)
    rows = (*(chosen.free[index] for index in chosen.found.order.tolist()), *chosen.buried)
    lines = [
        Line(
            search.entries[row],
            None,
            rule=placement.rule_of.get(row),
            offer=chosen.offer(place),
        )
        for place, row in enumerate(rows)
    ]
    page = paged(search, lines, (), len(rows), degraded=True)
    return _signed(search, page, chosen.applied, reason=reason)


def _choose(
    search: JoinedSearch,
    placement: rules.Placement,
    scores: Scores,
    strength: Doubles,
    utility_of: Callable[[Doubles], Doubles],
    method: str,
    dial: float,
    k: int | None,
) -> Chosen:
    """Diversify what may stand anywhere; `strength` [n] decides the order at a dial of 0."""
    free, buried = _by_strength(search, strength, placement)
    items = [search.entries[row].item for row in free]
    limits, pinned, taken = limits_of(search, items), _pinned(placement, free), _taken(scores, free)
    places = len(free) if k is None else min(len(free), search.depth or len(free))
    slots = slots_of(search, items, taken.relevance, places)
    found = diversify(
        taken,
        utility_of(strength[free]),
        method,
        dial,
        depth=min(len(free), k or len(free)),
        places=places,
        pinned=pinned,
        limits=limits,
        slots=slots,
    )
    applied = (*placement.applied, *caps_applied(search, limits))
    return Chosen(free, buried, taken, pinned, slots, found, applied)


def _by_rank(strength: Doubles) -> Doubles:
    """Of what is sorted, numbers that fall from place to place."""
    return np.arange(len(strength), 0, -1) / (len(strength) + 1.0)


def _below(search: JoinedSearch, chosen: Chosen) -> list[int]:
    """Of the free, those of the tail's group that the list does not show and nobody pinned."""
    if search.tail is None:
        return []
    groups = groups_of(search.tail, [search.entries[row].item for row in chosen.free])
    shown = {*chosen.found.order.tolist(), *chosen.pinned.values()}
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
    row: int,
    gain: tuple[float, float] | None,
    **more: Any,
) -> Line:
    return Line(
        entry=search.entries[row],
        relevance=None if scores.relevance is None else float(scores.relevance[row]),
        gain=None if gain is None else sum(gain),
        why=gain or (0.0, 0.0),
        rule=placement.rule_of.get(row),
        **more,
    )


def _signed(
    search: JoinedSearch,
    page: Page,
    applied: tuple[str, ...],
    *,
    model: str | None = None,
    pair_count: int = 0,
    pair_share: float = 0.0,
    reason: Reason | None = None,
) -> RankedList:
    """The list, named by the digest of what it says."""
    event = search.event
    answer = RankedList(
        query_id=event.query_id,
        list_id="",
        user_id=event.user_id,
        client_id=event.client_id,
        user_query=event.user_query,
        read_as=None if search.query == event.user_query else search.query,
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
        items=page.items,
        unknown_items=tuple(entry.item.item_id for entry in search.unknown),
        repeated_items=search.repeated,
        tail_items=page.tail_items,
        rules_applied=tuple(dict.fromkeys((*applied, *page.applied))),
        limits_relaxed=page.relaxed,
    )
    return msgspec.structs.replace(answer, list_id=codec.list_id(answer))
