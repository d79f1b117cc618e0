"""Reading ahead: idle time fills the cache, and nobody waits for it."""

from __future__ import annotations

import asyncio
import time

from tests.factories import catalogue, joined, random_search
from worker.events import Item
from worker.ranking.rerank import embed, rerank
from worker.scoring.ahead import AT_ONCE, Ahead
from worker.scoring.overlap import Overlap
from worker.scoring.scheduler import Scheduler
from worker.settings import Settings
from worker.telemetry import Telemetry

ITEMS = catalogue(*(Item(item_id=f"i{n}", title=f"shoe {n}") for n in range(20)), Item(item_id="x"))


def test_the_whole_catalogue_is_read_once_a_few_at_a_time() -> None:
    model, ahead = Overlap(), Ahead(ITEMS, 1_000)
    sizes = []
    while wanted := ahead(model):
        embed(wanted, model)
        sizes.append(len(wanted))
    assert sizes == [AT_ONCE, AT_ONCE, 20 - 2 * AT_ONCE]
    assert set(model.readings) == {item.title for item in ITEMS.values() if item.title}


def test_another_model_and_a_grown_catalogue_are_read_from_the_start() -> None:
    items = dict(ITEMS)
    model, ahead = Overlap(), Ahead(items, 1_000)
    while wanted := ahead(model):
        embed(wanted, model)
    items["new"] = Item(item_id="new", title="boot")
    assert ahead(model) == ["boot"]
    assert len(ahead(Overlap())) == AT_ONCE


def test_a_full_cache_is_left_alone() -> None:
    model = Overlap(cached_vectors=3)
    embed(["a", "b", "c"], model)
    assert Ahead(ITEMS, 3)(model) == ()


def test_an_idle_scheduler_reads_ahead_and_still_answers() -> None:
    async def main() -> None:
        model, telemetry = Overlap(), Telemetry()
        ahead = Ahead(ITEMS, 1_000)
        scheduler = Scheduler(
            lambda: model, Overlap(), Settings(), telemetry, time.monotonic, ahead
        )
        running = asyncio.create_task(scheduler.run())
        while len(model.readings) < 20:
            await asyncio.sleep(0.001)
        search = joined(random_search(1, 6))
        answer = await scheduler.rank(search)
        assert answer.list_id == rerank([search], Overlap())[0].list_id
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
