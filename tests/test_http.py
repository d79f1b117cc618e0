"""HTTP: probes that tell the truth, and the same ranker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.factories import joined, random_search
from tests.test_delivery import Topics
from tests.test_serving import running
from worker import codec, http
from worker.events import RankedList
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap
from worker.serving import ANSWERED
from worker.settings import Settings

Use = Callable[[TestClient, Topics], Awaitable[None]]  # type: ignore[type-arg]
EVENT = random_search(1, 8)


def serve(use: Use, settings: Settings | None = None, ready: str | None = None) -> None:
    """A server on a free port while `use` asks it."""
    chosen = settings or Settings()

    async def main() -> None:
        health = http.Health(live=lambda: None, ready=lambda: ready)
        async with running(chosen) as (serving, topics):
            app = http.application(chosen, serving, health, serving.telemetry)
            async with TestClient(TestServer(app)) as client:
                await use(client, topics)

    asyncio.run(main())


def test_an_event_is_answered_as_the_core_answers_it_and_published_for_learning() -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        response = await client.post("/v1/rerank", data=codec.encode(EVENT))
        answer = msgspec.json.decode(await response.read(), type=RankedList)
        assert answer.list_id == rerank([joined(EVENT)], Overlap())[0].list_id
        while len(topics.records) < 2:
            await asyncio.sleep(0.001)
        assert [topic for topic, *_ in topics.records] == ["search-events", "ranked-lists"]
        assert topics.records[0][3][ANSWERED] == b"1"

    serve(use)


def test_a_bad_event_is_told_what_is_wrong() -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        response = await client.post("/v1/rerank", data=b'{"query_id":"q","user_query":"","k":0}')
        assert response.status == 400
        body = await response.json()
        assert body["error"]["path"] == "$.k"
        assert topics.records == []

    serve(use)


def test_the_dialect_of_cohere_and_jina() -> None:
    documents = ["wool hat", {"text": "running shoes"}, "shoes"]
    request = {"query": "running shoes", "documents": documents, "top_n": 2, "model": "any"}

    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        response = await client.post("/v1/rerank", data=json.dumps(request).encode())
        body = await response.json()
        assert [result["index"] for result in body["results"]] == [1, 2]
        assert topics.records == []

    serve(use)


@pytest.mark.parametrize(
    ("request_body", "path"),
    [
        (b'{"query":"x","documents":[1]}', "$.documents[0]"),
        (b'{"query":"x","documents":["a"],"top_n":0}', "$.k"),
        (b"documents", "$"),
    ],
)
def test_a_bad_request_of_the_dialect(request_body: bytes, path: str) -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        response = await client.post("/v1/rerank", data=request_body)
        assert response.status == 400
        assert (await response.json())["error"]["path"] == path

    serve(use)


def test_the_dialect_answers_numbers_and_knows_no_rules_or_limits_of_its_own() -> None:
    request = {"query": "", "documents": ["a", "b", "c"]}

    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        response = await client.post("/v1/rerank", data=json.dumps(request).encode())
        assert [r["relevance_score"] for r in (await response.json())["results"]] == [0, 0, 0]
        many = {**request, "documents": ["a"] * 6}
        assert (await client.post("/v1/rerank", data=json.dumps(many).encode())).status == 400
        event = msgspec.json.decode(codec.encode(EVENT)) | {"documents": None}
        answer = await client.post("/v1/rerank", data=json.dumps(event).encode())
        assert (await answer.json())["error"]["path"] == "$.candidates"  # an event: 8 of at most 5

    serve(use, Settings(max_candidates=5))


def test_a_deadline_of_0_is_answered_degraded() -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        late = msgspec.structs.replace(EVENT, deadline_ms=0.0)
        response = await client.post("/v1/rerank", data=codec.encode(late))
        assert (await response.json())["reason"] == "deadline"

    serve(use)


TOKEN = Settings(http_host="0.0.0.0", http_token="secret")
DOORS = [
    ("/livez", None, 200),
    ("/readyz", None, 200),
    ("/metrics", None, 401),
    ("/metrics", "wrong", 401),
    ("/metrics", "secret", 200),
]


@pytest.mark.parametrize(("path", "token", "status"), DOORS)
def test_a_token_guards_all_but_the_probes(path: str, token: str | None, status: int) -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = await client.get(path, headers=headers)
        assert response.status == status

    serve(use, TOKEN)


def test_not_ready_is_said_with_its_reason_and_nothing_is_ranked() -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        probe = await client.get("/readyz")
        assert (probe.status, await probe.text()) == (503, "no bundle\n")
        assert (await client.post("/v1/rerank", data=codec.encode(EVENT))).status == 503

    serve(use, ready="no bundle")


def test_metrics_are_in_prometheus_form_without_ids() -> None:
    async def use(client: TestClient, topics: Topics) -> None:  # type: ignore[type-arg]
        await client.post("/v1/rerank", data=codec.encode(EVENT))
        text = await (await client.get("/metrics")).text()
        assert 'prismrank_lists_total{road="http"} 1.0' in text
        assert 'prismrank_stage_seconds_count{stage="score"} 1.0' in text
        assert EVENT.query_id not in text

    serve(use)
