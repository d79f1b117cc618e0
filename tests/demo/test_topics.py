"""The shop's topics on the embedded broker."""

import asyncio
from datetime import UTC, datetime

from worker.demo import topics
from worker.demo.broker import PARTITIONS, Broker
from worker.demo.topics import ShopTopics
from worker.events import SearchEvent
from worker.shop.catalogue import generate
from worker.shop.visits import Shop

CATALOGUE = generate(items=100)
PATIENCE = 120.0  # seconds, for a machine that stalls
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_searches_and_behaviours_have_equal_partition_counts_and_none_overflows() -> None:
    for events in (1, 600, 10_000):
        count = topics.partitions(events * topics.BYTES_PER_SEARCH)
        assert PARTITIONS <= count <= topics.MOST_PARTITIONS
    assert topics.partitions(topics.KEPT_BYTES * PARTITIONS) == 2 * PARTITIONS


def test_what_the_shop_writes_is_kept_before_it_goes_on() -> None:
    async def play(bootstrap: str) -> tuple[str, bytes]:
        shop = Shop(CATALOGUE, users=2)
        async with ShopTopics(bootstrap) as wire:
            await wire.feed(CATALOGUE.values())
            await wire.behave(shop.past(shop.users[0], NOW))
            await wire.ask(shop.visit(0, NOW).event)
            # Nobody answers here, so the shop plays the worker's part.
            await wire._write("ranked-lists", [("q", SearchEvent(query_id="q", user_query=""))])
            return await asyncio.wait_for(anext(wire.answers()), PATIENCE)

    with Broker() as broker:
        topics.create(broker, 1, CATALOGUE)
        topic, value = asyncio.run(play(broker.bootstrap))
    assert topic == "ranked-lists"
    assert b'"query_id":"q"' in value
