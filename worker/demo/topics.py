"""The shop's side of Kafka: its topics, its producer, and the reader of what the worker answers."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import Struct

from worker import codec
from worker.demo.broker import PARTITIONS, Broker
from worker.events import Behaviour, Item, SearchEvent

KEPT_BYTES: Final = 5 << 20  # of each partition, by the embedded broker
BYTES_PER_SEARCH: Final = 24 << 10  # what the largest topic gets for one search: three profiles
MOST_PARTITIONS: Final = 64
ANSWERS: Final = ("ranked-lists", "search-events.dlq")
SAME_COUNT: Final = ("search-events", "behaviour-events", "profiles")
OTHERS: Final = (*ANSWERS, "behaviour-events.dlq", "list-rules", "policies")


def create(broker: Broker, events: int, catalogue: Mapping[str, Item]) -> None:
    """Create every topic with as many partitions as hold it twice over."""
    for name in SAME_COUNT + OTHERS:
        broker.create_topic(name, partitions(events * BYTES_PER_SEARCH))
    size = sum(len(codec.encode(item)) for item in catalogue.values())
    broker.create_topic("items", partitions(size))


def partitions(size_bytes: int) -> int:
    """How many partitions hold `size_bytes` with half of each to spare, within bounds.

    >>> partitions(0), partitions(100 << 20), partitions(100 << 30)
    (8, 40, 64)
    """
    return min(max(PARTITIONS, math.ceil(2 * size_bytes / KEPT_BYTES)), MOST_PARTITIONS)


class ShopTopics:
    """What the shop writes and reads."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=1)
        self._answers = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=5
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        try:
            await self._answers.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._answers.stop()
        await self._producer.stop()

    async def feed(self, catalogue: Iterable[Item]) -> None:
        """Write the catalogue, and wait until it is kept."""
        await self._write("items", ((item.item_id, item) for item in catalogue))

    async def behave(self, behaviours: Iterable[Behaviour]) -> None:
        """Write behaviours in order, and wait until they are kept."""
        await self._write("behaviour-events", ((done.user_id or "", done) for done in behaviours))

    async def ask(self, event: SearchEvent) -> None:
        """Write a search, and wait until it is kept: from here on it may not be lost."""
        await self._write("search-events", ((event.user_id or event.query_id, event),))

    async def _write(self, topic: str, messages: Iterable[tuple[str, Struct]]) -> None:
        sent = [
            await self._producer.send(topic, codec.encode(message), key=key.encode())
            for key, message in messages
        ]
        for delivery in sent:
            await delivery

    async def answers(self) -> AsyncIterator[tuple[str, bytes]]:
        """(topic, value) of every list and every dead letter, from the beginning."""
        # The producer is asked: a consumer without subscription knows of no topic's partitions.
        self._answers.assign(
            [
                TopicPartition(topic, partition)
                for topic in ANSWERS
                for partition in await self._producer.partitions_for(topic)
            ]
        )
        async for record in self._answers:
            yield record.topic, record.value or b""
