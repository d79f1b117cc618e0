"""A Kafka record as a row of a log table: its raw value, and the keys that tables are read by.

The value is the truth and is kept byte for byte; the keys are what `worker.codec` reads in it. A
value that the codec refuses is a row too: its `error` says why, and readers pass over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import pyarrow as pa

from worker import codec
from worker.errors import BadMessage, Invalid, Undecodable
from worker.events import Behaviour, Item, RankedList, SearchEvent

Place: TypeAlias = tuple[str, int]  # a topic with its prefix, and a partition of it
Event: TypeAlias = SearchEvent | RankedList | Behaviour
E = TypeVar("E", SearchEvent, RankedList, Behaviour)

TABLES: Final = {
    "searches": "search-events",
    "lists": "ranked-lists",
    "behaviours": "behaviour-events",
    "items": "items",
}
"""Each log table, and the topic that it is collected from."""

LIMITS: Final = codec.Limits(record_bytes=1 << 26, candidates=100_000)
"""Far above the worker's own: what it took must be readable here, whatever its settings were."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)

SCHEMA: Final = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),  # the record's
        ("day", pa.string()),  # of `timestamp`, the table's partitions: what retention goes by
        ("at", pa.timestamp("us", tz="UTC")),  # the event's own time where it states one
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("error", pa.string()),
        ("query_id", pa.string()),
        ("list_id", pa.string()),
        ("user", pa.string()),
        ("action_name", pa.string()),
        ("item_id", pa.string()),
    ]
)
"""The columns of every log table."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as Kafka keeps it. `timestamp` is aware; `value` None is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Span:
    """What a read of one partition covered: offsets from `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Added:
    """What a write added: `rows`, of which `errors` hold a value that cannot be decoded."""

    rows: int = 0
    errors: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(self.rows + other.rows, self.errors + other.errors)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a row is found by. `at` is UTC; `error` says why there is nothing else."""

    at: datetime
    error: str | None = None
    query_id: str | None = None
    list_id: str | None = None
    user: str | None = None
    action_name: str | None = None
    item_id: str | None = None


def time_of(milliseconds: int | None, otherwise: datetime) -> datetime:
    """A record's timestamp; `otherwise` where Kafka has none (-1), or one past the year 9999.

    >>> time_of(1_500, EPOCH).isoformat(), time_of(-1, EPOCH) == EPOCH
    ('1970-01-01T00:00:01.500000+00:00', True)
    """
    if milliseconds is None or not 0 <= milliseconds < (LAST - EPOCH) // timedelta(milliseconds=1):
        return otherwise
    return EPOCH + timedelta(milliseconds=milliseconds)


def search_of(value: bytes, recorded: datetime) -> SearchEvent:
    """A value of `searches`; its timestamp is always stated, in UTC. Raises BadMessage.

    It is the event's own, else `recorded`, the record's.
    """
    return _timed(codec.decode_search_event(value, LIMITS), recorded)


def list_of(value: bytes, recorded: datetime) -> RankedList:
    """A value of `lists`, as `search_of`."""
    return _timed(codec.decode_ranked_list(value, LIMITS), recorded)


def behaviour_of(value: bytes, recorded: datetime) -> Behaviour:
    """A value of `behaviours`, as `search_of`."""
    return _timed(codec.decode_behaviour(value, LIMITS), recorded)


def item_of(value: bytes | None) -> Item | None:
    """The item in a value of `items`; None where the record deletes it. Raises BadMessage."""
    return codec.decode_item(value, LIMITS) if value else None


def keys_of(table: str, record: Record) -> Keys:
    """The keys of a record, or the error that it has instead."""
    try:
        if table == "items":
            return Keys(at=record.timestamp, item_id=_item_id(record))
        if record.value is None:
            raise Invalid("$", "a value", None)
        return _keys(READERS[table](record.value, record.timestamp))
    except BadMessage as error:
        return Keys(at=record.timestamp, error=str(error))


READERS: Final[Mapping[str, Callable[[bytes, datetime], Event]]] = {
    "searches": search_of,
    "lists": list_of,
    "behaviours": behaviour_of,
}


def arrow(table: str, records: Sequence[Record]) -> pa.Table:
    """Records as rows, in their order; of undecodable ones the keys are null."""
    rows = [_row(record, keys_of(table, record)) for record in records]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(record: Record, keys: Keys) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "day": record.timestamp.date().isoformat(),
        "at": keys.at,
        "key": record.key,
        "value": record.value,
        "error": keys.error,
        "query_id": keys.query_id,
        "list_id": keys.list_id,
        "user": keys.user,
        "action_name": keys.action_name,
        "item_id": keys.item_id,
    }


def _keys(event: Event) -> Keys:
    assert event.timestamp is not None, "a reader states the time: this is a bug"
    user = event.user_id or event.client_id
    match event:
        case SearchEvent():
            return Keys(at=event.timestamp, query_id=event.query_id, user=user)
        case RankedList():
            at, list_id = event.timestamp, event.list_id
            return Keys(at=at, query_id=event.query_id, list_id=list_id, user=user)
        case Behaviour():
            return _behaviour_keys(event, event.timestamp, user)


def _behaviour_keys(event: Behaviour, at: datetime, user: str | None) -> Keys:
    about = event.event_attributes.object
    return Keys(
        at=at,
        query_id=event.query_id,
        list_id=event.event_attributes.list_id,
        user=user,
        action_name=event.action_name,
        item_id=None if about is None or about.object_id is None else str(about.object_id),
    )


def _item_id(record: Record) -> str:
    """The item that a record is about: its key, as the worker has it, else what its value says."""
    item = item_of(record.value)
    if record.key:
        try:
            return record.key.decode()
        except UnicodeDecodeError as error:
            raise Undecodable("key", "an item_id in UTF-8", record.key) from error
    if item is None:
        raise Invalid("key", "the item_id of what is deleted")
    return item.item_id


def _timed(event: E, recorded: datetime) -> E:
    return msgspec.structs.replace(event, timestamp=_utc(event.timestamp) or recorded)


def _utc(time: datetime | None) -> datetime | None:
    """A time in UTC; without an offset it is UTC. Raises Invalid beyond what tables can hold."""
    if time is None:
        return None
    try:
        utc = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError:
        utc = LAST
    if utc >= LAST:
        raise Invalid("$.timestamp", "a time from the year 1 to 9999", time)
    return utc
