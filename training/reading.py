"""Rows of a log table in one order, whatever batches and files they came in, slice by slice.

The order is (time, topic, partition, offset). Rows are counted by the minute first; then minutes
are read together up to `SLICE_ROWS` rows, sorted, and given out: no more is in memory at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Annotated, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from msgspec import Meta, Struct

from training.records import SCHEMA, Place, Record, item_of
from worker.errors import BadMessage
from worker.events import Item

LOG = logging.getLogger(__name__)
T = TypeVar("T")
SLICE_ROWS: Final = 5_000
MINUTE: Final = timedelta(minutes=1)
KEY: Final = ("at", "topic", "partition", "offset")
ORDER: Final = [(name, "ascending") for name in KEY]
Version = Annotated[int, Meta(ge=-1, description="of a Delta table; -1 where there was none")]


class Snapshot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the logs held at one moment: a version of each table."""

    searches: Version = -1
    lists: Version = -1
    behaviours: Version = -1
    items: Version = -1

    def versions(self) -> dict[str, int]:
        """The version of each table by its name."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


def events(
    dataset: ds.Dataset,
    read: Callable[[bytes, datetime], T],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[T]:
    """The events with since <= time < until, in order; `read` takes a value and its record's time.

    Rows with an `error` are passed over. So are values that `read` refuses although they had none
    when they came (an older version took them): they are counted in the log.
    """
    refused: Counter[str] = Counter()
    for value, recorded in rows_in_order(dataset, since, until):
        try:
            event = read(value, recorded)
        except BadMessage as error:
            refused[error.path] += 1
            continue
        yield event
    if refused:
        LOG.warning("rows that can no longer be decoded were passed over: %s", dict(refused))


def newest_items(dataset: ds.Dataset) -> dict[str, Item]:
    """The newest item of each id, by id; without those that were deleted last.

    Of one partition the highest offset is the newest, as in Kafka; between partitions (a topic that
    grew, a file that was imported) the later record.
    """
    newest: dict[tuple[str, Place], tuple[int, datetime, bytes | None]] = {}
    columns = ["item_id", "topic", "partition", "offset", "timestamp", "value"]
    for row in rows_of(dataset, columns, _valid()):
        key = (row["item_id"], (row["topic"], row["partition"]))
        if key not in newest or row["offset"] > newest[key][0]:
            newest[key] = (row["offset"], row["timestamp"], row["value"])
    standing: dict[str, tuple[datetime, Place, bytes | None]] = {}
    for (item_id, place), (_, timestamp, value) in newest.items():
        known = standing.get(item_id)
        if known is None or (timestamp, place) > known[:2]:
            standing[item_id] = (timestamp, place, value)
    found = {item_id: item_of(standing[item_id][2]) for item_id in sorted(standing)}
    return {item_id: item for item_id, item in found.items() if item is not None}


def superseded_items(dataset: ds.Dataset, before: datetime) -> pa.Table:
    """(topic, partition, offset) of rows recorded before `before` that a newer one replaced.

    A row is replaced by one of the same item at a higher offset of its own partition.
    """
    keys = ["item_id", "topic", "partition"]
    rows = dataset.to_table(columns=[*keys, "offset", "timestamp"], filter=_valid())
    newest = rows.group_by(keys).aggregate([("offset", "max")])
    both = rows.join(newest, keys)
    old = both.filter(
        (pc.field("offset") < pc.field("offset_max")) & (pc.field("timestamp") < _time(before))
    )
    return old.select(["topic", "partition", "offset"])


def absent(dataset: ds.Dataset, records: Sequence[Record]) -> list[Record]:
    """Those of `records` whose offsets have no row."""
    found: list[Record] = []
    for place in sorted({one.place for one in records}):
        here = [one for one in records if one.place == place]
        first, last = min(one.offset for one in here), max(one.offset for one in here)
        at = (ds.field("topic") == place[0]) & (ds.field("partition") == place[1])
        within = (ds.field("offset") >= first) & (ds.field("offset") <= last)
        known = set(dataset.to_table(columns=["offset"], filter=at & within)["offset"].to_pylist())
        found += [one for one in here if one.offset not in known]
    return found


def count(dataset: ds.Dataset) -> tuple[int, int]:
    """(rows, rows with an `error`)."""
    return dataset.count_rows(), dataset.count_rows(filter=ds.field("error").is_valid())


def count_from(dataset: ds.Dataset, start: Callable[[Place], int]) -> int:
    """How many rows without an `error` there are from `start` of their place on."""
    return int(dataset.count_rows(filter=from_places(dataset, start)))


def from_places(dataset: ds.Dataset, start: Callable[[Place], int]) -> Any:
    """The condition of rows without an `error` from `start` of their place on."""
    places: set[Place] = set()
    for batch in dataset.to_batches(columns=["topic", "partition"]):
        own = pa.table(batch).group_by(batch.schema.names).aggregate([])
        places |= {(row["topic"], row["partition"]) for row in own.to_pylist()}
    wanted = ds.scalar(False)
    for topic, partition in places:
        at = (ds.field("topic") == topic) & (ds.field("partition") == partition)
        wanted |= (ds.field("offset") >= start((topic, partition))) & at
    return _valid() & wanted


def outermost(
    dataset: ds.Dataset, wanted: Any, columns: Sequence[str], count: int, *, newest: bool
) -> Iterator[dict[str, Any]]:
    """Up to `count` of the rows that are `wanted`, the newest or the oldest, in no order.

    They are of whole minutes, as many as `count` allows; of a first minute that holds more, some.
    """
    counted = _minutes(dataset, wanted)
    ordered = sorted(counted, reverse=newest)
    rows = accumulate(counted[minute] for minute in ordered)
    last = max(1, sum(each <= count for each in rows))
    if not ordered:
        return
    limit = ordered[:last][-1]
    within = between(limit) if newest else between(until=limit + MINUTE)
    yield from islice(rows_of(dataset, columns, wanted & within), count)


def rows_in_order(
    dataset: ds.Dataset,
    since: datetime | None = None,
    until: datetime | None = None,
    slice_rows: int = SLICE_ROWS,
) -> Iterator[tuple[bytes, datetime]]:
    """(value, time of its record) of the rows without an `error`, as `events` gives them."""
    wanted = between(since, until)
    for within in _slices(dataset, wanted, slice_rows):
        rows = dataset.to_table(columns=[*KEY, "timestamp", "value"], filter=wanted & within)
        sorted_rows = rows.sort_by(ORDER).select(["value", "timestamp"])
        for batch in sorted_rows.to_batches(max_chunksize=1_000):
            yield from zip(batch["value"].to_pylist(), batch["timestamp"].to_pylist(), strict=True)


def _slices(dataset: ds.Dataset, wanted: Any, slice_rows: int) -> Iterator[Any]:
    """Conditions, in order, that each hold for up to `slice_rows` rows."""
    for first, last, rows in _together(_minutes(dataset, wanted), slice_rows):
        within = (ds.field("at") >= _time(first)) & (ds.field("at") < _time(last))
        if rows <= slice_rows:
            yield within
        else:
            yield from _parts(dataset, wanted & within, slice_rows)


def _minutes(dataset: ds.Dataset, wanted: Any) -> Counter[datetime]:
    """How many rows each minute has."""
    counted: Counter[datetime] = Counter()
    for batch in dataset.to_batches(columns=["at"], filter=wanted):
        minutes = pc.value_counts(pc.floor_temporal(batch["at"], unit="minute"))
        for minute in minutes.to_pylist():
            counted[minute["values"]] += minute["counts"]
    return counted


def _together(
    counted: Counter[datetime], slice_rows: int
) -> Iterator[tuple[datetime, datetime, int]]:
    """(first moment, last moment, rows) of minutes that hold up to `slice_rows`, or of one."""
    group: list[datetime] = []
    rows = 0
    for minute in sorted(counted):
        if group and rows + counted[minute] > slice_rows:
            yield group[0], group[-1] + MINUTE, rows
            group, rows = [], 0
        group.append(minute)
        rows += counted[minute]
    if group:
        yield group[0], group[-1] + MINUTE, rows


def _parts(dataset: ds.Dataset, wanted: Any, slice_rows: int) -> Iterator[Any]:
    """A minute that holds more, cut by the whole key: an import may have one time throughout."""
    keys = dataset.to_table(columns=list(KEY), filter=wanted).sort_by(ORDER)
    starts = keys.take(list(range(0, keys.num_rows, slice_rows))).to_pylist()
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        within = _from(start)
        yield wanted & within if end is None else wanted & within & ~_from(end)


def _from(key: dict[str, Any], names: Sequence[str] = ()) -> Any:
    """Rows at `key` or after it, in the order of the key's columns."""
    name, *rest = names or KEY
    value = pa.scalar(key[name], SCHEMA.field(name).type)
    if not rest:
        return ds.field(name) >= value
    return (ds.field(name) > value) | ((ds.field(name) == value) & _from(key, rest))


def rows_of(dataset: ds.Dataset, columns: Sequence[str], wanted: Any) -> Iterator[dict[str, Any]]:
    """Rows in no order, a batch in memory at once."""
    read = {"batch_size": 1_000, "batch_readahead": 1, "fragment_readahead": 1}
    for batch in dataset.to_batches(columns=list(columns), filter=wanted, **read):
        yield from batch.to_pylist()


def _valid() -> Any:
    return ~ds.field("error").is_valid()


def between(since: datetime | None = None, until: datetime | None = None) -> Any:
    """The condition of rows without an `error` with since <= time < until."""
    condition = _valid()
    if since is not None:
        condition &= ds.field("at") >= _time(since)
    if until is not None:
        condition &= ds.field("at") < _time(until)
    return condition


def _time(at: datetime) -> pa.Scalar:
    """A time as the columns have it; without an offset it is UTC."""
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return pa.scalar(aware, type=SCHEMA.field("at").type)
