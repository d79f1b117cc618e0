"""What clicks on the champion's lists say of a challenger's lists, before anyone sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np

from training.assess import Extra
from training.columns import words
from training.config import Config
from training.debias import attractions
from training.examination import Examination
from training.gate import Check, judged
from training.impressions import ImpressionList
from training.off_policy import Terms, both_supported, difference, for_lists, placed, summed_up
from worker.events import Item, SearchEvent
from worker.ranking.join import Dials, Tables, join
from worker.ranking.model import Model
from worker.ranking.rerank import rerank

Kind: TypeAlias = tuple[object, ...]
MOST_QUERIES: Final = 300  # distinct searches that are ranked again
LEAST_EFFECTIVE: Final = 50.0  # impressions: below, an estimate is not worth a decision
LEAST_KNOWN: Final = 0.8  # of what a list's reader looks at: clicks say nothing of the rest
LOW: Final = 5  # percentile of what is known: so little is an item worth that nobody was shown


def clicks_checks(
    past: Sequence[ImpressionList],
    recent: Sequence[ImpressionList],
    examination: Examination,
    items: Mapping[str, Item],
    config: Config,
) -> Extra:
    """SNIPS and doubly robust estimates on `recent`, with a reward model learned from `past`.

    Values are grades a list, in the champion's: 1 is what the champion's own lists earn. Where the
    challenger shows much that nobody was ever shown for the query, they are not known.
    """

    def checks(champion: Model, challenger: Model) -> Sequence[Check]:
        lists = _chosen(
            [one for one in recent if not (one.degraded or one.event.offset)],
            personal=bool(config.model.history),
        )
        if not lists:
            return ()
        worth = attractions(past, examination, config.debias)
        low = float(np.percentile(list(worth.values()), LOW)) if worth else 0.0

        def attraction(one: ImpressionList) -> Mapping[str, float]:
            query = words(one.query)
            ids = (candidate.item_id for candidate in one.event.candidates)
            return {item_id: worth.get((query, item_id), low) for item_id in ids}

        orders = [_orders(lists, model, items, config) for model in (champion, challenger)]
        known = min(_known(lists, order, examination, worth) for order in orders)
        old, new = (placed(lists, order, examination, attraction) for order in orders)
        terms: dict[str, tuple[Terms, Terms]] = {
            "snips": both_supported(
                for_lists(old, examination, "snips"), for_lists(new, examination, "snips")
            ),
            "dr": (for_lists(old, examination, "dr"), for_lists(new, examination, "dr")),
        }
        return [_check(name, *each, known, config) for name, each in terms.items()]

    return checks


def _known(
    lists: Sequence[ImpressionList],
    orders: Sequence[Sequence[str]],
    examination: Examination,
    worth: Mapping[tuple[str, str], float],
) -> float:
    """Of the examination that `orders` get, the share that falls on items that were shown for the
    same words before, or in the list that stood there."""
    seen = looked = 0.0
    for one, order in zip(lists, orders, strict=True):
        here, query = {each.item.item_id for each in one.shown}, words(one.query)
        theta = examination.at(np.arange(1, len(order) + 1))
        told = [item_id in here or (query, item_id) in worth for item_id in order]
        seen, looked = (
            seen + float(theta @ np.array(told, dtype=float)),
            looked + float(theta.sum()),
        )
    return seen / looked if looked else 0.0


def _check(estimator: str, old: Terms, new: Terms, known: float, config: Config) -> Check:
    one = f"clicks_{estimator}"
    if known < LEAST_KNOWN:
        note = (
            f"{known:.0%} of what would be looked at was ever shown, {LEAST_KNOWN:.0%} are needed"
        )
        return judged(Check(measure=one, on="recent lists", note=note), config.gate)
    if not len(new.above):
        note = "0 impressions in effect, too few to tell"
        return judged(Check(measure=one, on="recent lists", note=note), config.gate)
    before, change = summed_up(old), summed_up(difference(new, old))
    supported = min(before.effective, change.effective)
    if not (before.value > 0.0 and np.isfinite(change.low) and supported >= LEAST_EFFECTIVE):
        note = f"{supported:.0f} impressions in effect, too few to tell"
        return judged(Check(measure=one, on="recent lists", note=note), config.gate)
    check = Check(
        measure=one,
        on="recent lists",
        champion=1.0,
        challenger=1.0 + change.value / before.value,
        change=change.value / before.value,
        low=change.low / before.value,
        high=change.high / before.value,
        note=f"{supported:.0f} impressions in effect",
    )
    return judged(check, config.gate)


def _chosen(lists: Sequence[ImpressionList], personal: bool) -> list[ImpressionList]:
    """The lists of the MOST_QUERIES searches that are asked most: each is ranked only once."""
    groups: dict[Kind, list[ImpressionList]] = {}
    for one in lists:
        groups.setdefault(_kind(one, personal), []).append(one)
    most = sorted(groups.values(), key=lambda group: -len(group))[:MOST_QUERIES]
    return [one for group in most for one in group]


def _kind(one: ImpressionList, personal: bool) -> Kind:
    """Lists of one kind are ranked alike: the same words and candidates and, where the model reads
    it, past of the user."""
    asked = (words(one.query), *(each.item_id for each in one.event.candidates))
    return (*asked, one.history) if personal else asked


def _orders(
    lists: Sequence[ImpressionList], model: Model, items: Mapping[str, Item], config: Config
) -> list[tuple[str, ...]]:
    """What `model` would have shown in each list's place, as deep as was shown: to its user, where
    histories are learned from, else to one of whom nothing is known, one order a search."""
    personal = bool(config.model.history)
    first = {_kind(one, personal): one for one in reversed(lists)}
    dials = Dials(method=config.judge.method, diversity=config.judge.diversity)
    tables = Tables(catalogue=items)
    searches = [
        join(_asked(one, personal), tables, dials, dials.diversity) for one in first.values()
    ]
    ranked = dict(zip(first, rerank(searches, model), strict=True))
    depths = [max((each.position for each in one.shown), default=0) for one in lists]
    return [
        tuple(item.item_id for item in ranked[_kind(one, personal)].items[:depth])
        for one, depth in zip(lists, depths, strict=True)
    ]


def _asked(one: ImpressionList, personal: bool) -> SearchEvent:
    history = one.history if personal else ()
    return msgspec.structs.replace(one.event, policy=None, history=history, timestamp=one.at)
