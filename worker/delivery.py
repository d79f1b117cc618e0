"""At least once, in every case, and never silently lost.

A record is read, handled in a task of its own, and acked strictly in offset order once its answer's
delivery is confirmed. A bad message becomes a confirmed dead letter. Whatever else goes wrong ends
the process before anything is acked over: a restarted worker gets those records again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from worker.errors import BadMessage, WorkerFault
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 2.0
KEPT_BYTES = 65_536  # of a record that is too large to be a dead letter
FUSE_WINDOW = 100  # records
COUNTED_DIGITS = 7  # of a header that anybody may write

Headers = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record, and how to ack it."""

    topic: str
    partition: int
    offset: int
    timestamp: float  # seconds since the epoch
    key: bytes | None
    value: bytes | None
    headers: Headers
    ack: Callable[[], None]


class Send(Protocol):
    """Deliver one record; returns when the broker has confirmed it, raises when it has not."""

    async def __call__(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> None: ...


class Undeliverable(BadMessage):
    """The broker did not take the answer, however often it was offered: dead letter."""

    stage = "produce"

    def __init__(self, topic: str, error: Exception, size: int) -> None:
        name = type(error).__name__
        super().__init__("$", f"{topic} to take {size} bytes", f"{name}: {error}")


class Unexpected(BadMessage):
    """Our own code failed on this message: dead letter, and one more for the fuse."""

    stage = "worker"

    def __init__(self, error: Exception) -> None:
        super().__init__("$", "no error in the worker", f"{type(error).__name__}: {error}")


class Ledger:
    """What is open, partition by partition, and in which order it may be acked."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[tuple[str, int], deque[Record]] = {}
        self._done: set[int] = set()
        self._ends: Mapping[tuple[str, int], int] = {}
        self._progress_at = clock()
        self._acked_since_look = False
        self.arrived = 0  # records that the broker took since the last ack, as of the last look

    def opened(self, record: Record) -> None:
        """A record was read."""
        if not len(self):
            self._progress_at = self._clock()
        self._open.setdefault((record.topic, record.partition), deque()).append(record)

    def closed(self, record: Record) -> None:
        """A record was answered: ack it, and those behind it, once nothing before it is open."""
        self._done.add(id(record))
        waiting = self._open[record.topic, record.partition]
        while waiting and id(waiting[0]) in self._done:
            first = waiting.popleft()
            self._done.remove(id(first))
            first.ack()
            self._progress_at = self._clock()
            self._acked_since_look = True

    def look(self, ends: Mapping[tuple[str, int], int]) -> None:
        """The end offsets of the partitions held, asked of the broker itself.

        What counts is that they grow while nothing is acked: a consumer that has silently stopped.
        Their distance to the last ack would not do, for transaction markers take offsets too.
        """
        if self._acked_since_look or ends.keys() != self._ends.keys():
            self._ends, self._acked_since_look = dict(ends), False
        self.arrived = sum(ends.values()) - sum(self._ends.values())
        if not self.arrived and not len(self):
            self._progress_at = self._clock()  # having nothing to do counts as progress

    def stalled_seconds(self) -> float:
        """How long nothing was acked although something waits; 0 where nothing does."""
        return self._clock() - self._progress_at if self.arrived or len(self) else 0.0

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))


class Delivery:
    """Takes records in, a bounded number at a time, and sees each of them through."""

    def __init__(
        self,
        settings: Settings,
        send: Send,
        telemetry: Telemetry,
        crash: Callable[[BaseException], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings, self._send, self._telemetry = settings, send, telemetry
        self._crash = crash
        self._slots = asyncio.Semaphore(settings.in_flight)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unexpected: deque[bool] = deque(maxlen=FUSE_WINDOW)
        self.ledger = Ledger(clock)

    async def take(self, record: Record, handle: Callable[[Record], Awaitable[None]]) -> None:
        """Start on a record; waits while `in_flight` others are open."""
        await self._slots.acquire()
        self._open(record)
        task = asyncio.create_task(self._see_through(record, handle))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, record: Record, handle: Callable[[Record], Awaitable[None]]) -> None:
        """Handle a record here and now, in the caller's own context."""
        await self._slots.acquire()
        self._open(record)
        await self._see_through(record, handle)

    async def drain(self) -> None:
        """Wait until nothing is open."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int | None = None,
    ) -> None:
        """Deliver, and try again within bounds; raises Undeliverable."""
        backoff = FIRST_BACKOFF_SECONDS
        for attempt in range(1, self._settings.produce_attempts + 1):
            try:
                timeout = self._settings.produce_timeout_seconds
                await asyncio.wait_for(self._send(topic, key, value, headers, partition), timeout)
                return
            except Exception as error:
                if attempt == self._settings.produce_attempts or _is_too_large(error):
                    raise Undeliverable(topic, error, len(value or b"")) from error
                self._telemetry.produce_retries.inc()
                LOG.warning("delivery to %s failed, attempt %d: %s", topic, attempt, error)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    def _open(self, record: Record) -> None:
        self.ledger.opened(record)
        self._telemetry.events.labels(record.topic).inc()
        self._telemetry.in_flight.set(len(self.ledger))

    async def _see_through(
        self, record: Record, handle: Callable[[Record], Awaitable[None]]
    ) -> None:
        try:
            await self._handled(record, handle)
            self.ledger.closed(record)
        except BaseException as error:
            self._crash(error)
            raise
        finally:
            self._slots.release()
            self._telemetry.in_flight.set(len(self.ledger))

    async def _handled(self, record: Record, handle: Callable[[Record], Awaitable[None]]) -> None:
        """Answered, or a dead letter. What escapes is a fault of this worker."""
        try:
            await handle(record)
            self._unexpected.append(False)
        except BadMessage as error:
            self._unexpected.append(False)
            await self._dead_letter(record, error)
        except WorkerFault:
            raise
        except Exception as error:
            LOG.exception("unexpected error", extra=_where(record))
            self._unexpected.append(True)
            self._blow_fuse_if_it_is_us(error)
            await self._dead_letter(record, Unexpected(error))

    def _blow_fuse_if_it_is_us(self, error: Exception) -> None:
        """Past a set share of a window the fault is ours: stop, instead of draining the topic."""
        count = sum(self._unexpected)
        if count > self._settings.fuse_share * FUSE_WINDOW:
            message = f"{count} of the last {FUSE_WINDOW} events failed unexpectedly: {error!r}"
            raise WorkerFault(message) from error

    async def _dead_letter(self, record: Record, error: BadMessage) -> None:
        """The source record, byte for byte; headers say why. Too large: its first 64 KB."""
        topic, ours = f"{record.topic}.dlq", why(record, error)
        start, size = (record.value or b"")[:KEPT_BYTES], len(record.value or b"")
        cut = {**ours, "prismrank.error.truncated": str(size).encode()}
        for key, value, headers in (
            (record.key, record.value, {**record.headers, **ours}),
            (record.key, start, {**record.headers, **cut}),
            (None, start, cut),  # where the key or the source's own headers were too large
        ):
            try:
                await self.produce(topic, key, value, headers)
                break
            except Undeliverable as reason:
                if headers is cut or not _is_too_large(reason.__cause__):
                    raise WorkerFault(f"not even a dead letter is taken: {reason}") from reason
        self._telemetry.dead_letters.labels(record.topic, type(error).__name__).inc()
        LOG.warning("dead letter: %s", error, extra={**_where(record), "path": error.path})


def why(record: Record, error: BadMessage) -> dict[str, bytes]:
    """The headers of a dead letter: ours, and Kafka Connect's."""
    before = record.headers.get("prismrank.error.attempt") or b""
    attempt = int(before) + 1 if before.isdigit() and len(before) < COUNTED_DIGITS else 1
    ours = {
        "class": type(error).__name__,
        "message": str(error),
        "path": error.path,
        "stage": error.stage,
        "attempt": str(attempt),
    }
    connect = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "exception.message": str(error),
    }
    return {
        **{f"prismrank.error.{name}": _header(text) for name, text in ours.items()},
        **{f"__connect.errors.{name}": _header(text) for name, text in connect.items()},
    }


def _header(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _where(record: Record) -> dict[str, object]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _is_too_large(error: BaseException | None) -> bool:
    """At the client and from the broker, whether or not Faust has wrapped it."""
    chain = (error, getattr(error, "__cause__", None))
    names = ("MessageSizeTooLargeError", "RecordListTooLargeError")
    return any(type(link).__name__ in names for link in chain)
