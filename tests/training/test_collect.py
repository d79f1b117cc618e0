"""Kafka into the log tables, over the embedded broker: every record once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from deltalake import DeltaTable

from tests.factories import event
from tests.training.log_rows import click, query_ids, ranked_list
from training.collect import CollectSettings, collect
from training.intake import Collected, Gap, Progress
from training.logs import BadLogs, Logs, LogSettings
from training.records import TABLES, Added
from worker import codec
from worker.demo.broker import Broker
from worker.errors import WorkerFault
from worker.events import Item

SEARCHES = "search-events"
KEPT_BYTES = 5 << 20  # of a partition, by the embedded broker
PATIENCE = 120.0  # seconds, for a machine that stalls
PARTITIONS = 2


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as started:
        for topic in TABLES.values():
            started.create_topic(topic, PARTITIONS)
        yield started


def search(name: str) -> bytes:
    return codec.encode(event(query_id=name))


async def produce(
    broker: Broker, values: Sequence[bytes | None], topic: str = SEARCHES, key: bytes | None = None
) -> None:
    """Write `values` to the partitions of a topic in turn, and wait until they are kept."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    try:
        for number, value in enumerate(values):
            await producer.send(topic, value, key=key, partition=number % PARTITIONS)
        await producer.flush()
    finally:
        await producer.stop()


def settings(broker: Broker, **fields: object) -> CollectSettings:
    known = {"kafka": broker.bootstrap, "fetch_wait_ms": 5, "batch_seconds": 0.1}
    return CollectSettings(**{**known, **fields})  # type: ignore[arg-type]


async def once(broker: Broker, logs: Logs, replay_from: int | None = None) -> Collected:
    where = LogSettings(url=logs.url)
    return await collect(settings(broker), where, once=True, replay_from=replay_from)


def test_every_topic_comes_into_its_table_and_once(broker: Broker, logs: Logs) -> None:
    async def play() -> list[Collected]:
        await produce(broker, [search(f"q{n}") for n in range(10)])
        await produce(broker, [codec.encode(ranked_list("q0"))], "ranked-lists")
        await produce(broker, [codec.encode(click("q0"))] * 2, "behaviour-events")
        item = codec.encode(Item(item_id="a", title="Trail shoe"))
        await produce(broker, [item], "items", b"a")
        return [await once(broker, logs), await once(broker, logs)]

    first, second = asyncio.run(play())
    assert [first.added[table].rows for table in TABLES] == [10, 1, 2, 1]
    assert second == Collected()
    snapshot = logs.snapshot()
    assert sorted(query_ids(logs)) == sorted(f"q{n}" for n in range(10))
    assert [one.query_id for one in logs.lists(snapshot)] == ["q0"]
    assert [one.action_name for one in logs.behaviours(snapshot)] == ["click", "click"]
    assert list(logs.items(snapshot)) == ["a"]


def test_a_second_run_goes_on_where_the_tables_are(broker: Broker, logs: Logs) -> None:
    async def play() -> None:
        for first in range(0, 12, 4):
            await produce(broker, [search(f"q{n}") for n in range(first, first + 4)])
            assert (await once(broker, logs)).added["searches"] == Added(rows=4)

    asyncio.run(play())
    assert sorted(query_ids(logs)) == sorted(f"q{n}" for n in range(12))
    assert logs.offsets("searches", SEARCHES) == {0: 6, 1: 6}


def test_an_undecodable_record_is_kept_and_counted(broker: Broker, logs: Logs) -> None:
    async def play() -> Collected:
        await produce(broker, [b"\xff", search("q"), None], key=b"k")
        return await once(broker, logs)

    assert asyncio.run(play()).added["searches"] == Added(rows=3, errors=2)
    rows = DeltaTable(f"{logs.url}/searches").to_pyarrow_table().to_pylist()
    assert {row["value"] for row in rows if row["error"]} == {b"\xff", None}
    assert query_ids(logs) == ["q"]


def test_following_adds_what_comes_and_stops_when_asked(broker: Broker, logs: Logs) -> None:
    """A batch is told of once it is in the table; what is being read at the stop is added too."""

    async def play() -> Collected:
        stop, told = asyncio.Event(), asyncio.Queue[Progress]()
        where = LogSettings(url=logs.url)
        following = asyncio.create_task(
            collect(settings(broker), where, say=told.put_nowait, stop=stop)
        )
        for name in ("early", "late"):
            await produce(broker, [search(name)])
            progress = await asyncio.wait_for(told.get(), PATIENCE)
            assert progress.added["searches"] == Added(rows=1)
            assert progress.lag == 0
        stop.set()
        return await asyncio.wait_for(following, PATIENCE)

    assert asyncio.run(play()).added["searches"] == Added(rows=2)
    assert query_ids(logs) == ["early", "late"]


def test_partitions_and_topics_that_are_new_are_followed(tmp_path: Path) -> None:
    async def play(broker: Broker) -> Collected:
        stop, told = asyncio.Event(), asyncio.Queue[Progress]()
        eager = settings(broker, refresh_seconds=0.05)
        where = LogSettings(url=str(tmp_path))
        following = asyncio.create_task(collect(eager, where, say=told.put_nowait, stop=stop))
        await produce(broker, [search("q")])
        await asyncio.wait_for(told.get(), PATIENCE)
        for topic in set(TABLES.values()) - {SEARCHES}:
            broker.create_topic(topic, PARTITIONS)
        await produce(broker, [codec.encode(ranked_list("q"))], "ranked-lists")
        assert "lists" in (await asyncio.wait_for(told.get(), PATIENCE)).added
        stop.set()
        return await asyncio.wait_for(following, PATIENCE)

    with Broker() as broker:
        broker.create_topic(SEARCHES, PARTITIONS)
        found = asyncio.run(play(broker))
    assert (found.added["searches"].rows, found.added["lists"].rows) == (1, 1)


def test_several_collectors_at_once_add_every_row_once(broker: Broker, logs: Logs) -> None:
    """Small batches of different sizes: they overtake each other all the time."""

    async def play() -> list[Collected]:
        await produce(broker, [search(f"q{n}") for n in range(120)])
        where = LogSettings(url=logs.url)
        sizes = (7, 11, 13)
        runs = [collect(settings(broker, batch_rows=n), where, once=True) for n in sizes]
        return await asyncio.gather(*runs)

    runs = asyncio.run(play())
    assert sum(run.added["searches"].rows for run in runs) == 120
    assert sorted(query_ids(logs)) == sorted(f"q{n}" for n in range(120))


def test_a_replay_adds_what_is_absent_from_any_offset_on(broker: Broker, logs: Logs) -> None:
    async def play() -> list[Collected]:
        await produce(broker, [search(f"q{n}") for n in range(20)])
        await once(broker, logs)
        DeltaTable(f"{logs.url}/searches").delete('"offset" < 6')
        await produce(broker, [search(f"q{n}") for n in range(20, 24)])
        return [
            await once(broker, logs, 4),
            await once(broker, logs, 0),
            await once(broker, logs, 0),
        ]

    runs = asyncio.run(play())
    assert [run.replayed["searches"].rows for run in runs] == [4, 8, 0]
    assert [run.added["searches"].rows for run in runs] == [4, 0, 0]
    assert sorted(query_ids(logs)) == sorted(f"q{n}" for n in range(24))


def test_offsets_that_the_broker_dropped_are_a_named_gap(broker: Broker, logs: Logs) -> None:
    large = search("q" * (KEPT_BYTES // 10))

    async def play() -> list[Collected]:
        await produce(broker, [search("first")])
        await once(broker, logs)
        await produce(broker, [value for _ in range(30) for value in (large, search("small"))])
        return [await once(broker, logs), await once(broker, logs), await once(broker, logs, 0)]

    gone, none, replayed = asyncio.run(play())
    (gap,) = gone.gaps
    assert (gap.topic, gap.partition, gap.start) == (SEARCHES, 0, 1)
    assert str(gap) == (
        f"search-events/0: offsets 1 to {gap.end - 1} were gone before they were collected"
    )
    kept = 31 - gap.end
    assert gone.added["searches"] == Added(rows=kept + 30)
    assert none.gaps == []
    assert replayed.gaps == [Gap(SEARCHES, 0, 0, gap.end, "are gone and cannot be replayed")]
    assert logs.counts(logs.snapshot())["searches"] == Added(rows=1 + kept + 30)


def test_what_the_broker_drops_before_the_first_record_is_read_is_a_gap_too(
    broker: Broker, logs: Logs
) -> None:
    """An empty partition is claimed, so what comes to it is known to be wanted."""
    large = search("q" * (KEPT_BYTES // 10))

    async def play() -> Collected:
        await once(broker, logs)
        await produce(broker, [value for _ in range(30) for value in (large, search("small"))])
        return await once(broker, logs)

    (gap,) = asyncio.run(play()).gaps
    assert gap.start == 0


def test_another_topic_of_the_same_name_is_refused(broker: Broker, logs: Logs) -> None:
    async def play(second: Broker) -> None:
        await produce(broker, [search(f"q{n}") for n in range(4)])
        await once(broker, logs)
        await produce(second, [search("other")])
        with pytest.raises(BadLogs, match=r"search-events/0: .* up to 1, the broker up to 0"):
            await once(second, logs)

    with Broker() as second:
        second.create_topic(SEARCHES, PARTITIONS)
        asyncio.run(play(second))
    assert logs.counts(logs.snapshot())["searches"] == Added(rows=4)


def test_a_prefix_goes_before_every_topic(logs: Logs) -> None:
    async def play(broker: Broker) -> Collected:
        await produce(broker, [search("q")], "de.search-events")
        prefixed = settings(broker, topic_prefix="de.")
        return await collect(prefixed, LogSettings(url=logs.url), once=True)

    with Broker() as broker:
        for topic in TABLES.values():
            broker.create_topic(f"de.{topic}", PARTITIONS)
        assert asyncio.run(play(broker)).added["searches"] == Added(rows=1)
    assert logs.offsets("searches", "de.search-events") == {0: 1, 1: 0}


def test_no_kafka_is_a_fault_that_names_it(logs: Logs) -> None:
    nowhere = CollectSettings(kafka="127.0.0.1:1")
    with pytest.raises(WorkerFault, match=r"127\.0\.0\.1:1"):
        asyncio.run(collect(nowhere, LogSettings(url=logs.url), once=True))
