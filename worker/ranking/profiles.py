"""What is remembered of a user: `fold` adds a behaviour to a profile, `weights` reads it.

A profile is a set of the newest entries. Folding is idempotent and does not mind the order of
arrival, so a redelivered or late behaviour does no harm, and training can rebuild the profile of
any moment with the code that serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from worker.events import Behaviour, HistoryEntry, Profile

REMEMBERED: Final = 50  # entries
LONGEST_ID: Final = 512  # characters: a profile stays small, whoever writes behaviours
HALF_LIFE_SECONDS: Final = 7 * 86_400.0
ACTION_WEIGHTS: Final = {"click": 1.0, "view": 1.0, "add_to_cart": 3.0, "purchase": 5.0}
"""How much each action tells of a taste; an action that is not named here is not remembered."""


def fold(profile: Profile, behaviour: Behaviour) -> Profile:
    """The profile after one more behaviour."""
    entry = entry_of(behaviour)
    if entry is None or entry in profile.entries:
        return profile
    newest = sorted((*profile.entries, entry), key=_age_order, reverse=True)[:REMEMBERED]
    return Profile(entries=tuple(newest))


def entry_of(behaviour: Behaviour) -> HistoryEntry | None:
    """What a behaviour adds to a profile; None where it is about no item, or tells nothing."""
    target = behaviour.event_attributes.object
    if target is None or target.object_id in (None, ""):
        return None
    if len(str(target.object_id)) > LONGEST_ID:
        return None
    if behaviour.action_name not in ACTION_WEIGHTS:
        return None
    return HistoryEntry(
        item_id=str(target.object_id),
        action_name=behaviour.action_name,
        timestamp=behaviour.timestamp,
    )


def weights(entries: Iterable[HistoryEntry], now: datetime | None) -> dict[str, float]:
    """item_id -> how much it says of the user at `now`: the action's weight, halved every week.

    Only the newest REMEMBERED entries count, and those of the future count in full. Without `now`
    age is counted from the newest entry.
    """
    entries = sorted(entries, key=_age_order, reverse=True)[:REMEMBERED]
    now = now or max(
        (entry.timestamp for entry in entries if entry.timestamp), default=None, key=utc
    )
    found: dict[str, float] = {}
    for entry in entries:
        age = (utc(now) - utc(entry.timestamp)).total_seconds() if now and entry.timestamp else 0.0
        weight = ACTION_WEIGHTS.get(entry.action_name, 0.0) * 0.5 ** (
            max(age, 0.0) / HALF_LIFE_SECONDS
        )
        if weight > 0.0:
            found[entry.item_id] = found.get(entry.item_id, 0.0) + weight
    return found


def utc(time: datetime) -> datetime:
    """A time without an offset is UTC."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _age_order(entry: HistoryEntry) -> tuple[float, str, str]:
    when = utc(entry.timestamp).timestamp() if entry.timestamp else float("-inf")
    return when, entry.item_id, entry.action_name
