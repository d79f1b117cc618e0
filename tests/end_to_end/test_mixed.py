"""Good and bad lines through a pipe and through Kafka: each is a list or names its fault."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.chaos.load import UNHURRIED
from tests.conftest import ROOT
from tests.end_to_end import mixed
from worker.demo import topics
from worker.demo.broker import PARTITIONS, Broker
from worker.demo.children import Worker

COUNT = 2_000


def test_through_a_pipe_every_line_is_a_list_or_names_its_fault(minilm_bundle: Path) -> None:
    given = list(mixed.lines(COUNT, large=True))
    done = subprocess.run(
        [sys.executable, "-m", "worker", "rerank", "--bundle", str(minilm_bundle)],
        input=b"".join(raw + b"\n" for raw, _ in given),
        cwd=ROOT,
        capture_output=True,
    )
    assert done.returncode == 0
    lists, dead = done.stdout.splitlines(), [json.loads(x) for x in done.stderr.splitlines()]
    assert len(lists) == sum(path is None for _, path in given)
    faults = {letter["line"]: letter for letter in dead}
    for number, (raw, path) in enumerate(given, start=1):
        assert faults.get(number, {}).get("path") == path
        if path is not None:
            assert base64.b64decode(faults[number]["raw_base64"]) == raw
            assert faults[number]["message"].startswith(path)


def test_through_kafka_every_record_is_a_list_or_names_its_fault(
    registry: Path, tmp_path: Path
) -> None:
    given = list(mixed.lines(COUNT, large=False))
    paths, lists = asyncio.run(_through_kafka(given, registry, tmp_path))
    assert len(lists) == len(set(lists)) == sum(path is None for _, path in given)
    assert sorted(paths) == sorted(path for _, path in given if path is not None)


async def _through_kafka(
    given: Sequence[tuple[bytes, str | None]], registry: Path, folder: Path
) -> tuple[list[str], list[str]]:
    """The path that each dead letter names, and the query of each list."""
    with Broker() as broker:
        for topic in (*topics.SAME_COUNT, *topics.OTHERS, "items"):
            broker.create_topic(topic, PARTITIONS)
        worker = Worker(broker.bootstrap, registry, folder / "worker.log", UNHURRIED)
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
        await producer.start()
        worker.start()
        try:
            sent = [
                await producer.send("search-events", raw, partition=n % PARTITIONS)
                for n, (raw, _) in enumerate(given)
            ]
            await asyncio.gather(*sent)
            await worker.wait_ready()
            return await _answers(broker.bootstrap, len(given), {raw for raw, _ in given})
        finally:
            worker.stop()
            await producer.stop()


async def _answers(bootstrap: str, count: int, raws: set[bytes]) -> tuple[list[str], list[str]]:
    paths: list[str] = []
    lists: list[str] = []
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(
            [TopicPartition(topic, n) for topic in topics.ANSWERS for n in range(PARTITIONS)]
        )
        async with asyncio.timeout(600):
            while len(paths) + len(lists) < count:
                record = await consumer.getone()
                if record.topic == "ranked-lists":
                    lists.append((record.key or b"").decode())
                else:
                    assert record.value in raws
                    paths.append(dict(record.headers)["prismrank.error.path"].decode())
    finally:
        await consumer.stop()
    return paths, lists
