"""A load on a real worker process over the embedded broker, and the book of what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.factories import candidate, event
from worker import codec
from worker.demo import topics
from worker.demo.broker import Broker
from worker.demo.children import Worker
from worker.demo.topics import ShopTopics
from worker.events import RankedList, SearchEvent, TimingMs

# Of a worker that nobody kills: a machine that stalls takes no partition from it, so that no search
# is answered twice.
UNHURRIED = {"PRISMRANK_SESSION_TIMEOUT_SECONDS": "60"}
WORDS = (
    *("red", "blue", "trail", "running", "shoe", "boot", "sock"),
    *("wool", "hat", "cap", "scarf", "coat", "rain", "light"),
)


def searches(count: int, candidates: int = 20) -> Iterator[SearchEvent]:
    """Searches over a small catalogue, so that item vectors are cached soon."""
    items = [
        candidate(
            f"i{n}",
            title=" ".join(WORDS[(n * step) % len(WORDS)] for step in (1, 3, 5)) + f" {n % 40}",
            category=WORDS[n % 5],
            brand=WORDS[n % 7],
            score=float(n % 11),
        )
        for n in range(200)
    ]
    for n in range(count):
        chosen = [items[(n * 7 + 13 * place) % len(items)] for place in range(candidates)]
        yield event(
            chosen,
            query_id=f"q{n}",
            user_query=f"{WORDS[n % len(WORDS)]} {WORDS[(n * 5) % len(WORDS)]}",
            user_id=f"u{n % 97}",
            k=10,
        )


@dataclass
class Book:
    """What was sent, and every answer that came."""

    sent: dict[str, float] = field(default_factory=dict)
    answers: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    models: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    degraded: int = 0
    dead: int = 0

    def answered(self, topic: str, raw: bytes) -> None:
        """One list or dead letter."""
        if topic != "ranked-lists":
            query_id = str(msgspec.json.decode(raw).get("query_id"))
            self.dead += 1
            self.answers[query_id].append(raw)
            return
        ranked = msgspec.json.decode(raw, type=RankedList)
        self.degraded += ranked.degraded
        self.models[ranked.model or "none"] += 1
        timeless = msgspec.structs.replace(ranked, timestamp=None, timing_ms=TimingMs())
        self.answers[ranked.query_id].append(codec.encode(timeless))

    @property
    def open(self) -> int:
        """Sent, and not answered yet."""
        return len(self.sent) - len(self.answers)

    def summary(self) -> dict[str, int | str]:
        """events, lists, lost, duplicates, and how many of those differ from the first."""
        copies = [raws[1:] for raws in self.answers.values()]
        differing = sum(raw != raws[0] for raws in self.answers.values() for raw in raws[1:])
        digest = hashlib.sha256(repr(sorted(self.answers)).encode()).hexdigest()[:8]
        return {
            "events": len(self.sent),
            "lists": len(self.answers),
            "lost": len(set(self.sent) - set(self.answers)),
            "duplicates": sum(map(len, copies)),
            "differing": differing,
            "degraded": self.degraded,
            "dead_letters": self.dead,
            "digest": digest,
        }


@dataclass
class Stage:
    """A broker, a worker process, and the load between them."""

    broker: Broker
    worker: Worker
    wire: ShopTopics
    book: Book = field(default_factory=Book)

    async def play(self, events: Sequence[SearchEvent], rate: float) -> None:
        """Send at `rate` a second; each send is confirmed before it counts."""
        start = time.monotonic()
        for number, search in enumerate(events):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            await self.wire.ask(search)
            self.book.sent[search.query_id] = time.monotonic()

    async def read(self) -> None:
        """Book every answer, for ever."""
        async for topic, raw in self.wire.answers():
            self.book.answered(topic, raw)

    async def settle(self, patience: float = 60.0) -> None:
        """Wait until all is answered, or nothing has been for `patience` seconds."""
        last, since = -1, time.monotonic()
        while self.book.open > 0 and time.monotonic() - since < patience:
            if len(self.book.answers) != last:
                last, since = len(self.book.answers), time.monotonic()
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)  # for duplicates that are on their way


@contextlib.asynccontextmanager
async def stage(
    registry: Path, folder: Path, events: int, settings: dict[str, str] | None = None
) -> AsyncIterator[Stage]:
    """Everything started and ready; everything ended afterwards."""
    with Broker() as broker:
        topics.create(broker, events, {})
        async with on(broker, registry, folder, settings) as made:
            yield made


@contextlib.asynccontextmanager
async def on(
    broker: Broker, registry: Path, folder: Path, settings: dict[str, str] | None = None
) -> AsyncIterator[Stage]:
    """A stage on a broker whose topics are there."""
    worker = Worker(broker.bootstrap, registry, folder / "worker.log", settings)
    worker.start()
    try:
        await worker.wait_ready()
        async with ShopTopics(broker.bootstrap) as wire:
            made = Stage(broker, worker, wire)
            reading = asyncio.create_task(made.read())
            try:
                yield made
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    finally:
        worker.stop()
