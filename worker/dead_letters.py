"""Dead letters, looked at and sent again: `list`, `show`, `redrive`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from worker.errors import BadSetting
from worker.ranking.profiles import utc
from worker.settings import Settings
from worker.tables import partition_counts

ERROR_PREFIXES = ("prismrank.error.", "__connect.errors.")
KEPT_ON_REDRIVE = "prismrank.error.attempt"  # so that a second death counts as the second


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant: all that no given field excludes."""

    topic: str
    kind: str | None = None
    offset: str | None = None  # PARTITION:OFFSET
    since: str | None = None  # RFC 3339

    def earliest_ms(self) -> int:
        """The time from which records count; raises BadSetting."""
        if self.since is None:
            return 0
        try:
            return int(utc(msgspec.convert(self.since, datetime)).timestamp() * 1_000)
        except msgspec.ValidationError as error:
            raise BadSetting(f"--since: expected an RFC 3339 time, got {self.since!r}") from error

    def takes(self, record: ConsumerRecord) -> bool:
        """Whether a record is meant."""
        if self.offset is not None and self.offset != f"{record.partition}:{record.offset}":
            return False
        return self.kind is None or self.kind == reasons(record).get("class")


def reasons(record: ConsumerRecord) -> dict[str, str]:
    """What the headers of a dead letter say: class, message, path, stage, attempt, truncated."""
    prefix = ERROR_PREFIXES[0]
    return {
        name.removeprefix(prefix): value.decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(prefix)
    }


async def run(
    settings: Settings, action: str, selection: Selection, rate: float, as_json: bool
) -> int:
    """Print, or send again, the dead letters of a topic; the exit status."""
    topic = settings.topic(selection.topic)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        acks="all",
        enable_idempotence=False,
        max_request_size=2 * settings.max_record_bytes,
    )
    count = skipped = 0
    if action == "redrive":
        await producer.start()
    try:
        async for record in _records(settings, f"{topic}.dlq", selection):
            if action != "redrive":
                print(_told(record, with_value=action == "show", as_json=as_json))
            elif "truncated" in reasons(record):
                skipped += 1  # its source is not here in full: it cannot be sent again
                continue
            else:
                await producer.send_and_wait(
                    topic, record.value, record.key, headers=_carried(record)
                )
                await asyncio.sleep(1.0 / rate)
            count += 1
    finally:
        await producer.stop()
    done = "sent again" if action == "redrive" else "dead letters"
    left = f", {skipped} truncated ones left" if skipped else ""
    print(f"{count} {done}{left}", file=sys.stderr)
    return 0


async def _records(
    settings: Settings, topic: str, selection: Selection
) -> AsyncIterator[ConsumerRecord]:
    """What the topic holds now and the selection means, partition by partition."""
    earliest = selection.earliest_ms()
    counts = await partition_counts(settings, [topic])
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, partition) for partition in range(counts[topic])]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        starts = await consumer.beginning_offsets(tps)
        for tp in tps:
            consumer.pause(*tps)
            consumer.resume(tp)
            consumer.seek(tp, starts[tp])
            while await consumer.position(tp) < ends[tp]:
                for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, ()):
                    is_there = record.offset < ends[tp] and record.timestamp >= earliest
                    if is_there and selection.takes(record):
                        yield record
    finally:
        await consumer.stop()


def _carried(record: ConsumerRecord) -> list[tuple[str, bytes]]:
    """The source's own headers, and how often it was tried."""
    return [
        (name, value)
        for name, value in record.headers
        if name == KEPT_ON_REDRIVE or not name.startswith(ERROR_PREFIXES)
    ]


def _told(record: ConsumerRecord, *, with_value: bool, as_json: bool) -> str:
    why = reasons(record)
    where = f"{record.partition}:{record.offset}"
    value = (record.value or b"").decode("utf-8", "backslashreplace")
    if as_json:
        told = {"offset": where, "timestamp_ms": record.timestamp, **why}
        return msgspec.json.encode(told | ({"value": value} if with_value else {})).decode()
    line = f"{where}  {why.get('class', '?')}  {why.get('message', '?')}"
    return f"{line}\n{value}\n" if with_value else line
