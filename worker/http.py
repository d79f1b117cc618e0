"""Health, metrics, and the same ranker over HTTP, for pages that cannot wait on a topic."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Struct
from prometheus_client import generate_latest

from worker import codec
from worker.delivery import Headers
from worker.errors import BadMessage, Invalid
from worker.events import Candidate, RankedList, SearchEvent
from worker.ranking.join import Tables
from worker.serving import ANSWERED, CARRIED, Serving
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)
OPEN_PATHS = ("/livez", "/readyz")  # what an orchestrator asks, without a token


class Document(Struct, frozen=True):
    """A document of the Cohere/Jina dialect."""

    text: str


class RerankRequest(Struct, frozen=True):
    """`{query, documents, top_n}`: what rerank clients of Cohere and Jina send."""

    query: str
    documents: tuple[str | Document, ...]
    top_n: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What the two probes ask. Each gives None for yes, or the reason for no."""

    live: Callable[[], str | None]
    ready: Callable[[], str | None]


def application(
    settings: Settings, serving: Serving, health: Health, telemetry: Telemetry
) -> web.Application:
    """The routes; `compose` makes them listen."""
    app = web.Application(
        client_max_size=settings.max_record_bytes + 1, middlewares=[_guarded(settings.http_token)]
    )
    routes = Routes(settings, serving, health, telemetry)
    app.add_routes(
        [
            web.get("/livez", routes.livez),
            web.get("/readyz", routes.readyz),
            web.get("/metrics", routes.metrics),
            web.post("/v1/rerank", routes.rerank),
        ]
    )
    return app


class Routes:
    """What is answered on each path."""

    def __init__(
        self, settings: Settings, serving: Serving, health: Health, telemetry: Telemetry
    ) -> None:
        self._settings, self._serving = settings, serving
        self._health, self._telemetry = health, telemetry
        self._publications: set[asyncio.Task[None]] = set()

    async def livez(self, _request: web.Request) -> web.Response:
        """Progress."""
        return _probed(self._health.live())

    async def readyz(self, _request: web.Request) -> web.Response:
        """Model live, tables read, partitions assigned."""
        return _probed(self._health.ready())

    async def metrics(self, _request: web.Request) -> web.Response:
        """Prometheus's text form."""
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(self._telemetry.registry), headers=headers)

    async def rerank(self, request: web.Request) -> web.Response:
        """An event or a request of the dialect; published for learning after it is answered."""
        if (reason := self._health.ready()) is not None:
            return _json({"error": {"message": f"not ready: {reason}"}}, status=503)
        if len(self._publications) >= self._settings.in_flight:
            return _json({"error": {"message": "busy: lists wait for Kafka"}}, status=503)
        headers = {
            name: request.headers[name].encode("utf-8", "surrogateescape")
            for name in CARRIED
            if name in request.headers
        }
        received = self._serving.wall_clock()
        try:
            raw = await request.read()
            if (documents := _dialect(raw, self._settings.limits)) is not None:
                return _json(_results(await self._serving.answer(documents, received, Tables())))
            event = self._serving.decode(raw, headers, received)
            ranked = await self._serving.answer(event, received)
        except BadMessage as error:
            return _json(_error(error), status=400)
        except aiohttp.ClientPayloadError as error:  # a body that is not what its headers say
            return _json({"error": {"message": f"unreadable body: {error}"}}, status=400)
        task = asyncio.create_task(_publish(self._serving, event, ranked, headers))
        self._publications.add(task)
        task.add_done_callback(self._publications.discard)
        self._telemetry.lists.labels("http").inc()
        return web.Response(body=codec.encode(ranked), content_type="application/json")


async def _publish(
    serving: Serving, event: SearchEvent, ranked: RankedList, headers: Headers
) -> None:
    """Event and list, for learning; the page has its answer already."""
    key = (event.user_id or event.client_id or event.query_id).encode()
    topic = serving.settings.topic("search-events")
    produce = serving.delivery.produce
    try:
        await produce(topic, key, codec.encode(event), {**headers, ANSWERED: b"1"})
        await serving.publish(event, ranked, headers)
    except Exception:
        extra = {"query_id": event.query_id}
        LOG.exception("answered over HTTP, but not published for learning", extra=extra)


def _guarded(token: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        is_let_in = hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
        if token and request.path not in OPEN_PATHS and not is_let_in:
            return _json(
                {"error": {"message": "expected Authorization: Bearer <token>"}}, status=401
            )
        return await handler(request)

    return guard


def _dialect(raw: bytes, limits: codec.Limits) -> SearchEvent | None:
    """A request of the Cohere/Jina dialect as an event; None where it is a SearchEvent."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        if "documents" not in fields or "query_id" in fields:
            return None
        request = msgspec.json.decode(raw, type=RerankRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and b'"documents"' in raw:
            reason, _, path = str(error).partition(" - at `")
            raise Invalid(path.rstrip("`") or "$", reason.removeprefix("Expected ")) from error
        return None  # the codec says what is wrong with it
    candidates = tuple(
        Candidate(item_id=str(i), title=text if isinstance(text, str) else text.text)
        for i, text in enumerate(request.documents)
    )
    return codec.decode_search_event(
        codec.encode(
            SearchEvent(
                query_id="rerank",
                user_query=request.query,
                candidates=candidates,
                k=request.top_n,
                diversity=0.0,
            )
        ),
        limits,
    )


def _results(ranked: RankedList) -> dict[str, object]:
    results = [
        {"index": int(item.item_id), "relevance_score": item.relevance or 0.0}
        for item in ranked.items
    ]
    return {"model": ranked.model, "results": results}


def _error(error: BadMessage) -> dict[str, object]:
    name = type(error).__name__
    return {"error": {"class": name, "path": error.path, "message": str(error)}}


def _probed(reason: str | None) -> web.Response:
    return web.Response(text=f"{reason or 'ok'}\n", status=200 if reason is None else 503)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )
