"""Kafka -> the log tables, exactly once: searches, ranked lists, behaviours and items.

A plain consumer without a group reads all partitions from the offsets that the tables themselves
hold. Nothing is committed to Kafka: a commit of a table is the rows and the progress in one, so a
killed collector goes on where its tables are, and two collectors at once add a row once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from msgspec import Meta, Struct

from training import upkeep
from training.intake import Batch, Collected, Gap, Progress
from training.logs import BadLogs, LogSettings
from training.records import TABLES, Added
from worker.errors import WorkerFault

LOG = logging.getLogger(__name__)
POLL_MS: Final = 200
FETCH_BYTES: Final = 1 << 20  # of a partition at a time; a larger record still comes, alone


class CollectSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the records come from, and how many are added at a time."""

    kafka: Annotated[str, Meta(min_length=1, description="bootstrap servers, comma-separated")] = (
        "localhost:9092"
    )
    topic_prefix: Annotated[str, Meta(description="before every topic name")] = ""
    batch_rows: Annotated[
        int, Meta(ge=1, description="a batch is added once it has this many records")
    ] = 5_000
    batch_mb: Annotated[int, Meta(ge=1, description="or this many megabytes")] = 32
    batch_seconds: Annotated[float, Meta(gt=0, description="or is this old")] = 10.0
    refresh_seconds: Annotated[
        float, Meta(gt=0, description="how often new topics and partitions are looked for")
    ] = 60.0
    upkeep_minutes: Annotated[
        float, Meta(gt=0, description="how often the tables are compacted and old rows deleted")
    ] = 60.0
    fetch_wait_ms: Annotated[
        int, Meta(ge=1, description="how long the broker may wait for records to come")
    ] = 500


Say = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tells nobody."""


def run(
    settings: CollectSettings,
    logs: LogSettings,
    *,
    once: bool = False,
    replay_from: int | None = None,
    say: Say = silent,
) -> Collected:
    """Collect until SIGTERM or SIGINT; with `once`, up to what the topics hold at the start.

    With `replay_from`, every partition is first read again from that offset, and rows that are
    absent are added. Raises WorkerFault (Kafka) and BadLogs (tables); what was added stays.
    """

    async def until_signalled() -> Collected:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        return await collect(settings, logs, once=once, replay_from=replay_from, say=say, stop=stop)

    return asyncio.run(until_signalled())


async def collect(
    settings: CollectSettings,
    logs: LogSettings,
    *,
    once: bool = False,
    replay_from: int | None = None,
    say: Say = silent,
    stop: asyncio.Event | None = None,
) -> Collected:
    """`run`, in a loop that is there; `stop` ends it after the batch that is being read."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        auto_offset_reset="none",  # an offset that is gone must be a gap, not a silent jump
        fetch_max_wait_ms=settings.fetch_wait_ms,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    collector = Collector(settings, logs, consumer, say, stop or asyncio.Event())
    with _kafka(settings):
        try:
            await consumer.start()
            await collector.place()
            if replay_from is not None:
                await collector.replay(replay_from)
            await (collector.read_to_end() if once else collector.follow())
        finally:
            await consumer.stop()
    return collector.total


class Collector:
    """One run: where it reads, and what it has added."""

    def __init__(
        self,
        settings: CollectSettings,
        logs: LogSettings,
        consumer: AIOKafkaConsumer,
        say: Say,
        stop: asyncio.Event,
    ) -> None:
        self.total = Collected()
        self._settings, self._log_settings, self._logs = settings, logs, logs.open()
        self._consumer, self._say, self._stop = consumer, say, stop
        self._table_of = {settings.topic_prefix + topic: table for table, topic in TABLES.items()}
        self._next: dict[TopicPartition, int] = {}
        self._batch = Batch({})

    async def place(self) -> None:
        """Stand where the tables are. Raises WorkerFault without topics, BadLogs with other ones.

        Called again when topics or partitions were added, and when the broker dropped offsets.
        """
        partitions = await self._partitions()
        self._consumer.assign(partitions)
        begins = await self._consumer.beginning_offsets(partitions)
        wanted = await asyncio.to_thread(self._wanted, begins)
        ends = await self._consumer.end_offsets(partitions)  # last: another may be writing
        self._next = {}
        for at in partitions:
            if wanted[at] > ends[at]:
                raise BadLogs(
                    f"{_name(at)}: {self._logs.url} has its offsets up to {wanted[at] - 1}, the"
                    f" broker up to {ends[at] - 1}: this is another topic of that name; collect it"
                    " into another folder, or under another prefix"
                )
            if wanted[at] < begins[at]:
                self._gap(at, wanted[at], begins[at], "were gone before they were collected")
            self._seek(at, max(wanted[at], begins[at]))
        self._batch = Batch(wanted)

    async def follow(self) -> None:
        """Read and add until stopped."""
        refreshed = kept = time.monotonic()
        while not self._stop.is_set():
            await self._read_on()
            if time.monotonic() - refreshed >= self._settings.refresh_seconds:
                refreshed = time.monotonic()
                if set(await self._partitions()) != set(self._next):
                    await self._append()
                    await self.place()
            if time.monotonic() - kept >= self._settings.upkeep_minutes * 60:
                await asyncio.to_thread(upkeep.keep_up, self._logs, self._log_settings)
                kept = time.monotonic()
        await self._append()

    async def read_to_end(self) -> None:
        """Read and add what the topics hold now."""
        ends = await self._consumer.end_offsets(list(self._next))
        while not self._stop.is_set() and any(self._next[at] < end for at, end in ends.items()):
            await self._read_on()
        await self._append()
        await asyncio.to_thread(upkeep.keep_up, self._logs, self._log_settings)

    async def replay(self, first: int) -> None:
        """Read again from offset `first` on what was read before, and add what has no row."""
        ends = dict(self._next)
        begins = await self._consumer.beginning_offsets(list(ends))
        for at, end in ends.items():
            if first < min(begins[at], end):
                self._gap(at, first, min(begins[at], end), "are gone and cannot be replayed")
            self._seek(at, min(max(first, begins[at]), end))
        self._batch = Batch(self._next)
        while not self._stop.is_set() and any(self._next[at] < end for at, end in ends.items()):
            await self._read()
            if self._full():
                await self._refill()
        await self._refill()
        await self.place()

    async def _read_on(self) -> None:
        """One fetch into the batch, and the batch into the tables once it is full."""
        try:
            await self._read()
        except OffsetOutOfRangeError:  # the broker dropped records while they waited to be read
            await self._append()
            await self.place()
        if self._full():
            await self._append()

    async def _read(self) -> None:
        fetched = await self._consumer.getmany(
            timeout_ms=POLL_MS, max_records=self._settings.batch_rows
        )
        for at, records in fetched.items():
            self._batch.add(at, records)
        for at in self._next:  # past the last record too, where Kafka keeps marks of its own
            self._next[at] = await self._consumer.position(at)

    def _full(self) -> bool:
        batch, settings = self._batch, self._settings
        large = batch.rows >= settings.batch_rows or batch.size_bytes >= settings.batch_mb << 20
        return large or batch.seconds() >= settings.batch_seconds

    async def _append(self) -> None:
        added: dict[str, Added] = {}
        for topic, table in self._table_of.items():
            if spans := self._batch.spans(topic, self._next):
                records = self._batch.of(topic)
                added[table] = await asyncio.to_thread(self._logs.append, table, records, spans)
        self._told(added, replayed=False)

    async def _refill(self) -> None:
        added: dict[str, Added] = {}
        for topic, table in self._table_of.items():
            if records := self._batch.of(topic):
                added[table] = await asyncio.to_thread(self._logs.refill, table, records)
        self._told(added, replayed=True)

    def _told(self, added: dict[str, Added], replayed: bool) -> None:
        """Count and tell a batch that is written; the next one starts where it ended."""
        self._batch = Batch(self._next)
        if added:
            progress = Progress(added, self._lag(), replayed)
            self.total.take(progress)
            self._say(progress)

    def _lag(self) -> int:
        heads = {at: self._consumer.highwater(at) for at in self._next}
        return sum(max(0, head - self._next[at]) for at, head in heads.items() if head is not None)

    def _seek(self, at: TopicPartition, offset: int) -> None:
        self._consumer.seek(at, offset)
        self._next[at] = offset

    def _gap(self, at: TopicPartition, start: int, end: int, why: str) -> None:
        gap = Gap(at.topic, at.partition, start, end, why)
        self.total.gaps.append(gap)
        LOG.warning("the broker no longer has what was asked for: %s", gap)

    def _wanted(self, begins: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The next offset that the tables want; from now on, of partitions that they never saw."""
        wanted: dict[TopicPartition, int] = {}
        for topic, table in self._table_of.items():
            own = {(at.topic, at.partition): n for at, n in begins.items() if at.topic == topic}
            if own:
                self._logs.claim(table, own)
                known = self._logs.offsets(table, topic)
                wanted |= {TopicPartition(*place): known[place[1]] for place in own}
        return wanted

    async def _partitions(self) -> list[TopicPartition]:
        """All partitions of those topics that exist."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka)
        try:
            await admin.start()
            described = await admin.describe_topics()  # of all: to ask for one may create it
        finally:
            await admin.close()
        found = {topic["topic"]: len(topic["partitions"]) for topic in described}
        counts = {topic: found[topic] for topic in self._table_of if found.get(topic)}
        missing = [topic for topic in self._table_of if topic not in counts]
        if len(missing) == len(self._table_of):
            raise WorkerFault(f"no such topics: {', '.join(missing)}; create them first")
        if missing and not self._next:
            LOG.warning("no such topics, they are read once they exist: %s", ", ".join(missing))
        return [TopicPartition(name, n) for name in counts for n in range(counts[name])]


def _name(at: TopicPartition) -> str:
    return f"{at.topic}/{at.partition}"


@contextlib.contextmanager
def _kafka(settings: CollectSettings) -> Iterator[None]:
    """Kafka's errors as ours: this process ends; started again it goes on where the tables are."""
    try:
        yield
    except KafkaError as error:
        raise WorkerFault(f"{settings.kafka}: {error}") from error
