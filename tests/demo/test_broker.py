"""The embedded broker, spoken to as any Kafka is."""

import asyncio
import subprocess
import sys

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from worker.demo.broker import ROOT, Broker, BrokerFailed

PATIENCE = 120.0  # seconds, for a machine that stalls
CHILD = [sys.executable, "-m", "worker.demo.broker"]


async def produce(
    bootstrap: str, *messages: tuple[int, bytes], topic: str = "t"
) -> list[type[Exception] | None]:
    """The error of each message, or None where it was kept."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    errors: list[type[Exception] | None] = []
    try:
        for partition, value in messages:
            try:
                await producer.send_and_wait(topic, value, partition=partition)
                errors.append(None)
            except MessageSizeTooLargeError as error:
                errors.append(type(error))
    finally:
        await producer.stop()
    return errors


async def consume(bootstrap: str, count: int, partitions: int, topic: str = "t") -> list[bytes]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=5
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, n) for n in range(partitions)])
        return [(await asyncio.wait_for(consumer.getone(), PATIENCE)).value for _ in range(count)]
    finally:
        await consumer.stop()


def test_what_is_produced_is_consumed() -> None:
    with Broker() as broker:
        broker.create_topic("t", partitions=3)
        messages = [(n % 3, b"%d" % n) for n in range(9)]
        assert asyncio.run(produce(broker.bootstrap, *messages)) == [None] * 9
        found = asyncio.run(consume(broker.bootstrap, 9, partitions=3))
        assert sorted(found) == [value for _, value in messages]


def test_the_next_n_produces_fail_and_then_all_is_well() -> None:
    with Broker() as broker:
        broker.create_topic("t", partitions=1)
        broker.fail_produces(2)
        messages = [(0, b"a"), (0, b"b"), (0, b"c")]
        errors = asyncio.run(produce(broker.bootstrap, *messages))
        assert errors == [MessageSizeTooLargeError, MessageSizeTooLargeError, None]
        assert asyncio.run(consume(broker.bootstrap, 1, partitions=1)) == [b"c"]


def test_produces_to_one_partition_fail_and_others_do_not() -> None:
    with Broker() as broker:
        broker.create_topic("t", partitions=2)
        broker.fail_produces(1, topic="t", partition=1)
        errors = asyncio.run(produce(broker.bootstrap, (0, b"a"), (1, b"b"), (1, b"c")))
        assert errors == [None, MessageSizeTooLargeError, None]


@pytest.mark.parametrize(
    "line",
    ["not json", "[]", '{"topic": "t"}', '{"topic": "t", "partitions": "many"}', '{"rtt": 1}'],
)
def test_a_line_that_is_no_command_is_refused_and_the_broker_goes_on(line: str) -> None:
    commands = f'{line}\n{{"topic": "t", "partitions": 1}}\n'
    done = subprocess.run(
        CHILD,
        input=commands,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE,
        check=True,
    )
    greeting, refusal, accepted = done.stdout.splitlines()
    assert "bootstrap" in greeting
    assert "error" in refusal
    assert accepted == '{"ok": true}'


def test_a_topic_cannot_be_created_twice() -> None:
    with Broker() as broker:
        broker.create_topic("t", partitions=1)
        with pytest.raises(BrokerFailed, match="already exists"):
            broker.create_topic("t", partitions=1)


def test_the_broker_ends_when_its_stdin_closes() -> None:
    with subprocess.Popen(CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert b"bootstrap" in child.stdout.readline()
        child.stdin.close()
        assert child.wait(PATIENCE) == 0


def test_stopping_twice_is_allowed_and_leaves_nothing_to_speak_to() -> None:
    broker = Broker().start()
    broker.stop()
    broker.stop()
    with pytest.raises(BrokerFailed, match="not running"):
        broker.create_topic("t")
