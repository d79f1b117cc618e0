"""What clicks on the champion's lists say of a challenger's lists, before anyone sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from training.assess import Extra
from training.columns import words
from training.config import Config
from training.debias import attractions
from training.examination import Examination
from training.gate import Check, judged
from training.impressions import ImpressionList
from training.off_policy import Terms, difference, for_lists, placed, summed_up
from worker.events import Item
from worker.ranking.join import Dials, Tables, join
from worker.ranking.model import Model
from worker.ranking.rerank import rerank

MOST_QUERIES: Final = 300  # distinct searches that are ranked again
LEAST_EFFECTIVE: Final = 50.0  # impressions: below, an estimate is not worth a decision


def clicks_checks(
    past: Sequence[ImpressionList],
    recent: Sequence[ImpressionList],
    examination: Examination,
    items: Mapping[str, Item],
    config: Config,
) -> Extra:
    """SNIPS and doubly robust estimates on `recent`, with a reward model learned from `past`.

    Values are grades a list, in the champion's: 1 is what the champion's own lists earn.
    """

    def checks(champion: Model, challenger: Model) -> Sequence[Check]:
        lists = _chosen([one for one in recent if not (one.degraded or one.event.offset)])
        if not lists:
            return ()
        worth = attractions(past, examination, config.debias)
        mean = float(np.mean(list(worth.values()))) if worth else 0.0

        def attraction(one: ImpressionList) -> Mapping[str, float]:
            query = words(one.query)
            ids = (candidate.item_id for candidate in one.event.candidates)
            return {item_id: worth.get((query, item_id), mean) for item_id in ids}

        terms = [
            placed(lists, _orders(lists, model, items, config), examination, attraction)
            for model in (champion, challenger)
        ]
        found = []
        for estimator in ("snips", "dr"):
            old, new = (for_lists(each, examination, estimator) for each in terms)
            found.append(_check(estimator, old, new, config))
        return found

    return checks


def _check(estimator: str, old: Terms, new: Terms, config: Config) -> Check:
    one = f"clicks_{estimator}"
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


def _chosen(lists: Sequence[ImpressionList]) -> list[ImpressionList]:
    """The lists of the MOST_QUERIES searches that are asked most: each is ranked only once."""
    groups: dict[tuple[str, ...], list[ImpressionList]] = {}
    for one in lists:
        groups.setdefault(_kind(one), []).append(one)
    most = sorted(groups.values(), key=lambda group: -len(group))[:MOST_QUERIES]
    return [one for group in most for one in group]


def _kind(one: ImpressionList) -> tuple[str, ...]:
    return (words(one.query), *(candidate.item_id for candidate in one.event.candidates))


def _orders(
    lists: Sequence[ImpressionList], model: Model, items: Mapping[str, Item], config: Config
) -> list[tuple[str, ...]]:
    """What `model` would have shown in each list's place, as deep as was shown, to a user of whom
    nothing is known: one order a search."""
    first = {_kind(one): one for one in reversed(lists)}
    dials = Dials(method=config.judge.method, diversity=config.judge.diversity)
    tables = Tables(catalogue=items)
    searches = [
        join(msgspec.structs.replace(one.event, policy=None), tables, dials, dials.diversity)
        for one in first.values()
    ]
    ranked = dict(zip(first, rerank(searches, model), strict=True))
    return [
        tuple(item.item_id for item in ranked[_kind(one)].items[: len(one.shown)]) for one in lists
    ]
