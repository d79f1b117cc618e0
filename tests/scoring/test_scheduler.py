"""The scheduler: deadlines, failures, and batches that mix nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from export.bundle import Calibration
from tests.factories import PairOverlap, joined, random_search
from worker.errors import WorkerFault
from worker.events import RankedList
from worker.ranking.model import Encoded, Model, TokenBatch
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap
from worker.scoring.scheduler import Scheduler
from worker.settings import Settings
from worker.telemetry import Telemetry


def serve(
    use: Callable[[Scheduler], Awaitable[object]],
    model: Callable[[], Model],
    settings: Settings | None = None,
) -> object:
    """Run a scheduler while `use` uses it; a fault of the scheduler is raised here."""

    async def main() -> object:
        scheduler = Scheduler(model, Overlap(), settings or Settings(), Telemetry(), time.monotonic)
        running = asyncio.create_task(scheduler.run())
        using = asyncio.ensure_future(use(scheduler))
        done, _ = await asyncio.wait({running, using}, return_when=asyncio.FIRST_COMPLETED)
        try:
            return next(iter(done)).result()
        finally:
            running.cancel()
            using.cancel()
            await asyncio.gather(running, using, return_exceptions=True)

    return asyncio.run(main())


class Poisoned(Overlap):
    """Fails on one word."""

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        if any("poison" in text for text in texts):
            raise RuntimeError("a graph that cannot take this")
        return super().tokenize(texts)


def test_many_at_once_are_answered_as_each_would_be_alone() -> None:
    searches = [joined(random_search(seed, 12, query_id=f"q{seed}")) for seed in range(40)]
    model = Overlap()

    async def use(scheduler: Scheduler) -> list[RankedList]:
        return await asyncio.gather(*(scheduler.rank(search) for search in searches))

    answers = serve(use, lambda: model)
    alone = [rerank([search], Overlap())[0].list_id for search in searches]
    assert [a.list_id for a in answers] == alone  # type: ignore[attr-defined]


def test_a_deadline_that_has_passed_is_answered_at_once_in_the_fallback_order() -> None:
    async def use(scheduler: Scheduler) -> RankedList:
        return await scheduler.rank(joined(random_search(1, 5)), time.monotonic() - 1)

    answer = serve(use, Overlap)
    assert (answer.degraded, answer.reason) == (True, "deadline")  # type: ignore[attr-defined]


def test_a_deadline_that_comes_while_the_model_works_is_kept() -> None:
    class Slow(Overlap):
        def score(self, batch: TokenBatch) -> Encoded:
            held.wait(5)
            return super().score(batch)

    held, model = threading.Event(), Slow()

    async def use(scheduler: Scheduler) -> RankedList:
        try:
            return await scheduler.rank(joined(random_search(1, 5)), time.monotonic() + 0.05)
        finally:
            held.set()

    answer = serve(use, lambda: model)
    assert answer.reason == "deadline"  # type: ignore[attr-defined]


def test_one_search_that_cannot_be_scored_takes_no_other_along() -> None:
    model = Poisoned()
    searches = [joined(random_search(seed, 5, query_id=f"q{seed}")) for seed in range(6)]
    bad = joined(random_search(9, 5, query_id="bad", user_query="poison"))

    async def use(scheduler: Scheduler) -> list[RankedList]:
        return await asyncio.gather(
            *(scheduler.rank(s) for s in (*searches[:3], bad, *searches[3:]))
        )

    answers: Sequence[RankedList] = serve(use, lambda: model)  # type: ignore[assignment]
    assert [a.reason for a in answers] == [None, None, None, "model_error", None, None, None]


def test_a_model_that_fails_again_and_again_is_a_fault_of_the_worker() -> None:
    model = Poisoned()

    async def use(scheduler: Scheduler) -> object:
        poison = [joined(random_search(n, 3, user_query="poison")) for n in range(10)]
        return await asyncio.gather(*(scheduler.rank(search) for search in poison))

    with pytest.raises(WorkerFault, match="3 events in a row"):
        serve(use, lambda: model, Settings(model_failures=3))


def test_a_swap_between_batches_mixes_no_two_models_in_a_list() -> None:
    class Named(Overlap):
        def __init__(self, name: str, slope: float) -> None:
            super().__init__()
            self.digest = name
            self.calibration = Calibration(slope=slope, intercept=0.0, origin="a test")

    def named(name: str | None) -> Named:
        return Named(name or "", {"one": 1.0, "two": 5.0}[name or ""])

    models = [named("one"), named("two")]
    searches = [joined(random_search(seed, 6, query_id=f"q{seed}")) for seed in range(20)]
    current = 0

    async def use(scheduler: Scheduler) -> list[RankedList]:
        nonlocal current
        answers: list[RankedList] = []
        for turn, search in enumerate(searches):
            current = turn % 2
            answers += await asyncio.gather(*(scheduler.rank(search) for _ in range(5)))
        return answers

    answers: Sequence[RankedList] = serve(use, lambda: models[current])  # type: ignore[assignment]
    assert {a.model for a in answers} == {"one", "two"}
    for answer in answers:
        search = searches[int(answer.query_id[1:])]
        assert answer.list_id == rerank([search], named(answer.model))[0].list_id


def test_timing_tells_queue_score_and_rank() -> None:
    async def use(scheduler: Scheduler) -> RankedList:
        return await scheduler.rank(joined(random_search(1, 30)))

    model = Overlap()
    answer: RankedList = serve(use, lambda: model)  # type: ignore[assignment]
    assert answer.timing_ms.queue >= 0.0
    assert answer.timing_ms.rank > 0.0


def test_pairs_count_towards_a_micro_batch_and_are_counted() -> None:
    sizes: list[int] = []

    class Noting(PairOverlap):
        def score(self, batch: TokenBatch) -> Encoded:
            sizes.append(len(batch.rows))
            return super().score(batch)

    model, telemetry = Noting(), Telemetry()
    searches = [
        joined(random_search(seed, 10, query_id=f"q{seed}", user_query=f"hat {seed}"))
        for seed in range(8)
    ]

    async def main() -> list[RankedList]:
        settings = Settings(batch_texts=42)  # two searches of 1 + 10 texts and 10 pairs
        scheduler = Scheduler(lambda: model, Overlap(), settings, telemetry, time.monotonic)
        waiting = [asyncio.ensure_future(scheduler.rank(search)) for search in searches]
        await asyncio.sleep(0)  # all are in the queue before the first batch closes
        running = asyncio.create_task(scheduler.run())
        answers = await asyncio.gather(*waiting)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return answers

    answers = asyncio.run(main())
    assert [a.list_id for a in answers] == [rerank([s], PairOverlap())[0].list_id for s in searches]
    assert max(sizes) <= 22
    assert telemetry.registry.get_sample_value("prismrank_pairs_total") == 80
