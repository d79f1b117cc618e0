"""Catalogue, rules and policies: compacted topics read into dicts by every worker, all partitions.

A record that is not valid leaves the row as it was; it is logged and counted, and stays in its
topic, which is its own archive.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from worker import codec
from worker.errors import BadMessage, BadSetting, WorkerFault
from worker.events import Item, ListRule
from worker.policies import Policy
from worker.ranking.diversify import METHODS
from worker.ranking.join import Tables, remembers_nobody
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)
Row = TypeVar("Row")
ALIASES = {"product_id": "item_id", "name": "title", "category_derived": "category"}


class Known:
    """What the worker knows, row by row; `tables` is the view that `join` reads."""

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.limits
        self.items: dict[str, Item] = {}
        self.rules: dict[str, ListRule] = {}
        self.policies: dict[str, Policy] = {}
        self._categories: Counter[str] = Counter()
        self._names: tuple[str, ...] | None = ()

    def put(self, table: str, key: str, value: bytes | None) -> None:
        """One record of `items`, `list-rules` or `policies`; None deletes. Raises BadMessage."""
        if table == "items":
            self._count(self.items.get(key), -1)
            try:
                _set(self.items, key, value and codec.decode_item(value, self._limits))
            finally:
                self._count(self.items.get(key), +1)
        elif table == "list-rules":
            _set(self.rules, key, value and codec.decode_rule(value, self._limits))
        else:
            methods = frozenset(METHODS)
            _set(self.policies, key, value and codec.decode_policy(value, self._limits, methods))

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        return {
            "items": len(self.items),
            "list-rules": len(self.rules),
            "policies": len(self.policies),
        }

    def tables(self, history: Callable[[str], Any] = remembers_nobody) -> Tables:
        """The tables as they stand."""
        if self._names is None:
            self._names = tuple(sorted(+self._categories))
        return Tables(self.items, self.rules, self.policies, history, self._names)

    def _count(self, item: Item | None, step: int) -> None:
        if item is not None and item.category:
            before = self._categories[item.category]
            self._categories[item.category] += step
            if before <= 0 or before + step <= 0:
                self._names = None


def _set(rows: dict[str, Any], key: str, value: Any) -> None:
    if value is None or value == b"":
        rows.pop(key, None)
    else:
        rows[key] = value


class Reader:
    """Keeps `Known` up with its topics. No group: every worker reads every partition."""

    def __init__(self, settings: Settings, known: Known, telemetry: Telemetry) -> None:
        self._settings, self._known, self._telemetry = settings, known, telemetry
        names = ["list-rules", "policies"]
        if settings.catalogue == "topic":
            names.insert(0, "items")
        self._table_of = {settings.topic(name): name for name in names}
        self._consumer: AIOKafkaConsumer | None = None

    async def read_to_end(self) -> None:
        """Read everything that the topics hold now. Raises WorkerFault where one is missing."""
        settings = self._settings
        consumer = self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=settings.fetch_wait_ms,
            max_partition_fetch_bytes=max(settings.max_record_bytes, 1 << 20),
        )
        counts = await partition_counts(settings, self._table_of)
        partitions = [TopicPartition(name, i) for name in counts for i in range(counts[name])]
        await consumer.start()
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        missing = {tp for tp, end in ends.items() if end > 0}
        while missing:
            await self._read_some()
            missing = {tp for tp in missing if await consumer.position(tp) < ends[tp]}

    async def follow(self) -> None:
        """Go on reading, for ever."""
        while True:
            await self._read_some()

    async def ends(self, places: Iterable[TopicPartition]) -> dict[tuple[str, int], int]:
        """The end offsets of any partitions, asked of the broker past every consumer group."""
        assert self._consumer is not None, "a reader is started before it is asked: a bug"
        found = await self._consumer.end_offsets(list(places))
        return {(tp.topic, tp.partition): end for tp, end in found.items()}

    async def stop(self) -> None:
        """Close the consumer."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _read_some(self) -> None:
        assert self._consumer is not None, "a reader is started before it reads: a bug"
        batches = await self._consumer.getmany(timeout_ms=200, max_records=5_000)
        for tp, records in batches.items():
            for record in records:
                self._put(self._table_of[tp.topic], record)
            await asyncio.sleep(0)
        for table, rows in self._known.rows().items():
            self._telemetry.table_rows.labels(table).set(rows)

    def _put(self, table: str, record: ConsumerRecord) -> None:
        try:
            key = (record.key or b"").decode()
            self._known.put(table, key, record.value)
        except Exception as error:  # a row, whatever is wrong with it, stops no worker
            self._telemetry.rejected_rows.labels(table).inc()
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            LOG.warning("row not taken, the former one stays: %s", error, extra=where)


async def partition_counts(settings: Settings, topics: Iterable[str]) -> dict[str, int]:
    """How many partitions each topic has; raises WorkerFault where one does not exist."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        await admin.start()
        described = await admin.describe_topics(list(topics))
    except KafkaError as error:
        raise WorkerFault(f"{settings.kafka}: {error}") from error
    finally:
        await admin.close()
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    if missing := [name for name, count in counts.items() if not count]:
        raise WorkerFault(f"no such topics: {', '.join(missing)}; create them first")
    return counts


def read_catalogue(path: Path) -> dict[str, Item]:
    """A catalogue file: JSONL of Item, or parquet whose columns are fields of Item or ALIASES."""
    known: dict[str, Item] = {}
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _lines(path)
    for number, raw in rows:
        try:
            item = codec.decode_item(raw, codec.Limits())
        except BadMessage as error:
            raise BadSetting(f"{path}, row {number}: {error}") from error
        known[item.item_id] = item
    return known


def read_rules(path: Path) -> dict[str, ListRule]:
    """A JSONL file of ListRule."""
    return {rule.rule_id: rule for rule in _decoded(path, codec.decode_rule)}


def read_policies(path: Path) -> dict[str, Policy]:
    """A JSONL file of Policy."""
    decode = functools.partial(codec.decode_policy, methods=frozenset(METHODS))
    return {policy.policy_id: policy for policy in _decoded(path, decode)}


def _decoded(path: Path, decode: Callable[[bytes, codec.Limits], Row]) -> Iterator[Row]:
    for number, raw in _lines(path):
        try:
            yield decode(raw, codec.Limits())
        except BadMessage as error:
            raise BadSetting(f"{path}, row {number}: {error}") from error


def categories_of(items: Iterable[Item]) -> tuple[str, ...]:
    """The names of the categories, sorted."""
    return tuple(sorted({item.category for item in items if item.category}))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """A row as the JSON of an Item. A column's own name goes before an alias of it."""
    try:
        import pyarrow.parquet as parquet  # an extra: only who reads parquet pays for it
    except ImportError as error:
        raise BadSetting(f"{path}: reading parquet needs `pip install pyarrow`") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path}: {error}") from error
    wanted = {name: name for name in Item.__struct_fields__ if name in table.column_names}
    wanted |= {
        a: field for a, field in ALIASES.items() if a in table.column_names and field not in wanted
    }
    for number, row in enumerate(table.select(list(wanted)).to_pylist(), start=1):
        item = {wanted[column]: value for column, value in row.items() if value is not None}
        item["item_id"] = str(item.get("item_id", ""))
        if isinstance(item.get("attributes"), str):
            item["attributes"] = json.loads(item["attributes"])
        yield number, msgspec.json.encode(item)
