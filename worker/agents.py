"""Faust's edge: the app, its topics, one agent a topic. No decisions.

Faust's own acks lose what a raising agent had in hand, and its produces are not awaited; so the
streams run with `noack`, and `delivery` does both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver

from worker import codec
from worker.delivery import Delivery, Headers, Record
from worker.errors import WorkerFault
from worker.events import Behaviour, HistoryEntry, Profile
from worker.ranking import profiles
from worker.serving import behaviour_of
from worker.settings import Settings

RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}


class PrismrankApp(faust.App):
    """Faust, but for one number: how long a broker may hold a fetch back (Faust: always 1.5 s)."""

    fetch_wait_ms: int = 100

    def _new_transport(self) -> driver.Transport:
        return _Transport(self.conf.broker_consumer, self)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer:
        consumer = super()._create_consumer(loop)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms  # read when the consumer starts
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


def app(settings: Settings) -> PrismrankApp:
    """The Faust application; nothing is connected yet."""
    timeout = settings.produce_timeout_seconds
    made = PrismrankApp(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=settings.commit_seconds,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 10,
        broker_request_timeout=max(timeout, settings.session_timeout_seconds + 1),
        producer_request_timeout=timeout,
        producer_acks=-1,
        producer_max_request_size=2 * settings.max_record_bytes,
        consumer_max_fetch_size=max(settings.max_record_bytes, 1 << 20),
        stream_recovery_delay=0.0,
        stream_wait_empty=True,
    )
    made.fetch_wait_ms = settings.fetch_wait_ms
    return made


async def send(
    app: faust.App,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    partition: int | None = None,
) -> None:
    """Deliver through Faust's producer, and wait for the broker's word."""
    producer = await app.maybe_start_producer()
    await producer.send_and_wait(topic, key, value, partition, None, list(headers.items()))


def serve_searches(
    app: faust.App,
    settings: Settings,
    delivery: Delivery,
    handle: Callable[[Record], Awaitable[None]],
) -> None:
    """The agent of `search-events`."""
    topic = app.topic(settings.topic("search-events"), **RAW)

    async def searches(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await delivery.take(record_of(event), handle)

    app.agent(topic, name="searches", concurrency=1)(searches)


def remember_behaviour(
    app: faust.App,
    settings: Settings,
    delivery: Delivery,
    partitions: int,
    behaved: Callable[[Behaviour], None],
) -> Callable[[str], tuple[HistoryEntry, ...]]:
    """The agent of `behaviour-events`, which folds profiles; gives what is remembered of a user.

    `behaved` hears of each that names its user, perhaps more than once.
    Folding is idempotent, so a redelivered behaviour changes nothing.
    """
    topic = app.topic(settings.topic("behaviour-events"), **RAW)
    changelog = app.topic(
        settings.topic("profiles"),
        compacting=True,
        internal=True,
        acks=False,
        allow_empty=True,
        **RAW,
    )
    table = app.Table(
        "profiles",
        changelog_topic=changelog,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
    )

    def profile(key: bytes) -> Profile:
        raw = table.get(key)
        return codec.decode_profile(raw) if raw else Profile()

    async def remember(record: Record) -> None:
        if (found := behaviour_of(record, settings)) is None:
            return
        user, behaviour = found
        behaved(behaviour)
        before = profile(user.encode())
        after = profiles.fold(before, behaviour)
        if after is before:
            return
        # Not table[user] = ...: that sends to the changelog and never learns of a failure.
        key, value = user.encode(), codec.encode(after)
        try:
            await table.send_changelog(record.partition, key, value)
        except Exception as error:
            raise WorkerFault(f"the changelog did not take a profile: {error}") from error
        table.data[key] = value

    async def behaviours(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.noack().events():
            await delivery.finish(record_of(event), remember)  # here: a table asks for the event

    app.agent(topic, name="behaviours", concurrency=1)(behaviours)
    return lambda user: profile(user.encode()).entries


def record_of(event: faust.EventT[bytes]) -> Record:
    """A Faust event as a record of ours."""
    message = event.message
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp=message.timestamp or 0.0,
        key=message.key,
        value=message.value,
        headers=_headers(message.headers),
        ack=event.ack,
    )


def _headers(headers: Any) -> dict[str, bytes | None]:
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    return dict(pairs)


def is_assigned(app: faust.App) -> bool:
    """Partitions are held, and the tables are read to their end."""
    if app.rebalancing or not assigned(app):
        return False
    return bool(app.tables.recovery.completed.is_set()) if app.tables.data else True


def assigned(app: faust.App) -> frozenset[TopicPartition]:
    """The partitions that this worker holds now."""
    try:
        return frozenset(app.consumer.assignment())
    except ConsumerNotStarted:
        return frozenset()
