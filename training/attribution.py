"""Which list a behaviour is about, which search a list answers, and what was known of its user.

Everything that is read is used or counted under the name of why it was left out, by the names of
`impressions.Tally`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from training.labels import LabelSettings, item_of, user_of, when
from worker import codec
from worker.events import Behaviour, HistoryEntry, Profile, RankedList, SearchEvent
from worker.ranking.profiles import fold, utc


class Answer(NamedTuple):
    """A list that was answered, with its search."""

    at: datetime
    search: SearchEvent
    ranked: RankedList
    places: Mapping[str, int]  # item_id -> index in `ranked.items`

    @property
    def user(self) -> str | None:
        """Who was answered: the worker's own key."""
        return self.ranked.user_id or self.ranked.client_id or None


def usable(behaviours: Iterable[Behaviour], counts: Counter[str]) -> list[Behaviour]:
    """Those that say who and when, each once, in an order that is theirs alone."""
    first: dict[tuple[datetime, str, str, str, str, bool, str, str], Behaviour] = {}
    for behaviour in behaviours:
        counts["behaviours"] += 1
        if behaviour.timestamp is None:
            counts["behaviours_undated"] += 1
        elif user_of(behaviour) is None:
            counts["behaviours_of_nobody"] += 1
        else:
            key = _identity(behaviour)
            counts["behaviours_twice"] += key in first
            first.setdefault(key, behaviour)
    return [first[key] for key in sorted(first)]


def _identity(behaviour: Behaviour) -> tuple[datetime, str, str, str, str, bool, str, str]:
    """What makes a behaviour the same when it is delivered again; sorts by time first."""
    list_id = behaviour.event_attributes.list_id
    return (
        when(behaviour),
        user_of(behaviour) or "",
        behaviour.action_name,
        item_of(behaviour) or "",
        behaviour.query_id or "",
        list_id is None,
        list_id or "",
        behaviour.session_id or "",
    )


def answers_of(
    searches: Iterable[SearchEvent], lists: Iterable[RankedList], counts: Counter[str]
) -> dict[str, Answer]:
    """list_id -> the list with its search, in the order of time; of a list twice, the earlier."""
    asked: dict[str, list[SearchEvent]] = defaultdict(list)
    for search in searches:
        asked[search.query_id].append(search)
    found: dict[str, Answer] = {}
    for ranked in lists:
        counts["lists"] += 1
        answer = _answered(ranked, asked.get(ranked.query_id, ()), counts)
        known = found.get(ranked.list_id)
        if answer is None:
            continue
        counts["lists_twice"] += known is not None
        if known is None or answer.at < known.at:
            found[ranked.list_id] = answer
    by_time = sorted(found.values(), key=lambda answer: (answer.at, answer.ranked.list_id))
    return {answer.ranked.list_id: answer for answer in by_time}


def _answered(
    ranked: RankedList, searches: Sequence[SearchEvent], counts: Counter[str]
) -> Answer | None:
    """The list with the search that it answers: of several that have its items, the newest that
    was not asked after it."""
    places = {item.item_id: index for index, item in enumerate(ranked.items)}
    fitting = [
        search
        for search in searches
        if places.keys() <= {candidate.item_id for candidate in search.candidates}
    ]
    if not fitting:
        counts["lists_without_search"] += 1
        return None
    if len(fitting) > 1:
        fitting.sort(key=lambda search: _before(search, ranked))
    search = fitting[-1]
    at = ranked.timestamp or search.timestamp
    if at is None:
        counts["lists_undated"] += 1
        return None
    return Answer(utc(at), search, ranked, places)


def _before(search: SearchEvent, ranked: RankedList) -> tuple[bool, float, bytes]:
    asked = utc(search.timestamp).timestamp() if search.timestamp else float("-inf")
    answered = utc(ranked.timestamp).timestamp() if ranked.timestamp else float("inf")
    return asked <= answered, asked, codec.encode(search)


def not_before_its_list(
    done: Iterable[Behaviour], answers: Mapping[str, Answer]
) -> list[Behaviour]:
    """The behaviours, in the order of time; one that names a list is not older than the list.

    The list has the worker's clock, a behaviour that of a page: one that is slow would put a click
    before what was clicked, outside its window and into the history that the list was made from.
    """
    timely = []
    for behaviour in done:
        about = answers.get(behaviour.event_attributes.list_id or "")
        if about is not None and when(behaviour) < about.at:
            behaviour = msgspec.structs.replace(behaviour, timestamp=about.at)
        timely.append(behaviour)
    return sorted(timely, key=_identity)


def followed_by(
    answers: Mapping[str, Answer],
    done: Iterable[Behaviour],
    settings: LabelSettings,
    counts: Counter[str],
) -> dict[str, list[Behaviour]]:
    """list_id -> what was done with its items within the window, in the order of time."""
    window = timedelta(hours=settings.window_hours)
    of_query: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers.values():
        of_query[answer.ranked.query_id].append(answer)
    found: dict[str, list[Behaviour]] = {key: [] for key in answers}
    for behaviour in done:
        about = _of(behaviour, answers, of_query)
        if about is None:
            counts["behaviours_unattributed"] += 1
        elif not timedelta() <= when(behaviour) - about.at <= window:
            counts["behaviours_outside_window"] += 1
        elif item_of(behaviour) not in about.places:
            counts["behaviours_off_list"] += 1
        else:
            found[about.ranked.list_id].append(behaviour)
    return found


def _of(
    behaviour: Behaviour,
    answers: Mapping[str, Answer],
    of_query: Mapping[str, Sequence[Answer]],
) -> Answer | None:
    """The list that a behaviour is about."""
    if behaviour.event_attributes.list_id is not None:
        return answers.get(behaviour.event_attributes.list_id)
    of_its_query = of_query.get(behaviour.query_id or "", ())
    earlier = (answer for answer in reversed(of_its_query) if answer.at <= when(behaviour))
    return next(earlier, of_its_query[0] if of_its_query else None)


def histories_of(
    answers: Iterable[Answer], done: Iterable[Behaviour]
) -> dict[str, tuple[HistoryEntry, ...]]:
    """list_id -> the user's history as the worker had it: an event's own, else the profile of all
    that this user did strictly before the list, by the worker's own `fold`."""
    did: dict[str | None, list[Behaviour]] = defaultdict(list)
    for behaviour in done:
        did[user_of(behaviour)].append(behaviour)
    profiles: dict[str, Profile] = defaultdict(Profile)
    folded: Counter[str] = Counter()
    found = {}
    for answer in answers:
        user, event = answer.user, answer.search
        entries: tuple[HistoryEntry, ...] = ()
        if user is not None:
            acts = did[user]
            while folded[user] < len(acts) and when(acts[folded[user]]) < answer.at:
                profiles[user] = fold(profiles[user], acts[folded[user]])
                folded[user] += 1
            entries = profiles[user].entries
        if event.personalise is False:
            entries = ()
        elif event.history is not None:
            entries = event.history
        found[answer.ranked.list_id] = entries
    return found
