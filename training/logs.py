"""The logs: four Delta tables in a folder or an object store, and how rows get into them once.

How far a table has got in a partition of Kafka is part of the commit that adds the rows: the Delta
app transaction `topic/partition`, whose version is the next offset that is wanted. So the table is
the only truth of progress, a process may be killed at any moment, and several may write at once.
Rows are put in here; `training.reading` gives them out again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from msgspec import Meta, Struct

from training import reading
from training.reading import Snapshot
from training.records import SCHEMA, TABLES, Place, Record, arrow, behaviour_of, list_of, search_of
from training.records import Added as Added
from training.records import Span as Span
from worker.errors import PrismrankError
from worker.events import Behaviour, Item, RankedList, SearchEvent

T = TypeVar("T")
ATTEMPTS: Final = 50  # each lost one means that another writer went ahead
CONFIGURATION: Final = {"delta.checkpointInterval": "20"}  # opening reads what came since
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")  # deltalake's messages are made for a terminal
WRITER: Final = WriterProperties(compression="ZSTD", max_row_group_size=2_048)
"""Small row groups: a reader holds one at a time for each file."""


class BadLogs(PrismrankError):
    """The log tables cannot do what was asked. They hold what they held before."""


class Expired(BadLogs):
    """A snapshot is no longer kept: reading it again will not do either."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the logs are, and for how long."""

    url: Annotated[
        str, Meta(min_length=1, description="a folder, or an object store's URL (s3://…, gs://…)")
    ]
    storage_options: Annotated[
        dict[str, str], Meta(description="what the object store needs, in deltalake's words")
    ] = {}
    retention_days: Annotated[
        int,
        Meta(
            ge=0,
            description="rows recorded longer ago are deleted, of items those that a newer one"
            " replaced; 0 keeps all",
        ),
    ] = 365
    versions_days: Annotated[
        int,
        Meta(ge=1, description="a snapshot can be read for at least this long after it was taken"),
    ] = 30
    target_file_mb: Annotated[
        int, Meta(ge=1, description="small files are joined into files of about this size")
    ] = 64
    small_files: Annotated[
        int, Meta(ge=1, description="how many of them a day that still grows may have before that")
    ] = 500

    def open(self) -> Logs:
        """The logs at `url`; nothing is read or made yet."""
        return Logs(self.url, self.storage_options)


class Logs:
    """The four tables of `records.TABLES`. Safe to use from several threads and processes."""

    def __init__(self, url: str, storage_options: Mapping[str, str] = {}) -> None:
        self.url = url.rstrip("/")
        self._options = dict(storage_options)

    def offsets(self, table: str, topic: str) -> dict[int, int]:
        """{partition: next offset} of every partition that was claimed."""
        handle = self.open(table)
        found: dict[int, int] = {}
        while handle and (version := progress(handle, (topic, len(found)))) is not None:
            found[len(found)] = version
        return found

    def claim(self, table: str, starts: Mapping[Place, int]) -> None:
        """Say from which offset on partitions are collected; one that is claimed stays as it is.

        A claim without rows matters: what the broker drops from here on is a gap, not the past.
        """

        def attempt(handle: DeltaTable) -> None:
            fresh = {p: start for p, start in starts.items() if progress(handle, p) is None}
            if fresh:
                _write(handle, SCHEMA.empty_table(), {_app(p): at for p, at in fresh.items()})

        self._until_committed(table, attempt)

    def append(self, table: str, records: Sequence[Record], spans: Mapping[Place, Span]) -> Added:
        """Add what the table does not have yet of `records`, read over `spans`, in one commit.

        Raises BadLogs where a span starts after the offset that the table wants next: between them
        records would be lost.
        """

        rows = arrow(table, records)

        def attempt(handle: DeltaTable) -> Added:
            wanted = {place: _wanted(handle, place, span) for place, span in spans.items()}
            moved = {_app(p): span.end for p, span in spans.items() if span.end > wanted[p]}
            fresh = rows.filter(
                pa.array([one.offset >= wanted[one.place] for one in records], pa.bool_())
            )
            if moved:
                _write(handle, fresh, moved)
            return Added(fresh.num_rows, fresh.num_rows - fresh["error"].null_count)

        return self._until_committed(table, attempt)

    def refill(self, table: str, records: Sequence[Record]) -> Added:
        """Add those `records` from before the table's progress whose offsets have no row: a replay.

        Progress stays. Two replays at once add a row once: both write one app transaction.
        """

        def attempt(handle: DeltaTable) -> Added:
            passed = [one for one in records if one.offset < (progress(handle, one.place) or 0)]
            absent = reading.absent(handle.to_pyarrow_dataset(), passed)
            apps = sorted({f"replay:{_app(one.place)}" for one in absent})
            rows = arrow(table, absent)
            if absent:
                _write(handle, rows, {a: (handle.transaction_version(a) or 0) + 1 for a in apps})
            return Added(rows.num_rows, rows.num_rows - rows["error"].null_count)

        return self._until_committed(table, attempt)

    def snapshot(self) -> Snapshot:
        """The tables' versions now. Reading through it gives the same rows in the same order."""
        handles = {table: self.open(table) for table in TABLES}
        return Snapshot(**{table: h.version() if h else -1 for table, h in handles.items()})

    def searches(
        self, snapshot: Snapshot, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[SearchEvent]:
        """Search events with since <= time < until, by (time, topic, partition, offset).

        The time is the event's own, else the record's, and stands in its `timestamp`, in UTC; of
        `since` and `until` too, where they have no offset. Rows with an `error` are passed over.
        Raises Expired where the snapshot is no longer kept.
        """
        return self._events("searches", search_of, snapshot, since, until)

    def lists(
        self, snapshot: Snapshot, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[RankedList]:
        """Ranked lists, as `searches`; a list that the worker sent twice comes twice."""
        return self._events("lists", list_of, snapshot, since, until)

    def behaviours(
        self, snapshot: Snapshot, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Behaviour]:
        """Behaviours, as `searches`."""
        return self._events("behaviours", behaviour_of, snapshot, since, until)

    def items(self, snapshot: Snapshot) -> dict[str, Item]:
        """The catalogue as it stood: the newest of each item by its id, without deleted ones."""
        with self.translated("items"):
            handle = self.open("items", snapshot.items)
            return reading.newest_items(handle.to_pyarrow_dataset()) if handle else {}

    def counts(self, snapshot: Snapshot) -> dict[str, Added]:
        """How many rows each table has, and how many of them have an `error`."""
        found = dict.fromkeys(TABLES, Added())
        for table, version in snapshot.versions().items():
            with self.translated(table):
                if handle := self.open(table, version):
                    found[table] = Added(*reading.count(handle.to_pyarrow_dataset()))
        return found

    def since(self, table: str, snapshot: Snapshot) -> int:
        """How many rows without an `error` a table has at offsets that it had not reached when
        `snapshot` was taken; all, where that is no longer kept."""
        then: DeltaTable | None = None
        with contextlib.suppress(Expired):
            then = self.open(table, snapshot.versions()[table])
        with self.translated(table):
            if handle := self.open(table):
                dataset = handle.to_pyarrow_dataset()
                return reading.count_from(dataset, lambda at: (then and progress(then, at)) or 0)
        return 0

    def open(self, table: str, version: int | None = None) -> DeltaTable | None:
        """A table, now or as it was; None where there is none (version -1). Raises BadLogs."""
        if version == -1:
            return None
        with self.translated(table):
            try:
                return DeltaTable(self._path(table), version, storage_options=self._options)
            except TableNotFoundError:
                if version is None:
                    return None
                raise

    @contextlib.contextmanager
    def translated(self, table: str) -> Iterator[None]:
        """deltalake's and the store's errors as ours."""
        try:
            yield
        except (DeltaError, OSError) as error:
            kept = "; a snapshot is kept for `versions_days`: set more days for longer rounds"
            said = " ".join(COLOUR.sub("", str(error)).split())
            gone = isinstance(error, FileNotFoundError | TableNotFoundError)
            if gone or "not found" in said or "version" in said:
                raise Expired(f"{self._path(table)}: {said}{kept}") from error
            raise BadLogs(f"{self._path(table)}: {said}") from error

    def _events(
        self,
        table: str,
        read: Callable[[bytes, datetime], T],
        snapshot: Snapshot,
        since: datetime | None,
        until: datetime | None,
    ) -> Iterator[T]:
        with self.translated(table):
            if handle := self.open(table, snapshot.versions()[table]):
                yield from reading.events(handle.to_pyarrow_dataset(), read, since, until)

    def _until_committed(self, table: str, attempt: Callable[[DeltaTable], T]) -> T:
        """Run `attempt` on the table as it stands, again while other writers were faster."""
        with self.translated(table):
            for remaining in reversed(range(ATTEMPTS)):
                handle = self.open(table) or self._made(table)
                try:
                    return attempt(handle)
                except CommitFailedError:
                    if not remaining:
                        raise
        raise AssertionError("the last attempt raises or returns: this is a bug")

    def _made(self, table: str) -> DeltaTable:
        path = self._path(table)
        try:
            return DeltaTable.create(
                path,
                SCHEMA,
                partition_by=["day"],
                configuration=CONFIGURATION,
                storage_options=self._options,
            )
        except DeltaError:  # another writer made it first
            return DeltaTable(path, storage_options=self._options)

    def _path(self, table: str) -> str:
        return f"{self.url}/{table}"


def _app(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


def progress(handle: DeltaTable, place: Place) -> int | None:
    """The next offset that a table wants of a place; None where it was never claimed."""
    return handle.transaction_version(_app(place))


def _wanted(handle: DeltaTable, place: Place, span: Span) -> int:
    wanted = progress(handle, place)
    if wanted is None or wanted < span.start:
        raise BadLogs(
            f"{handle.table_uri}: {_app(place)} was read from offset {span.start}, expected"
            f" {'a claim first' if wanted is None else f'{wanted}, the next that is wanted'};"
            " nothing was added (was the table set back or removed meanwhile? read again)"
        )
    return wanted


def _write(handle: DeltaTable, rows: pa.Table, transactions: Mapping[str, int]) -> None:
    """One commit of rows and progress, through the handle whose progress was read.

    Only so does Delta refuse it where another writer has moved one of the transactions since.
    """
    apps = [Transaction(app, version) for app, version in transactions.items()]
    write_deltalake(
        handle,
        rows,
        mode="append",
        schema_mode="merge",  # a table of an older version gains the columns that it lacks
        writer_properties=WRITER,
        commit_properties=CommitProperties(app_transactions=apps),
    )
