"""One scoring thread, fed with micro-batches: what waits while it works is its next batch.

A batch closes when the scorer is idle, or at `batch_texts` unseen texts and pairs, or at
`batch_events`; so sparse traffic waits for nothing. A search whose deadline comes first, in the
queue or in the model, is answered in the fallback order at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from worker.errors import WorkerFault
from worker.events import RankedList, Reason, TimingMs
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Model
from worker.ranking.pairs import pair_count
from worker.ranking.rerank import fall_back, needed, read, rerank
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)


def nothing_ahead(_model: Model) -> Sequence[str]:
    """Nothing is known of what will be asked for."""
    return ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A search in the queue."""

    search: JoinedSearch
    since: float  # seconds, on the scheduler's clock
    answer: asyncio.Future[RankedList]


class Scheduler:
    """Ranks searches, many at once, off the event loop. `run` must be running."""

    def __init__(
        self,
        model: Callable[[], Model],
        weak: Model,
        settings: Settings,
        telemetry: Telemetry,
        clock: Callable[[], float],
        ahead: Callable[[Model], Sequence[str]] = nothing_ahead,
    ) -> None:
        """`ahead` names texts that are worth encoding while nobody waits."""
        self._ahead = ahead
        self._model, self._weak, self._clock = model, weak, clock
        self._settings, self._telemetry = settings, telemetry
        self._queue: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._failed_in_a_row = 0

    async def rank(self, search: JoinedSearch, due: float | None = None) -> RankedList:
        """The list of one search; degraded where `due` (on the clock) comes before the model."""
        now = self._clock()
        if due is not None and now >= due:
            return self._degraded(search, "deadline", now)
        waiting = Waiting(search, now, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._telemetry.queue_depth.set(len(self._queue))
        self._arrived.set()
        try:
            return await asyncio.wait_for(waiting.answer, None if due is None else due - now)
        except TimeoutError:
            return self._degraded(search, "deadline", now)

    async def run(self) -> None:
        """Score batch after batch, for ever; raises WorkerFault when the model fails for good."""
        loop = asyncio.get_running_loop()
        while True:
            await self._read_ahead()
            await self._arrived.wait()
            batch, model = self._close_batch(), self._model()
            if not batch:
                continue
            searches = [waiting.search for waiting in batch]
            try:
                lists = await loop.run_in_executor(self._executor, self._score, searches, model)
            except Exception:
                LOG.exception("a batch of %d failed; each is tried alone", len(batch))
                await self._each_alone(batch, model)
            else:
                self._failed_in_a_row = 0
                for waiting, ranked in zip(batch, lists, strict=True):
                    self._deliver(waiting, ranked)

    async def _read_ahead(self) -> None:
        """Spend idle time on texts that may be asked for, a few at a time: nobody is to wait."""
        loop = asyncio.get_running_loop()
        try:
            while not self._arrived.is_set():
                if not await loop.run_in_executor(self._executor, self._embed_ahead, self._model()):
                    return
        except Exception:
            LOG.exception("texts that nobody asked for could not be encoded")

    def _embed_ahead(self, model: Model) -> bool:
        """On the scoring thread; whether there was anything left to do."""
        wanted = self._ahead(model)
        read(wanted, model)
        return bool(wanted)

    async def _each_alone(self, batch: Sequence[Waiting], model: Model) -> None:
        loop = asyncio.get_running_loop()
        for waiting in batch:
            alone = [waiting.search]
            try:
                (ranked,) = await loop.run_in_executor(self._executor, self._score, alone, model)
            except Exception as error:
                self._failed_in_a_row += 1
                query_id = waiting.search.event.query_id
                LOG.exception("scoring failed; answered degraded", extra={"query_id": query_id})
                if self._failed_in_a_row >= self._settings.model_failures:
                    raise WorkerFault(
                        f"scoring failed for {self._failed_in_a_row} events in a row: {error}"
                    ) from error
                ranked = self._degraded(waiting.search, "model_error", waiting.since)
            else:
                self._failed_in_a_row = 0
            self._deliver(waiting, ranked)

    def _close_batch(self) -> list[Waiting]:
        """What is scored next: searches in their order, until the budget is met."""
        batch: list[Waiting] = []
        model, work = self._model(), 0
        while self._queue and len(batch) < self._settings.batch_events:
            waiting = self._queue[0]
            if not waiting.answer.done():  # else its deadline came, and it is answered
                wanted = needed((waiting.search,), model)
                fresh = sum(text not in model.readings for text in wanted)
                pairs = pair_count(waiting.search, model)
                if batch and work + fresh + pairs > self._settings.batch_texts:
                    break
                work += fresh + pairs
                self._telemetry.vectors.labels("no").inc(fresh)
                self._telemetry.vectors.labels("yes").inc(len(wanted) - fresh)
                batch.append(waiting)
            self._queue.popleft()
        if not self._queue:
            self._arrived.clear()
        self._telemetry.queue_depth.set(len(self._queue))
        return batch

    def _score(self, searches: Sequence[JoinedSearch], model: Model) -> list[RankedList]:
        """On the scoring thread."""
        laps = {"start": self._clock()}
        lists = rerank(searches, model, lambda stage: laps.update({stage: self._clock()}))
        score, rank = laps["score"] - laps["start"], laps["rank"] - laps["score"]
        self._telemetry.stage_seconds.labels("score").observe(score)
        self._telemetry.stage_seconds.labels("rank").observe(rank)
        for search, ranked in zip(searches, lists, strict=True):
            if pair_count(search, model):
                self._telemetry.pairs.inc(ranked.pair_count)
                self._telemetry.pair_share.observe(ranked.pair_share)
        timing = TimingMs(queue=laps["start"], score=_ms(score), rank=_ms(rank))
        return [msgspec.structs.replace(ranked, timing_ms=timing) for ranked in lists]

    def _deliver(self, waiting: Waiting, ranked: RankedList) -> None:
        if waiting.answer.done():
            return
        if not ranked.degraded:
            queued = max(0.0, ranked.timing_ms.queue - waiting.since)
            self._telemetry.stage_seconds.labels("queue").observe(queued)
            timing = msgspec.structs.replace(ranked.timing_ms, queue=_ms(queued))
            ranked = msgspec.structs.replace(ranked, timing_ms=timing)
        waiting.answer.set_result(ranked)

    def _degraded(self, search: JoinedSearch, reason: Reason, since: float) -> RankedList:
        start = self._clock()
        ranked = fall_back(search, self._weak, reason)
        timing = TimingMs(queue=_ms(start - since), rank=_ms(self._clock() - start))
        return msgspec.structs.replace(ranked, timing_ms=timing)


def _ms(seconds: float) -> float:
    return round(seconds * 1_000.0, 3)
