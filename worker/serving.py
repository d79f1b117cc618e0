"""What becomes of one record: decode, join, rank, encode, publish. The same for Kafka and HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from worker import codec
from worker.delivery import Delivery, Headers, Record, Undeliverable
from worker.errors import Invalid
from worker.events import Behaviour, RankedList, SearchEvent
from worker.ranking.join import JoinedSearch, Tables, join
from worker.scoring.scheduler import Scheduler
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)
ANSWERED = "prismrank.answered"  # a search event that HTTP answered: kept for learning
CARRIED = ("traceparent", "tracestate")
REPLY_TOPIC, REPLY_PARTITION = "kafka_replyTopic", "kafka_replyPartition"
CORRELATION = "kafka_correlationId"


@dataclass(frozen=True, slots=True)
class Serving:
    """Answers search events."""

    settings: Settings
    tables: Callable[[], Tables]
    scheduler: Scheduler
    delivery: Delivery
    telemetry: Telemetry
    wall_clock: Callable[[], float]  # seconds since the epoch
    clock: Callable[[], float]  # monotonic seconds

    async def search(self, record: Record) -> None:
        """One record of `search-events`, to its confirmed list."""
        if ANSWERED in record.headers:
            return
        event = self.decode(record.value or b"", record.headers, record.timestamp)
        ranked = await self.answer(event, record.timestamp)
        await self.publish(event, ranked, record.headers)
        self.telemetry.lists.labels("kafka").inc()
        self.telemetry.event_seconds.observe(max(0.0, self.wall_clock() - record.timestamp))

    def decode(self, raw: bytes, headers: Headers, timestamp: float) -> SearchEvent:
        """The event, with the time that its envelope states where it states none itself."""
        start = self.clock()
        cloud_time = cloud_event_time(headers)
        event = codec.decode_search_event(raw, self.settings.limits)
        if event.timestamp is None:
            when = cloud_time or at(timestamp)
            event = msgspec.structs.replace(event, timestamp=when)
        unknown = len(event.extras) + sum(len(c.extras) for c in event.candidates)
        self.telemetry.unknown_fields.inc(unknown)
        self.telemetry.candidates.inc(len(event.candidates))
        self.telemetry.stage_seconds.labels("decode").observe(self.clock() - start)
        return event

    async def answer(
        self, event: SearchEvent, asked_at: float, tables: Tables | None = None
    ) -> RankedList:
        """The list for an event that was asked at `asked_at` (epoch seconds)."""
        start = self.clock()
        search = join(event, tables or self.tables(), self.settings.dials)
        self.telemetry.unknown_items.inc(len(search.unknown))
        self.telemetry.truncated_texts.inc(search.truncated)
        self.telemetry.stage_seconds.labels("join").observe(self.clock() - start)
        ranked = await self.scheduler.rank(search, self._due(search, asked_at))
        if ranked.reason is not None:
            self.telemetry.degraded.labels(ranked.reason).inc()
        now = datetime.fromtimestamp(self.wall_clock(), UTC)
        return msgspec.structs.replace(ranked, timestamp=now)

    async def publish(self, event: SearchEvent, ranked: RankedList, headers: Headers) -> None:
        """To `ranked-lists`, and to the reply topic where one is asked for and allowed."""
        start = self.clock()
        key, value = event.query_id.encode(), codec.encode(ranked)
        carried = {name: headers[name] for name in CARRIED if headers.get(name)}
        await self.delivery.produce(self.settings.topic("ranked-lists"), key, value, carried)
        if headers.get(REPLY_TOPIC):
            await self._reply(key, value, headers, carried)
        self.telemetry.stage_seconds.labels("publish").observe(self.clock() - start)

    async def _reply(self, key: bytes, value: bytes, headers: Headers, carried: Headers) -> None:
        """Besides, where asked. One that cannot be given is counted: the list itself is out."""
        topic = (headers[REPLY_TOPIC] or b"").decode("utf-8", "replace")
        partition = headers.get(REPLY_PARTITION)
        if topic not in self.settings.reply_topics or (partition and len(partition) != 4):
            self.telemetry.refused_replies.inc()
            return
        if headers.get(CORRELATION):
            carried = {**carried, CORRELATION: headers[CORRELATION]}
        number = int.from_bytes(partition, "big") if partition else None
        try:
            await self.delivery.produce(topic, key, value, carried, number)
        except Undeliverable as error:
            self.telemetry.refused_replies.inc()
            LOG.warning("no reply: %s", error, extra={"topic": topic})

    def _due(self, search: JoinedSearch, asked_at: float) -> float | None:
        """When the search's deadline is, on the monotonic clock."""
        if search.dials.deadline_ms is None:
            return None
        left = asked_at + search.dials.deadline_ms / 1_000.0 - self.wall_clock()
        return self.clock() + left


def at(timestamp: float) -> datetime:
    """A record's time; raises Invalid for one that is no time (microseconds for milliseconds)."""
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError) as error:
        expected = "a record timestamp in milliseconds"
        raise Invalid("timestamp", expected, int(timestamp * 1_000)) from error


def behaviour_of(record: Record, settings: Settings) -> tuple[str, Behaviour] | None:
    """Who did what; None where a behaviour names nobody. Raises BadMessage."""
    cloud_time = cloud_event_time(record.headers)
    behaviour = codec.decode_behaviour(record.value or b"", settings.limits)
    user = behaviour.user_id or behaviour.client_id
    if not user:
        return None
    if behaviour.timestamp is None:
        when = cloud_time or at(record.timestamp)
        behaviour = msgspec.structs.replace(behaviour, timestamp=when)
    return user, behaviour


def cloud_event_time(headers: Headers) -> datetime | None:
    """`ce_time` of a CloudEvent in binary mode (its value is the event itself), if there is one.

    Raises Invalid for an envelope that this worker cannot read.
    """
    kind = _text(headers, "content-type")
    if kind.startswith("application/cloudevents"):
        raise Invalid("headers.content-type", "CloudEvents in binary mode (ce_* headers)", kind)
    version, text = _text(headers, "ce_specversion"), _text(headers, "ce_time")
    if not version:
        return None
    if not version.startswith("1."):
        raise Invalid("headers.ce_specversion", "CloudEvents 1.x", version)
    if not text:
        return None
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise Invalid("headers.ce_time", "an RFC 3339 time", text) from error


def _text(headers: Headers, name: str) -> str:
    return (headers.get(name) or b"").decode("utf-8", "replace")
