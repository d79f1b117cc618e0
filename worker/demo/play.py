"""`python -m worker demo`: broker, worker and simulated shop, played from nothing to a summary.

Half way the worker is killed with kill -9 and restarted, so that "nothing lost" is shown.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from worker import codec, tables
from worker.demo import topics, view
from worker.demo.broker import Broker
from worker.demo.children import Worker, ensure_live_bundle
from worker.demo.tally import Tally
from worker.demo.topics import ShopTopics
from worker.errors import WorkerFault
from worker.events import Item
from worker.shop.catalogue import generate
from worker.shop.visits import Shop, Visit

EVENTS: Final = 240
USERS: Final = 50
DIALS: Final = (0.0, 0.1, 0.3, 0.5, 0.7)
PAGE: Final = 20  # items of a list
IN_FLIGHT: Final = 4  # searches that are open at once
PATIENCE_SECONDS: Final = 60.0  # without one answer
FRAME_SECONDS: Final = 0.25
LATE_SECONDS: Final = 1.0  # for duplicates that are still on their way
HOME: Final = Path(".prismrank")
INTERRUPTED: Final = 130


def run(events: int | None, catalogue: Path | None, as_json: bool) -> int:
    """Play; the exit status: 0 only if no event was lost."""
    items = tables.read_catalogue(catalogue) if catalogue else generate()
    played = EVENTS if events is None else events
    screen = view.screen(live=sys.stdout.isatty() and not as_json)
    try:
        return asyncio.run(_main(played, items, screen, as_json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; every child has been ended", file=sys.stderr)
        return INTERRUPTED


async def _main(events: int, items: dict[str, Item], screen: view.Screen, as_json: bool) -> int:
    playing = asyncio.current_task()
    assert playing is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    digest = await ensure_live_bundle(HOME / "registry", screen.say)
    shop = Shop(items, users=USERS)
    tally = Tally(shop, events)
    with Broker() as broker:
        topics.create(broker, events, items)
        log = HOME / f"worker-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
        worker = Worker(broker.bootstrap, HOME / "registry", log)
        try:
            async with ShopTopics(broker.bootstrap) as shop_topics:
                await Play(shop, tally, shop_topics, worker, screen).through()
        except WorkerFault as error:
            print(error, file=sys.stderr)
        finally:
            worker.stop()
    return view.summarise(tally, digest, worker, as_json)


class Play:
    """One run of the shop against one worker."""

    def __init__(
        self, shop: Shop, tally: Tally, wire: ShopTopics, worker: Worker, screen: view.Screen
    ) -> None:
        self._shop, self._tally, self._wire = shop, tally, wire
        self._worker, self._screen = worker, screen
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._heard_at = time.monotonic()

    async def through(self) -> None:
        """Prepare, play, wait for the last answer. Raises WorkerFault where answers stay out."""
        now = datetime.now(UTC)
        self._screen.say(f"items: {len(self._shop.catalogue)}, users: {len(self._shop.users)}")
        await self._wire.feed(self._shop.catalogue.values())
        await self._wire.behave(
            done for user in self._shop.users for done in self._shop.past(user, now)
        )
        self._screen.say(f"worker: starting, its log is {self._worker.log}")
        self._worker.start()
        await self._worker.wait_ready()
        self._heard_at = time.monotonic()
        tasks = [asyncio.create_task(hop) for hop in (self._ask(), self._hear(), self._watch())]
        with self._screen:
            try:
                await self._first_end(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Until `_watch`, the last of them, ends; whatever fails before that ends the play."""
        pending = set(tasks)
        while tasks[-1] in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _ask(self) -> None:
        for n in range(self._tally.planned):
            await self._slots.acquire()
            visit = self._visit(n)
            self._tally.send(visit, time.monotonic())
            await self._wire.ask(visit.event)
            if n == self._tally.planned // 2:
                await self._kill()

    def _visit(self, n: int) -> Visit:
        """Each need is asked at every dial in turn, so that the rows of the summary compare."""
        number, turn = divmod(n, len(DIALS))
        visit = self._shop.visit(number, datetime.now(UTC))
        query_id = f"{visit.event.query_id}-{turn}"
        event = msgspec.structs.replace(
            visit.event, query_id=query_id, k=PAGE, diversity=DIALS[turn]
        )
        return Visit(visit.user, visit.intent, event)

    async def _kill(self) -> None:
        """kill -9 in the middle of work, then what an orchestrator does: start another."""
        await asyncio.to_thread(self._worker.kill)
        self._tally.kill(time.monotonic())
        self._screen.say("worker: kill -9, and restarted")
        self._worker.start()

    async def _hear(self) -> None:
        async for topic, value in self._wire.answers():
            self._heard_at = time.monotonic()
            if topic == "ranked-lists":
                await self._take(value)
            else:
                self._bury(value)

    async def _take(self, value: bytes) -> None:
        ranked = codec.decode_ranked_list(value, codec.Limits())
        answered = self._tally.answer(ranked, time.monotonic())
        if answered is None:
            return
        self._slots.release()
        shown = [item.item_id for item in ranked.items]
        now = datetime.now(UTC)
        await self._wire.behave(self._shop.react(answered.visit, shown, ranked.list_id, now))

    def _bury(self, value: bytes) -> None:
        event = codec.decode_search_event(value, codec.Limits())
        if event.query_id not in self._tally.dead | self._tally.answers.keys():
            self._slots.release()
        self._tally.dead.add(event.query_id)

    async def _watch(self) -> None:
        """Show where we are, until all is answered; restart a worker that fell; lose patience."""
        while len(self._tally.sent) < self._tally.planned or self._tally.lost:
            self._screen.show(self._tally)
            self._worker.supervise()
            silent = time.monotonic() - self._heard_at
            if silent > PATIENCE_SECONDS:
                raise WorkerFault(f"no answer for {silent:.0f} s; {self._worker.diagnosis()}")
            await asyncio.sleep(FRAME_SECONDS)
        await asyncio.sleep(LATE_SECONDS)
        self._screen.show(self._tally)
