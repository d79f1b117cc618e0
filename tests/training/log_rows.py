"""Records for tests of the logs: say what matters, and the rest is plausible."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.factories import candidate, event
from training.logs import Logs, LogSettings
from training.records import Added, Record, Span
from worker import codec
from worker.events import Behaviour, Item, RankedList

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOPIC = "search-events"


def record(offset: int, value: bytes | None, **fields: Any) -> Record:
    """A record of `search-events`, one a second from noon on."""
    known = {"topic": TOPIC, "partition": 0, "timestamp": NOON + timedelta(seconds=offset)}
    return Record(**{**known, "offset": offset, "key": None, "value": value, **fields})


def search(offset: int, partition: int = 0, **fields: Any) -> Record:
    """A search whose query_id says where it lies."""
    known = {"query_id": f"q{partition}-{offset}", "candidates": (candidate("a"),)}
    return record(offset, codec.encode(event(**{**known, **fields})), partition=partition)


def searches(first: int, end: int, partition: int = 0) -> list[Record]:
    """Searches at offsets `first` up to, not including, `end`."""
    return [search(offset, partition) for offset in range(first, end)]


def ranked_list(query_id: str, list_id: str = "l", **fields: Any) -> RankedList:
    """A ranked list without items."""
    known: dict[str, Any] = {
        "user_id": None, "client_id": None, "user_query": "shoes", "timestamp": None,
        "model": None, "policy": "default", "diversity": 0.0, "experiment": None,
        "degraded": False, "reason": None, "candidate_count": 0, "items": (),
    }  # fmt: skip
    return RankedList(**{**known, "query_id": query_id, "list_id": list_id, **fields})


def click(query_id: str, **fields: Any) -> Behaviour:
    """A click."""
    return Behaviour(**{"action_name": "click", "query_id": query_id, **fields})


def append(logs: Logs, records: Sequence[Record], table: str = "searches") -> Added:
    """Claim the places of `records` from 0 on, and add them as a read from there."""
    spans = {
        place: Span(0, 1 + max(one.offset for one in records if one.place == place))
        for place in {one.place for one in records}
    }
    logs.claim(table, dict.fromkeys(spans, 0))
    return logs.append(table, records, spans)


def query_ids(logs: Logs) -> list[str]:
    """What is read of the searches now, in order."""
    return [found.query_id for found in logs.searches(logs.snapshot())]


def kept(logs: Logs, **fields: int) -> LogSettings:
    return LogSettings(url=logs.url, **fields)  # type: ignore[arg-type]


def item_record(offset: int, item_id: str, title: str | None, **fields: object) -> Record:
    value = None if title is None else codec.encode(Item(item_id=item_id, title=title))
    return record(offset, value, **{"topic": "items", "key": item_id.encode(), **fields})
