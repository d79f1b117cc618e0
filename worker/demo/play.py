"""`python -m worker demo`: broker, worker and simulated shop, from nothing to a summary.

Before the round the worker is killed with kill -9 and restarted, so that "nothing lost" is
shown. Then a round of training learns from what was clicked, and where its gate agrees the worker
swaps while searches keep coming; the same needs are asked again.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from worker import codec, tables
from worker.demo import topics, view
from worker.demo.broker import Broker
from worker.demo.children import Worker, base_model, ensure_live_bundle
from worker.demo.compare import Change, compare
from worker.demo.learning import EXPLORE, Learned, Round, fresh_folder
from worker.demo.script import ENOUGH, Script, script
from worker.demo.summary import Ended, summarise
from worker.demo.tally import Tally
from worker.demo.topics import ShopTopics
from worker.errors import WorkerFault
from worker.events import Item
from worker.shop.catalogue import generate
from worker.shop.visits import Shop, Visit

EVENTS: Final = 240
ITEMS: Final = 1_500  # each is read by the worker, the visitors and the judges in turn
USERS: Final = 50
PAGE: Final = 20  # items of a list
IN_FLIGHT: Final = 4  # searches that are open at once
PATIENCE_SECONDS: Final = 240.0  # without an answer: a first start compiles, a minute on busy cores
FRAME_SECONDS: Final = 0.25
LATE_SECONDS: Final = 1.0  # for duplicates that are still on their way
HOME: Final = Path(".prismrank")
INTERRUPTED: Final = 130
LEARNING: Final = {  # the settings of a worker whose lists are learned from
    "PRISMRANK_EXPLORE": str(EXPLORE),
    "PRISMRANK_PAIR_CANDIDATES": "24",  # two cores: more would wait for their turn
    "PRISMRANK_POLL_SECONDS": "1",
}


def run(
    events: int | None, catalogue: Path | None, as_json: bool, learns: bool | None = None
) -> int:
    """Play; the exit status: 0 only if no event was lost. A round of training is part of it where
    it `learns`, which it does unasked from ENOUGH events on."""
    items = tables.read_catalogue(catalogue) if catalogue else generate(items=ITEMS)
    planned = EVENTS if events is None else events
    played = script(planned, planned >= ENOUGH if learns is None else learns)
    screen = view.screen(live=sys.stdout.isatty() and not as_json)
    try:
        return asyncio.run(_main(played, items, screen, as_json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; every child has been ended", file=sys.stderr)
        return INTERRUPTED


async def _main(played: Script, items: dict[str, Item], screen: view.Screen, as_json: bool) -> int:
    playing = asyncio.current_task()
    assert playing is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    registry = HOME / "registry"
    digest = await ensure_live_bundle(registry, screen.say)
    shop = Shop(items, users=USERS)
    with ExitStack() as stack:
        learning = None
        if played.after:
            folder = stack.enter_context(fresh_folder(HOME))
            learning = Round(folder, registry / "bundles" / digest, base_model(), screen.say)
            registry = learning.registry
        broker = stack.enter_context(Broker())
        topics.create(broker, played.events, items)
        log = HOME / f"worker-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
        worker = Worker(broker.bootstrap, registry, log, LEARNING if learning else None)
        async with ShopTopics(broker.bootstrap) as wire:
            play = Play(shop, played, wire, worker, learning, screen)
            try:
                await play.through()
            except WorkerFault as error:
                print(error, file=sys.stderr)
            finally:
                worker.stop()
    ended = Ended(play.tally, digest, play.learned, play.change())
    return summarise(ended, worker, as_json)


class Play:
    """One run of the shop against one worker."""

    def __init__(
        self,
        shop: Shop,
        played: Script,
        wire: ShopTopics,
        worker: Worker,
        learning: Round | None,
        screen: view.Screen,
    ) -> None:
        self.tally = Tally(shop, played.events)
        self.learned: Learned | None = None
        self._shop, self._script, self._wire = shop, played, wire
        self._worker, self._round, self._screen = worker, learning, screen
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
        story = asyncio.create_task(self._tell(), name="the shop's asking")
        hearing = asyncio.create_task(self._hear(), name="the shop's hearing")
        tasks = [story, hearing, asyncio.create_task(self._watch(story), name="the view")]
        with self._screen:
            try:
                await self._first_end(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def change(self) -> Change | None:
        """What the round made of the needs that were asked before and after it."""
        if self.learned is None:
            return None
        pairs = [(self._visit(n), self._visit(again)) for n, again in self._script.pairs()]
        ids = [(one.event.query_id, other.event.query_id) for one, other in pairs]
        return compare(self.tally, ids, self.learned.champion, self.learned.serving)

    async def _first_end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Until `_watch`, the last of them, ends; whatever fails before that ends the play."""
        pending = set(tasks)
        while tasks[-1] in pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():  # not by us: a client gave up what it waited for
                    raise WorkerFault(f"{task.get_name()} was cancelled from within")
                task.result()

    async def _tell(self) -> None:
        """The story: ask, learn, ask the same again."""
        played = self._script
        for n in range(played.before):
            await self._ask(n)
            if n == played.before // 2:
                await self._kill()
        if self._round is None:
            return
        while self.tally.lost:
            await asyncio.sleep(FRAME_SECONDS)
        self.learned = await self._learn(self._round)
        for n in range(len(self.tally.sent), played.events):
            await self._ask(n)

    async def _learn(self, one: Round) -> Learned:
        """The round; from the promotion on, the searches that were kept for the swap come."""
        kept = range(self._script.before, self._script.before + self._script.during)
        learning = asyncio.create_task(one.learn(self._shop, self._worker))
        try:
            while not learning.done():
                if one.promoted and (n := len(self.tally.sent)) in kept:
                    await self._ask(n)
                await asyncio.sleep(FRAME_SECONDS)
            return learning.result()
        finally:
            learning.cancel()
            await asyncio.gather(learning, return_exceptions=True)

    async def _ask(self, n: int) -> None:
        await self._slots.acquire()
        visit = self._visit(n)
        self.tally.send(visit, time.monotonic())
        await self._wire.ask(visit.event)

    def _visit(self, n: int) -> Visit:
        """The n-th search of the script."""
        number, dial = self._script.search(n)
        visit = self._shop.visit(number, datetime.now(UTC))
        query_id = f"{visit.event.query_id}-{n}"
        event = msgspec.structs.replace(visit.event, query_id=query_id, k=PAGE, diversity=dial)
        return Visit(visit.user, visit.intent, event)

    async def _kill(self) -> None:
        """kill -9 in the middle of work, then what an orchestrator does: start another."""
        await asyncio.to_thread(self._worker.kill)
        self.tally.kill(time.monotonic())
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
        answered = self.tally.answer(ranked, time.monotonic())
        if answered is None:
            return
        self._slots.release()
        shown = [item.item_id for item in ranked.items]
        did = (self._shop.impressions, self._shop.react)
        page = (answered.visit, shown, ranked.list_id, datetime.now(UTC))
        await self._wire.behave(done for part in did for done in part(*page))

    def _bury(self, value: bytes) -> None:
        event = codec.decode_search_event(value, codec.Limits())
        if event.query_id not in self.tally.dead | self.tally.answers.keys():
            self._slots.release()
        self.tally.dead.add(event.query_id)

    async def _watch(self, story: asyncio.Task[None]) -> None:
        """Show where we are, until all is answered; restart a worker that fell; lose patience."""
        while not story.done() or self.tally.lost:
            self._screen.show(self.tally)
            self._worker.supervise()
            if not self.tally.lost:
                self._heard_at = time.monotonic()  # nobody waits for an answer
            silent = time.monotonic() - self._heard_at
            if silent > PATIENCE_SECONDS:
                raise WorkerFault(f"no answer for {silent:.0f} s; {self._worker.diagnosis()}")
            await asyncio.sleep(FRAME_SECONDS)
        await asyncio.sleep(LATE_SECONDS)
        self._screen.show(self.tally)
