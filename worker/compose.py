"""The only place where things are made: `ranker` for the commands, `run` for Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web
from aiokafka.errors import KafkaError

from export import bundle as bundles
from export.bundle import BundleError
from export.registry import RegistryError
from worker import agents, http
from worker.delivery import Delivery
from worker.errors import BadSetting, WorkerFault
from worker.events import HistoryEntry, RankedList
from worker.ranking.bundled import Bundled
from worker.ranking.join import Tables, remembers_nobody
from worker.ranking.rerank import rerank
from worker.scoring.ahead import Ahead
from worker.scoring.arms import Arms, Nobody
from worker.scoring.challenger import Challenger
from worker.scoring.live import Live, open_model
from worker.scoring.overlap import Overlap
from worker.scoring.scheduler import Scheduler
from worker.serving import Serving
from worker.settings import Settings
from worker.tables import Known, Reader, partition_counts
from worker.telemetry import Telemetry
from worker.warming import warm_first, warm_rest

LOG = logging.getLogger(__name__)
FAULT_STATUS = 70  # EX_SOFTWARE: restart me
MISCONFIGURED_STATUS = 2  # a restart would not help


def ranker(settings: Settings, bundle: Path) -> functools.partial[tuple[RankedList, ...]]:
    """A bundle's folder as a function from searches to lists; raises BadSetting."""
    try:
        bundles.verify(bundle)
        model, _ = open_model(bundle, settings)
    except BundleError as error:
        raise BadSetting(str(error)) from error
    return functools.partial(rerank, model=model)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Whatever fails ends the process: it is to be restarted."""
    worker = Worker(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ended = asyncio.create_task(stop.wait())
    serving = asyncio.create_task(worker.serve())
    await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done() and (error := serving.exception()) is not None:
        crash(error)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.stop(), settings.shutdown_seconds)
    LOG.info("stopped")
    logging.shutdown()
    os._exit(0)  # a client of a dead broker may hold the process for minutes; all is acked


def crash(error: BaseException) -> None:
    """This worker is bad: say why, and go, before anything is acked over."""
    LOG.critical("worker fault: %r", error, exc_info=error)
    logging.shutdown()
    os._exit(MISCONFIGURED_STATUS if isinstance(error, BadSetting) else FAULT_STATUS)


class Worker:
    """Everything that serves Kafka, made and wired."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._telemetry = Telemetry()
        try:
            tell = self._telemetry.batch_tokens.observe
            self._live = Live(settings, self._took, tell)
            self._challenger = (
                Challenger(settings, self._live, self._tried, tell) if settings.challenger else None
            )
        except RegistryError as error:
            raise BadSetting(f"PRISMRANK_REGISTRY: {error}") from error
        self._known = Known(settings)
        self._reader = Reader(settings, self._known, self._telemetry)
        self._app = agents.app(settings)
        self._delivery = Delivery(
            settings,
            functools.partial(agents.send, self._app),
            self._telemetry,
            crash,
            time.monotonic,
        )
        ahead = functools.partial(Ahead, self._known.items, settings.cached_vectors)
        self._arms = Arms(
            self._model,
            self._challenger or Nobody(),
            settings,
            self._telemetry,
            time.monotonic,
            ahead(),
        )
        self._scheduler = Scheduler(
            self._model,
            Overlap(),
            settings,
            self._telemetry,
            time.monotonic,
            ahead(),
            self._arms,
        )
        self._history: Callable[[str], tuple[HistoryEntry, ...]] = remembers_nobody
        self._serving = Serving(
            settings,
            self._tables,
            self._scheduler,
            self._delivery,
            self._telemetry,
            time.time,
            time.monotonic,
        )
        self._http: web.AppRunner | None = None
        self._poller = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")

    async def serve(self) -> None:
        """Probes first; then method, model and tables; then the consumer group."""
        await self._listen()
        cold = await asyncio.to_thread(warm_first, self._settings.method)
        await self._first_model()
        await self._reader.read_to_end()
        partitions = await _profile_partitions(self._settings)
        self._telemetry.profiles_on.set(partitions > 0)
        agents.serve_searches(self._app, self._settings, self._delivery, self._serving.search)
        if partitions:
            self._history = agents.remember_behaviour(
                self._app, self._settings, self._delivery, partitions, self._arms.behaved
            )
        await self._app.start()
        LOG.info("consuming %s", self._settings.topic("search-events"))
        await asyncio.gather(
            self._scheduler.run(),
            self._reader.follow(),
            self._follow_alias(),
            self._follow_challenger(),
            self._watch_lag(),
            self._watch_app(),
            *([asyncio.to_thread(warm_rest)] if cold else []),
        )

    async def stop(self) -> None:
        """Take nothing more, see through what is open, commit, close."""
        await self._app.stop()
        await self._delivery.drain()
        await self._reader.stop()
        if self._http is not None:
            await self._http.cleanup()

    def _tables(self) -> Tables:
        return self._known.tables(self._history)

    def _model(self) -> Bundled:
        assert self._live.model is not None, "nothing is consumed before a model is live: a bug"
        return self._live.model

    async def _listen(self) -> None:
        health = http.Health(self._is_live, self._is_ready)
        routes = http.application(self._settings, self._serving, health, self._telemetry)
        self._http = web.AppRunner(routes, access_log=None)
        await self._http.setup()
        try:
            await web.TCPSite(
                self._http, self._settings.http_host, self._settings.http_port
            ).start()
        except OSError as error:
            raise BadSetting(f"PRISMRANK_HTTP_PORT: {error}") from error

    async def _first_model(self) -> None:
        while self._live.model is None:
            await self._poll()
            if self._live.model is None:
                LOG.warning(
                    "no bundle under %s in %s yet", self._settings.alias, self._settings.registry
                )
                await asyncio.sleep(self._settings.poll_seconds)

    async def _follow_alias(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            await self._poll()

    async def _follow_challenger(self) -> None:
        """In a thread of its own: whatever a challenger does, the live model is followed."""
        if self._challenger is None:
            return
        poller = ThreadPoolExecutor(max_workers=1, thread_name_prefix="challenger")
        while True:
            await asyncio.get_running_loop().run_in_executor(poller, self._challenger.poll)
            await asyncio.sleep(self._settings.poll_seconds)

    async def _poll(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._poller, self._live.poll)

    async def _watch_app(self) -> None:
        await self._app.wait_until_stopped()
        if self._app.crash_reason is not None:
            raise WorkerFault("Faust stopped") from self._app.crash_reason

    async def _watch_lag(self) -> None:
        """Liveness is progress: what arrives at the broker must lead to acks."""
        search = self._settings.topic("search-events")
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            held = [tp for tp in agents.assigned(self._app) if tp.topic == search]
            with contextlib.suppress(KafkaError):
                self._delivery.ledger.look(await self._reader.ends(held) if held else {})
                self._telemetry.lag.set(self._delivery.ledger.arrived)

    def _took(self, result: str, digest: str, device: str, variant: str) -> None:
        self._telemetry.swaps.labels(result).inc()
        if result == "swapped":
            self._telemetry.model_info.clear()
            self._telemetry.model_info.labels(digest, device, variant).set(1)

    def _tried(self, result: str, _digest: str, _device: str, _variant: str) -> None:
        self._telemetry.challenger_swaps.labels(result).inc()

    def _is_live(self) -> str | None:
        stalled = self._delivery.ledger.stalled_seconds()
        if stalled > self._settings.stall_seconds:
            return f"events wait, and none was acked for {stalled:.0f} s"
        return None

    def _is_ready(self) -> str | None:
        if self._live.model is None:
            return f"no bundle is live under {self._settings.alias!r}"
        return None if agents.is_assigned(self._app) else "no partitions assigned yet"


async def _profile_partitions(settings: Settings) -> int:
    """How many partitions the profiles table has; 0 where there can be none.

    The table needs equal counts. Where they differ lists are worth more than personalisation: the
    worker serves without, and says so in its log and in `prismrank_profiles_on`.
    """
    if settings.profiles != "table":
        return 0
    names = [settings.topic(name) for name in ("search-events", "behaviour-events", "profiles")]
    counts = await partition_counts(settings, names)
    if len(set(counts.values())) == 1:
        return counts[names[0]]
    found = ", ".join(f"{count} of {name}" for name, count in counts.items())
    LOG.error("serving without the profiles table: it needs equal partition counts, not %s", found)
    return 0
