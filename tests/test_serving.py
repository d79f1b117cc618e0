"""Envelopes: CloudEvents, replies, tracing, and what HTTP has answered already."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from tests.factories import random_search
from tests.test_delivery import Topics
from worker import codec
from worker.delivery import Delivery, Headers, Record
from worker.errors import Invalid
from worker.events import Behaviour, RankedList
from worker.ranking.join import Tables
from worker.scoring.overlap import Overlap
from worker.scoring.scheduler import Scheduler
from worker.serving import ANSWERED, Serving, behaviour_of, cloud_event_time
from worker.settings import Settings
from worker.telemetry import Telemetry


def record(value: bytes, timestamp: float = 0.0, headers: Headers | None = None) -> Record:
    return Record("search-events", 0, 0, timestamp, b"k", value, headers or {}, lambda: None)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Serving, Topics]]:
    """All that serves, with the weak honest ranker for a model, and where its records go."""
    topics, telemetry, model = Topics(), Telemetry(), Overlap()
    scheduler = Scheduler(lambda: model, Overlap(), settings, telemetry, time.monotonic)
    delivery = Delivery(settings, topics.send, telemetry, lambda _error: None, time.monotonic)
    scoring = asyncio.create_task(scheduler.run())
    try:
        yield (
            Serving(settings, Tables, scheduler, delivery, telemetry, time.time, time.monotonic),
            topics,
        )
    finally:
        scoring.cancel()
        await asyncio.gather(scoring, return_exceptions=True)


def answered(one: Record, settings: Settings | None = None) -> Topics:
    """What serving a record sends."""

    async def main() -> Topics:
        async with running(settings or Settings()) as (serving, topics):
            await serving.search(one)
            return topics

    return asyncio.run(main())


RAW = codec.encode(random_search(1, 5))


def test_a_list_is_keyed_by_its_query_and_carries_the_trace() -> None:
    ((topic, key, value, headers),) = answered(
        record(RAW, headers={"traceparent": b"00-ab-cd-01"})
    ).records
    assert (topic, key) == ("ranked-lists", b"q-1")
    assert headers == {"traceparent": b"00-ab-cd-01"}
    assert msgspec.json.decode(value or b"", type=RankedList).timestamp is not None


def test_a_reply_goes_where_it_is_asked_for_and_allowed() -> None:
    asked = {"kafka_replyTopic": b"answers", "kafka_correlationId": b"\x01\x02"}
    sent = answered(record(RAW, headers=asked), Settings(reply_topics=("answers",))).records
    assert [topic for topic, *_ in sent] == ["ranked-lists", "answers"]
    assert sent[1][3] == {"kafka_correlationId": b"\x01\x02"}
    assert sent[0][2] == sent[1][2]


def test_a_reply_topic_that_is_not_allowed_gets_nothing() -> None:
    sent = answered(record(RAW, headers={"kafka_replyTopic": b"secrets"})).records
    assert [topic for topic, *_ in sent] == ["ranked-lists"]


def test_an_event_that_http_answered_is_not_answered_again() -> None:
    assert answered(record(RAW, headers={ANSWERED: b"1"})).records == []


def test_a_deadline_counts_from_the_records_timestamp() -> None:
    event = random_search(1, 5, deadline_ms=600_000.0)
    for age, degraded in ((0.0, False), (3_000.0, True)):  # seconds
        sent = answered(record(codec.encode(event), time.time() - age)).records
        assert msgspec.json.decode(sent[0][2] or b"", type=RankedList).degraded is degraded


ENVELOPES: list[tuple[Headers, datetime | None]] = [
    ({}, None),
    ({"ce_specversion": b"1.0", "ce_type": b"search"}, None),
    (
        {"ce_specversion": b"1.0", "ce_time": b"2026-11-24T12:00:00Z"},
        datetime(2026, 11, 24, 12, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize(("headers", "expected"), ENVELOPES)
def test_cloud_events_in_binary_mode_are_taken(headers: Headers, expected: datetime | None) -> None:
    assert cloud_event_time(headers) == expected


BAD_ENVELOPES: list[tuple[Headers, str]] = [
    ({"ce_specversion": b"2.0"}, "headers.ce_specversion"),
    ({"ce_specversion": b"1.0", "ce_time": b"noon"}, "headers.ce_time"),
    ({"content-type": b"application/cloudevents+json"}, "headers.content-type"),
]


@pytest.mark.parametrize(("headers", "path"), BAD_ENVELOPES)
def test_an_envelope_that_cannot_be_read_is_named(headers: Headers, path: str) -> None:
    with pytest.raises(Invalid) as caught:
        cloud_event_time(headers)
    assert caught.value.path == path


def test_a_record_whose_time_is_no_time_is_named() -> None:
    raw = codec.encode(Behaviour(action_name="click", user_id="u"))
    with pytest.raises(Invalid, match="timestamp: expected a record timestamp in milliseconds"):
        behaviour_of(record(raw, timestamp=1e12), Settings())


def test_a_reply_that_cannot_be_given_leaves_the_list_as_it_is() -> None:
    asked = {"kafka_replyTopic": b"answers", "kafka_replyPartition": b"7"}
    sent = answered(record(RAW, headers=asked), Settings(reply_topics=("answers",))).records
    assert [topic for topic, *_ in sent] == ["ranked-lists"]


BEHAVIOURS = [
    (Behaviour(action_name="click", user_id="u", client_id="c"), "u"),
    (Behaviour(action_name="click", client_id="c"), "c"),
    (Behaviour(action_name="click"), None),
]


@pytest.mark.parametrize(("behaviour", "user"), BEHAVIOURS)
def test_whose_behaviour_it_is(behaviour: Behaviour, user: str | None) -> None:
    found = behaviour_of(record(codec.encode(behaviour), timestamp=60.0), Settings())
    assert (found[0] if found else None) == user
    if found:
        assert found[1].timestamp == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
