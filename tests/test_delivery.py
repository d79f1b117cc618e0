"""Delivery: acks in order, confirmed dead letters, and a crash where nothing else is honest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from worker.delivery import Delivery, Headers, Ledger, Record
from worker.errors import Invalid, WorkerFault
from worker.settings import Settings
from worker.telemetry import Telemetry

QUICK = Settings(produce_attempts=2)


class Topics:
    """Where a `Send` puts records: a list of each topic, and faults to raise before."""

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.records: list[tuple[str, bytes | None, bytes | None, Headers]] = []

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> None:
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
        self.records.append((topic, key, value, headers))


class Run:
    """A delivery, what it sent, what it acked, and why it crashed."""

    def __init__(self, *faults: Exception | None, settings: Settings = QUICK) -> None:
        self.topics = Topics(*faults)
        self.acked: list[int] = []
        self.crashes: list[BaseException] = []
        self.telemetry = Telemetry()
        self.delivery = Delivery(
            settings, self.topics.send, self.telemetry, self.crashes.append, lambda: 0.0
        )

    def record(self, offset: int, value: bytes = b"{}", **headers: bytes) -> Record:
        return Record(
            topic="search-events",
            partition=0,
            offset=offset,
            timestamp=0.0,
            key=b"k",
            value=value,
            headers=headers,
            ack=lambda: self.acked.append(offset),
        )


def run(
    handle: Callable[[Record], Awaitable[None]],
    *faults: Exception | None,
    records: int = 1,
    settings: Settings = QUICK,
    value: bytes = b"{}",
) -> Run:
    async def main() -> Run:
        ran = Run(*faults, settings=settings)
        for offset in range(records):
            await ran.delivery.take(ran.record(offset, value), handle)
        await asyncio.gather(*ran.delivery._tasks, return_exceptions=True)
        return ran

    return asyncio.run(main())


async def answered(_record: Record) -> None:
    """A handler that is content."""


async def invalid(_record: Record) -> None:
    raise Invalid("$.k", "at least 1", 0)


async def broken(_record: Record) -> None:
    raise KeyError("a bug")


@given(st.permutations(range(6)))
def test_acks_keep_to_the_order_of_offsets_whatever_ends_first(order: list[int]) -> None:
    ran = asyncio.run(_made())
    ledger = Ledger(lambda: 0.0)
    records = [ran.record(offset) for offset in range(6)]
    for record in records:
        ledger.opened(record)
    for step, offset in enumerate(order):
        ledger.closed(records[offset])
        ended = set(order[: step + 1])
        prefix = next((n for n in range(6) if n not in ended), 6)
        assert ran.acked == list(range(prefix))
    assert len(ledger) == 0


def test_a_stall_is_work_that_waits_without_an_ack() -> None:
    now, place = 0.0, ("search-events", 0)
    ran, ledger = asyncio.run(_made()), Ledger(lambda: now)
    one, two = ran.record(0), ran.record(1)
    now = 100.0
    assert ledger.stalled_seconds() == 0.0  # nothing waits
    ledger.opened(one)
    now = 130.0
    assert ledger.stalled_seconds() == 30.0
    ledger.opened(two)
    ledger.closed(one)
    assert ledger.stalled_seconds() == 0.0
    ledger.closed(two)
    ledger.look({place: 2})
    ledger.look({place: 7})  # five more at the broker, and none of them arrives here
    now = 190.0
    assert (ledger.arrived, ledger.stalled_seconds()) == (5, 60.0)


def test_offsets_that_no_record_takes_are_no_stall() -> None:
    now, place = 0.0, ("search-events", 0)
    ran, ledger = asyncio.run(_made()), Ledger(lambda: now)
    ledger.look({place: 40})
    record = ran.record(40)
    ledger.opened(record)
    ledger.look({place: 42})  # the record, and the marker of its transaction
    ledger.closed(record)
    ledger.look({place: 42})
    now = 500.0
    ledger.look({place: 42})
    assert ledger.stalled_seconds() == 0.0
    ledger.look({place: 42, ("search-events", 1): 900})  # another partition came
    assert ledger.stalled_seconds() == 0.0


@pytest.mark.parametrize("refused", [1, 2])
def test_a_dead_letter_sheds_what_is_too_large_until_it_fits(refused: int) -> None:
    faults = [MessageSizeTooLargeError() for _ in range(refused)]
    ((_, key, value, headers),) = run(invalid, *faults, value=b"x" * 70_000).topics.records
    assert value == b"x" * 65_536
    assert key == (b"k" if refused == 1 else None)
    assert headers["prismrank.error.truncated"] == b"70000"


def test_a_header_that_anybody_wrote_does_no_harm() -> None:
    async def main() -> Run:
        ran = Run()
        headers: Headers = {"prismrank.error.attempt": b"abc", "traceparent": None}
        await ran.delivery.finish(Record("t", 0, 0, 0.0, None, None, headers, print), invalid)
        return ran

    ((_, _, value, headers),) = asyncio.run(main()).topics.records
    assert value is None
    assert headers["prismrank.error.attempt"] == b"1"
    assert headers["traceparent"] is None


async def _made() -> Run:
    return Run()


def test_what_was_answered_is_acked() -> None:
    assert run(answered, records=5).acked == [0, 1, 2, 3, 4]


def test_a_bad_message_becomes_a_dead_letter_byte_for_byte_and_is_acked() -> None:
    ran = run(invalid, value=b"\xff raw")
    ((topic, key, value, headers),) = ran.topics.records
    assert (topic, key, value) == ("search-events.dlq", b"k", b"\xff raw")
    assert headers["prismrank.error.class"] == b"Invalid"
    assert headers["prismrank.error.path"] == b"$.k"
    assert headers["prismrank.error.message"] == b"$.k: expected at least 1, got 0"
    assert headers["prismrank.error.stage"] == b"decode"
    assert headers["prismrank.error.attempt"] == b"1"
    assert headers["__connect.errors.topic"] == b"search-events"
    assert headers["__connect.errors.partition"] == b"0"
    assert headers["__connect.errors.offset"] == b"0"
    assert headers["__connect.errors.exception.message"] == headers["prismrank.error.message"]
    assert ran.acked == [0]
    assert not ran.crashes


def test_a_delivery_that_fails_is_tried_again() -> None:
    ran = run(invalid, KafkaTimeoutError())
    assert [topic for topic, *_ in ran.topics.records] == ["search-events.dlq"]
    assert ran.acked == [0]


def test_a_dead_letter_that_cannot_be_delivered_crashes_the_worker_before_any_ack() -> None:
    ran = run(invalid, KafkaTimeoutError(), KafkaTimeoutError())
    assert ran.acked == []
    assert isinstance(ran.crashes[0], WorkerFault)


def test_a_dead_letter_that_is_too_large_carries_its_beginning() -> None:
    ran = run(invalid, MessageSizeTooLargeError(), value=b"x" * 100_000)
    ((_, _, value, headers),) = ran.topics.records
    assert value == b"x" * 65_536
    assert headers["prismrank.error.truncated"] == b"100000"
    assert ran.acked == [0]


def test_an_answer_that_the_broker_refuses_is_a_dead_letter() -> None:
    async def main() -> Run:
        ran = Run(KafkaTimeoutError(), KafkaTimeoutError())

        async def publish(record: Record) -> None:
            await ran.delivery.produce("ranked-lists", record.key, b"list", {})

        await ran.delivery.finish(ran.record(0), publish)
        return ran

    ran = asyncio.run(main())
    ((topic, _, _, headers),) = ran.topics.records
    assert topic == "search-events.dlq"
    assert headers["prismrank.error.class"] == b"Undeliverable"
    assert headers["prismrank.error.stage"] == b"produce"
    assert ran.acked == [0]


def test_a_bug_that_meets_one_message_is_a_dead_letter_of_its_own_class() -> None:
    ran = run(broken)
    assert ran.topics.records[0][3]["prismrank.error.class"] == b"Unexpected"
    assert ran.acked == [0]


def test_the_fuse_stops_a_worker_that_fails_on_everything() -> None:
    ran = run(broken, records=40)
    assert isinstance(ran.crashes[0], WorkerFault)
    assert len(ran.topics.records) == QUICK.fuse_share * 100
    assert ran.acked == list(range(20))


def test_the_fuse_never_counts_messages_that_fail_validation() -> None:
    ran = run(invalid, records=200)
    assert not ran.crashes
    assert ran.acked == list(range(200))


def test_a_workers_fault_is_never_acked_over() -> None:
    async def fault(_record: Record) -> None:
        raise WorkerFault("the model is gone")

    ran = run(fault)
    assert ran.acked == []
    assert ran.topics.records == []
    assert isinstance(ran.crashes[0], WorkerFault)


def test_no_more_than_the_set_number_is_open_at_once() -> None:
    async def main() -> int:
        ran = Run(settings=Settings(in_flight=3))
        gate = asyncio.Event()

        async def wait(_record: Record) -> None:
            await gate.wait()

        async def feed() -> None:
            for offset in range(10):
                await ran.delivery.take(ran.record(offset), wait)

        feeding = asyncio.create_task(feed())
        for _ in range(50):
            await asyncio.sleep(0)
        at_once = len(ran.delivery.ledger)
        gate.set()
        await feeding
        await ran.delivery.drain()
        assert ran.acked == list(range(10))
        return at_once

    assert asyncio.run(main()) == 3


@pytest.mark.parametrize(("before", "after"), [(b"", b"1"), (b"1", b"2")])
def test_a_second_death_counts_as_the_second(before: bytes, after: bytes) -> None:
    async def main() -> Run:
        ran = Run()
        headers: Headers = {"prismrank.error.attempt": before} if before else {}
        record = Record("t", 0, 0, 0.0, None, b"", headers, lambda: None)
        await ran.delivery.finish(record, invalid)
        return ran

    assert asyncio.run(main()).topics.records[0][3]["prismrank.error.attempt"] == after
