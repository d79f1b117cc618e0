"""What behaviours say of the items of one list: a grade each, in [0, 1], and who only clicks.

Nothing here knows places: that a grade was given at the top of a page is `debias`'s business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta, Struct

from worker.events import Behaviour
from worker.ranking.profiles import utc

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
IMPRESSION: Final = "impression"  # UBI: the page reports that an item was on the screen
CLICK: Final = "click"
GRADES: Final = {CLICK: 0.5, "add_to_cart": 0.8, "purchase": 1.0}
RATE_SECONDS: Final = 60.0


class LabelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as a sign of relevance, how much, for how long, and from whom."""

    window_hours: Annotated[
        float, Meta(gt=0, description="how long after a list a behaviour still counts for it")
    ] = 24.0
    grades: Annotated[
        dict[str, Share],
        Meta(
            description="action_name -> the grade that it gives; an item keeps the highest, and an "
            "action that is not named gives none"
        ),
    ] = msgspec.field(default_factory=lambda: dict(GRADES))
    dwell_seconds: Annotated[
        float,
        Meta(gt=0, description="from a click to the next behaviour: from here on it satisfied"),
    ] = 30.0
    satisfied_grade: Annotated[Share, Meta(description="the grade of a click that satisfied")] = 0.7
    unreported_places: Annotated[
        int | None,
        Meta(
            description="how many places of a list count as shown where its page reports no "
            "impressions, and down to the last one acted on; none for the whole list"
        ),
    ] = None
    bot_acts_per_minute: Annotated[
        int, Meta(ge=1, description="who gives more grades within any minute is a bot")
    ] = 30
    bot_click_share: Annotated[
        Share, Meta(description="who acts on more than this share of what is shown is a bot")
    ] = 0.6
    bot_least_shown: Annotated[int, Meta(ge=1, description="once this many places were shown")] = 30


def user_of(behaviour: Behaviour) -> str | None:
    """Whose profile it belongs to: the worker's own key."""
    return behaviour.user_id or behaviour.client_id or None


def item_of(behaviour: Behaviour) -> str | None:
    """The id of the item that it is about; None where it is about none."""
    target = behaviour.event_attributes.object
    return None if target is None or target.object_id is None else str(target.object_id)


def when(behaviour: Behaviour) -> datetime:
    """Its time, in UTC where it says no offset; only for a behaviour that has one."""
    assert behaviour.timestamp is not None, "a behaviour without a time was kept: this is a bug"
    return utc(behaviour.timestamp)


def satisfied(behaviours: Iterable[Behaviour], settings: LabelSettings) -> frozenset[int]:
    """The `id` of each click whose user stayed with it: Fox et al. (ACM TOIS 2005) use 30 seconds.

    Stayed means: the user's next behaviour of the same session (the same query where there is no
    session), impressions apart, came at least `dwell_seconds` later. A click that nothing follows
    is a plain click: how long its user stayed is not known. `behaviours` are in the order of time.
    """
    found: set[int] = set()
    last: dict[tuple[str | None, str | None], Behaviour] = {}
    for behaviour in behaviours:
        if behaviour.action_name == IMPRESSION:
            continue
        visit = (user_of(behaviour), behaviour.session_id or behaviour.query_id)
        before = last.get(visit)
        if before is not None and before.action_name == CLICK:
            stayed = (when(behaviour) - when(before)).total_seconds()
            if stayed >= settings.dwell_seconds:
                found.add(id(before))
        last[visit] = behaviour
    return frozenset(found)


def grades(
    behaviours: Iterable[Behaviour], stayed: frozenset[int], settings: LabelSettings
) -> dict[str, float]:
    """item_id -> the highest grade that any behaviour gave it; items without one are absent."""
    found: dict[str, float] = {}
    for behaviour in behaviours:
        item, grade = item_of(behaviour), settings.grades.get(behaviour.action_name, 0.0)
        if id(behaviour) in stayed:
            grade = max(grade, settings.satisfied_grade)
        if item is not None and grade > 0.0:
            found[item] = max(grade, found.get(item, 0.0))
    return found


def hasty(behaviours: Sequence[Behaviour], settings: LabelSettings) -> frozenset[str]:
    """Users with more than `bot_acts_per_minute` graded behaviours within some minute.

    `behaviours` are in the order of time.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for behaviour in behaviours:
        user = user_of(behaviour)
        if user is not None and behaviour.action_name in settings.grades:
            times[user].append(when(behaviour).timestamp())
    many = settings.bot_acts_per_minute
    return frozenset(
        user
        for user, at in times.items()
        if len(at) > many and np.any(np.array(at[many:]) - np.array(at[:-many]) <= RATE_SECONDS)
    )


def greedy(seen: Mapping[str, tuple[int, int]], settings: LabelSettings) -> frozenset[str]:
    """Users who act on more than `bot_click_share` of what they see: `seen` is user -> (places
    shown, of these acted on)."""
    return frozenset(
        user
        for user, (shown, acted) in seen.items()
        if shown >= settings.bot_least_shown and acted > settings.bot_click_share * shown
    )
