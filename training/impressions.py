"""Searches, the lists that answered them and what users did, joined: one impression list each.

In come the logged events in any order, as often as they were delivered; out come the lists as they
were shown, each with the user's history as it was then. A list that nobody clicked is kept: it says
as much as one that was. The join is a function of all that was logged, so a behaviour that comes
late is joined in the round after it came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from training.attribution import (
    Answer,
    answers_of,
    followed_by,
    histories_of,
    not_before_its_list,
    usable,
)
from training.labels import IMPRESSION, grades, greedy, hasty, item_of, satisfied, user_of
from training.labels import LabelSettings as LabelSettings
from worker.events import (
    Behaviour,
    Candidate,
    HistoryEntry,
    Item,
    RankedItem,
    RankedList,
    SearchEvent,
)
from worker.ranking.join import Dials, Tables, join


class Shown(Struct, frozen=True, kw_only=True):
    """One place of a list as it was shown."""

    item: Candidate  # what the search said of it, over what the catalogue says
    position: int  # 1 is the first
    shown_probability: float  # the chance that exploration put it there
    relevance: float | None  # as the list claimed it
    grade: float  # what behaviour says of it, in [0, 1]
    clicked: bool  # whether any behaviour says anything


class ImpressionList(Struct, frozen=True, kw_only=True):
    """A ranked list joined with what followed."""

    query_id: str
    list_id: str
    user: str | None
    query: str
    at: datetime
    event: SearchEvent
    ranked: RankedList
    shown: tuple[Shown, ...]
    history: tuple[HistoryEntry, ...]  # what the worker knew of the user

    @property
    def degraded(self) -> bool:
        """Answered without a model: the list is kept, its order is nobody's choice."""
        return self.ranked.degraded


class Tally(Struct, frozen=True, kw_only=True):
    """What became of everything that was read: each event counts once on its side.

    lists = lists_kept + those left out; behaviours = behaviours_joined + those left out.
    """

    lists: int = 0
    lists_kept: int = 0
    lists_twice: int = 0  # delivered again
    lists_undated: int = 0  # neither the list nor its search says when
    lists_without_search: int = 0  # no search that has its items was logged
    lists_of_bots: int = 0
    lists_degraded: int = 0  # among those kept
    lists_unclicked: int = 0  # among those kept
    behaviours: int = 0
    behaviours_joined: int = 0
    behaviours_twice: int = 0
    behaviours_undated: int = 0
    behaviours_of_nobody: int = 0  # neither a user nor a client
    behaviours_of_bots: int = 0
    behaviours_unattributed: int = 0  # they name no list that is known
    behaviours_outside_window: int = 0  # before the list, or too long after it
    behaviours_off_list: int = 0  # about no item of the list
    bots: int = 0  # users


class Joined(NamedTuple):
    """Impression lists in the order of time, and what was left out."""

    lists: tuple[ImpressionList, ...]
    tally: Tally


def join_impressions(
    searches: Iterable[SearchEvent],
    lists: Iterable[RankedList],
    behaviours: Iterable[Behaviour],
    items: Mapping[str, Item],
    settings: LabelSettings,
) -> Joined:
    """Every list that was answered, with what its user did within the window.

    A behaviour joins the list that it names, else the latest list of its query before it. Bots
    (`LabelSettings.bot_*`) are left out with all their lists. The order of the inputs is no matter.
    """
    counts: Counter[str] = Counter()
    done = usable(behaviours, counts)
    answers = answers_of(searches, lists, counts)
    done = not_before_its_list(done, answers)
    followed = followed_by(answers, done, settings, counts)
    stayed = satisfied(done, settings)
    bots = _bots(answers, followed, done, settings)
    histories = histories_of(answers.values(), done)
    kept = []
    for key, answer in answers.items():
        acts = [act for act in followed[key] if user_of(act) not in bots]
        counts["behaviours_joined"] += len(acts)
        counts["behaviours_of_bots"] += len(followed[key]) - len(acts)
        if answer.user not in bots:
            graded = grades(acts, stayed, settings)
            places = _places(answer, acts, graded, settings)
            kept.append(_list(answer, places, graded, histories[key], items))
    counts.update(
        lists_kept=len(kept),
        lists_of_bots=len(answers) - len(kept),
        lists_degraded=sum(one.degraded for one in kept),
        lists_unclicked=sum(not any(place.clicked for place in one.shown) for one in kept),
        bots=len(bots),
    )
    return Joined(tuple(kept), Tally(**counts))


def _bots(
    answers: Mapping[str, Answer],
    followed: Mapping[str, Sequence[Behaviour]],
    done: Sequence[Behaviour],
    settings: LabelSettings,
) -> frozenset[str]:
    seen: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for key, answer in answers.items():
        if answer.user is not None:
            graded = grades(followed[key], frozenset(), settings)
            shown, acted = seen[answer.user]
            places = _places(answer, followed[key], graded, settings)
            seen[answer.user] = (shown + len(places), acted + len(graded))
    return hasty(done, settings) | greedy(seen, settings)


def _places(
    answer: Answer,
    acts: Iterable[Behaviour],
    graded: Mapping[str, float],
    settings: LabelSettings,
) -> list[RankedItem]:
    """What was shown: what the page reported and what was acted on; without a report the whole
    list, or `unreported_places` of it and down to the last one acted on."""
    items = answer.ranked.items
    reported = {item_of(act) for act in acts if act.action_name == IMPRESSION}
    if reported:
        return [item for item in items if item.item_id in reported or item.item_id in graded]
    if settings.unreported_places is None:
        return list(items)
    last = max((answer.places[item_id] + 1 for item_id in graded), default=0)
    return list(items[: max(last, settings.unreported_places)])


def _list(
    answer: Answer,
    places: Sequence[RankedItem],
    graded: Mapping[str, float],
    history: tuple[HistoryEntry, ...],
    items: Mapping[str, Item],
) -> ImpressionList:
    ranked = answer.ranked
    wanted = {item.item_id for item in places}
    full = {item.item_id: item for item in _full(answer.search, wanted, items)}
    return ImpressionList(
        query_id=ranked.query_id,
        list_id=ranked.list_id,
        user=answer.user,
        query=ranked.user_query,
        at=answer.at,
        event=answer.search,
        ranked=ranked,
        shown=tuple(
            Shown(
                item=full[item.item_id],
                position=item.rank,
                shown_probability=item.shown_probability,
                relevance=item.relevance,
                grade=graded.get(item.item_id, 0.0),
                clicked=item.item_id in graded,
            )
            for item in places
        ),
        history=history,
    )


def _full(search: SearchEvent, wanted: set[str], items: Mapping[str, Item]) -> Iterator[Candidate]:
    """Some candidates as the worker sees them, by its own join."""
    some = tuple(item for item in search.candidates if item.item_id in wanted)
    # Policies and history are no part of an item, and training has no table of them.
    event = msgspec.structs.replace(search, candidates=some, policy=None, history=())
    joined = join(event, Tables(catalogue=items), Dials())
    return (entry.item for entry in (*joined.entries, *joined.unknown))
