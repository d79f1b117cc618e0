"""Logged events for tests: searches, lists and what was done with them; say only what matters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.factories import candidate, event
from training.impressions import ImpressionList, Joined, join_impressions
from training.labels import LabelSettings
from worker.events import (
    Behaviour,
    EventAttributes,
    Item,
    ObjectRef,
    RankedItem,
    RankedList,
    SearchEvent,
    Why,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """That long after noon."""
    return NOON + timedelta(seconds=seconds)


def search(number: int = 1, ids: str = "abcd", **fields: Any) -> SearchEvent:
    """Search `q-number` at noon, over one candidate a letter."""
    items = fields.pop("candidates", [candidate(item_id) for item_id in ids])
    fixed = {"query_id": f"q-{number}", "user_id": "u", "timestamp": NOON}
    return event(items, **(fixed | fields))


def place(item_id: str, rank: int, **fields: Any) -> RankedItem:
    """One place of a list, where exploration did nothing unless told."""
    fixed: dict[str, Any] = {"relevance": 0.5, "gain": 0.5, "category": None, "engine_rank": rank}
    fixed |= {"engine_score": None, "sponsored": None, "ad_id": None, "base_rank": rank}
    fixed |= {"shown_probability": 1.0, "why": Why(relevance=0.5, diversity=0.0)}
    return RankedItem(item_id=item_id, rank=rank, **(fixed | fields))


def ranked(number: int = 1, ids: str | Sequence[RankedItem] = "abcd", **fields: Any) -> RankedList:
    """The list `l-number` that answers `q-number`, one item a letter, one second after noon."""
    items = tuple(
        place(one, rank) if isinstance(one, str) else one for rank, one in enumerate(ids, start=1)
    )
    fixed: dict[str, Any] = {"query_id": f"q-{number}", "list_id": f"l-{number}", "user_id": "u"}
    fixed |= {"client_id": None, "user_query": "running shoes", "timestamp": at(1), "model": "m"}
    fixed |= {"policy": "default", "diversity": 0.2, "experiment": None, "degraded": False}
    fixed |= {"reason": None, "candidate_count": len(items), "items": items}
    return RankedList(**(fixed | fields))


def did(
    action: str, item_id: str, seconds: float = 10, number: int = 1, **fields: Any
) -> Behaviour:
    """What a user did with an item of list `l-number`; list_id=None for a page that echoes none."""
    list_id = fields.pop("list_id", f"l-{number}")
    fixed: dict[str, Any] = {"action_name": action, "query_id": f"q-{number}", "user_id": "u"}
    fixed |= {
        "timestamp": at(seconds),
        "event_attributes": EventAttributes(object=ObjectRef(object_id=item_id), list_id=list_id),
    }
    return Behaviour(**(fixed | fields))


def joined(
    behaviours: Sequence[Behaviour],
    lists: Sequence[RankedList] = (ranked(),),
    searches: Sequence[SearchEvent] = (search(),),
    items: Sequence[Item] = (),
    **settings: Any,
) -> Joined:
    """All of these, joined."""
    known = {item.item_id: item for item in items}
    return join_impressions(searches, lists, behaviours, known, LabelSettings(**settings))


def only(found: Joined) -> ImpressionList:
    """The one list that there is."""
    (one,) = found.lists
    return one


def grades(one: ImpressionList) -> dict[str, float]:
    """item_id -> its grade, of what was shown."""
    return {shown.item.item_id: shown.grade for shown in one.shown}
