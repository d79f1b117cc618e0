"""One scoring thread, fed with micro-batches: what waits while it works is its next batch.

A batch closes when the scorer is idle, or at `batch_texts` unseen texts and pairs, or at
`batch_events`; so sparse traffic waits for nothing. The first that waits says whose model it is;
those of the other arm of a trial stay in the queue, in their order. A search whose deadline comes
first, in the queue or in the model, is answered in the fallback order at once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from worker.errors import WorkerFault
from worker.events import RankedList, Reason, TimingMs
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Model
from worker.ranking.pairs import pair_count
from worker.ranking.rerank import fall_back, needed, read, rerank
from worker.scoring.ahead import nothing_ahead
from worker.scoring.arms import Arms, Nobody
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A search in the queue."""

    search: JoinedSearch
    since: float  # seconds, on the scheduler's clock
    answer: asyncio.Future[RankedList]


@dataclass(slots=True)
class Batch:
    """Searches that are scored together, by one model."""

    model: Model
    on_trial: bool  # the model is a challenger
    waiting: list[Waiting] = field(default_factory=list)
    texts: int = 0  # that the encoder has not read yet
    pairs: int = 0  # that are wanted, read before or not


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
        arms: Arms | None = None,
    ) -> None:
        """`ahead` names texts that are worth encoding while nobody waits; `arms` says which
        searches a challenger serves, by default none."""
        self._ahead = ahead
        self._arms = arms or Arms(model, Nobody(), settings, telemetry, clock)
        self._model, self._weak, self._clock = model, weak, clock
        self._settings, self._telemetry = settings, telemetry
        self._queue: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._failed_in_a_row = 0

    async def rank(self, search: JoinedSearch, due: float | None = None) -> RankedList:
        """The list of one search; degraded where `due` (on the clock) comes before the model."""
        ranked = await self._ranked(search, due)
        if self._arms.answered(search, ranked):
            self._arrived.set()  # to come by `_spend_idle` once more
        return ranked

    async def _ranked(self, search: JoinedSearch, due: float | None) -> RankedList:
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
            await self._spend_idle()
            await self._arrived.wait()
            if (batch := self._close_batch()) is None:
                continue
            searches = [waiting.search for waiting in batch.waiting]
            score = functools.partial(self._score, searches, batch.model)
            try:
                lists = await loop.run_in_executor(self._executor, score)
            except Exception:
                LOG.exception("a batch of %d failed; each is tried alone", len(searches))
                for waiting in batch.waiting:
                    self._deliver(waiting, await self._alone(waiting, batch.model, batch.on_trial))
            else:
                if not batch.on_trial:
                    self._failed_in_a_row = 0
                seconds = lists[0].timing_ms.score / 1_000.0
                self._arms.scored(batch.model, len(searches), batch.texts, batch.pairs, seconds)
                for waiting, ranked in zip(batch.waiting, lists, strict=True):
                    self._deliver(waiting, ranked)

    async def _spend_idle(self) -> None:
        """Spend idle time on texts that may be asked for, and on what a trial wants to know, in
        small pieces: nobody is to wait."""
        loop = asyncio.get_running_loop()
        off_loop = functools.partial(loop.run_in_executor, self._executor)
        try:
            while not self._arrived.is_set():
                ahead = await loop.run_in_executor(self._executor, self._embed_ahead, self._model())
                if not ahead and not await self._arms.spare(off_loop):
                    return
        except Exception:
            LOG.exception("texts that nobody asked for could not be encoded")

    def _embed_ahead(self, model: Model) -> bool:
        """On the scoring thread; whether there was anything left to do."""
        wanted = self._ahead(model)
        read(wanted, model)
        return bool(wanted)

    async def _alone(self, waiting: Waiting, model: Model, on_trial: bool) -> RankedList:
        """The list of a search of a batch that failed; what a challenger cannot score, the champion
        does."""
        loop, alone = asyncio.get_running_loop(), [waiting.search]
        try:
            (ranked,) = await loop.run_in_executor(self._executor, self._score, alone, model)
        except Exception as error:
            extra = {"query_id": waiting.search.event.query_id}
            if on_trial:
                LOG.exception("the challenger failed; the champion is asked", extra=extra)
                ranked = await self._alone(waiting, self._model(), on_trial=False)
                self._arms.failed(model, waiting.search, ranked)
                return ranked
            self._failed_in_a_row += 1
            LOG.exception("scoring failed; answered degraded", extra=extra)
            if self._failed_in_a_row >= self._settings.model_failures:
                raise WorkerFault(
                    f"scoring failed for {self._failed_in_a_row} events in a row: {error}"
                ) from error
            return self._degraded(waiting.search, "model_error", waiting.since)
        if not on_trial:
            self._failed_in_a_row = 0
        return ranked

    def _close_batch(self) -> Batch | None:
        """What is scored next: the first search and those of its model, until the budget is met."""
        batch: Batch | None = None
        others: list[Waiting] = []
        while self._queue and (batch is None or len(batch.waiting) < self._settings.batch_events):
            waiting = self._queue.popleft()
            if waiting.answer.done():  # its deadline came, and it is answered
                continue
            challenger = self._arms.challenger(waiting.search)
            model = challenger or self._model()
            batch = batch or Batch(model, on_trial=challenger is not None)
            if model is not batch.model:
                others.append(waiting)
            elif not self._takes(batch, waiting):
                others.append(waiting)
                break
        self._queue.extendleft(reversed(others))
        if not self._queue:
            self._arrived.clear()
        self._telemetry.queue_depth.set(len(self._queue))
        return batch

    def _takes(self, batch: Batch, waiting: Waiting) -> bool:
        """Put a search into a batch; False where it is full."""
        wanted = needed((waiting.search,), batch.model)
        fresh = sum(text not in batch.model.readings for text in wanted)
        pairs = pair_count(waiting.search, batch.model)
        work = batch.texts + batch.pairs + fresh + pairs
        if batch.waiting and work > self._settings.batch_texts:
            return False
        batch.texts, batch.pairs = batch.texts + fresh, batch.pairs + pairs
        self._telemetry.vectors.labels("no").inc(fresh)
        self._telemetry.vectors.labels("yes").inc(len(wanted) - fresh)
        batch.waiting.append(waiting)
        return True

    def _score(self, searches: Sequence[JoinedSearch], model: Model) -> list[RankedList]:
        """On the scoring thread."""
        laps = {"start": self._clock()}
        lists = rerank(searches, model, lambda stage: laps.update({stage: self._clock()}))
        score, rank = laps["score"] - laps["start"], laps["rank"] - laps["score"]
        self._telemetry.stage_seconds.labels("score").observe(score)
        self._telemetry.stage_seconds.labels("rank").observe(rank)
        for search, ranked in zip(searches, lists, strict=True):
            if ranked.read_as is not None:
                self._telemetry.queries_spelled.inc()
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
