"""On human labels: the lists of `rerank` are those that the plain model would give, and better."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.conftest import ROOT
from training.judgments import GradedQuery, read_set, worth_measuring
from worker import codec
from worker.ranking.metrics import ndcg


def shuffled(queries: list[GradedQuery]) -> list[GradedQuery]:
    """The same queries, candidates by title alone and in random order."""
    chance = np.random.default_rng(0)
    found = []
    for query in queries:
        order = chance.permutation(len(query.event.candidates)).tolist()
        bare = tuple(
            msgspec.structs.replace(
                query.event.candidates[i],
                description=None,
                category=None,
                brand=None,
                attributes={},
                score=None,
            )
            for i in order
        )
        event = msgspec.structs.replace(query.event, candidates=bare)
        found.append(GradedQuery(event, tuple(query.grades[i] for i in order), query.split))
    return found


def rerank(queries: list[GradedQuery], bundle: Path, variant: str, *flags: str) -> list[list[str]]:
    """The command itself, on a pipe: item ids of each list."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "rerank", "--bundle", str(bundle), *flags],
        input=b"".join(codec.encode(query.event) + b"\n" for query in queries),
        env=os.environ | {"PRISMRANK_VARIANT": variant},
        cwd=ROOT,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    lists = [json.loads(line) for line in done.stdout.splitlines()]
    return [[item["item_id"] for item in ranked["items"]] for ranked in lists]


@cache
def cosines(minilm: Path, queries: tuple[tuple[str, ...], ...]) -> list[list[float]]:
    """sentence-transformers' own cosines of (query, title, title, …)."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm), device="cpu")
    texts = sorted({text for row in queries for text in row})
    vector = dict(zip(texts, model.encode(texts, normalize_embeddings=True), strict=True))
    return [[float(vector[row[0]] @ vector[title]) for title in row[1:]] for row in queries]


def mean_ndcg(queries: list[GradedQuery], lists: list[list[str]]) -> float:
    gains = [query.gains() for query in queries]
    return float(
        np.mean(
            [
                ndcg([gain[item] for item in ranked[:10]], list(query.grades))
                for query, gain, ranked in zip(queries, gains, lists, strict=True)
            ]
        )
    )


@pytest.mark.parametrize(("variant", "tolerance"), [("fp32", 0.002), ("int8", 0.01)])
@pytest.mark.parametrize("name", ["crowdflower", "chorus_icecat"])
def test_rerank_at_dial_0_is_the_plain_cosine(
    minilm: Path, minilm_bundle: Path, data: Path, name: str, variant: str, tolerance: float
) -> None:
    queries = shuffled(worth_measuring(read_set(name, data, "dev"), fewest=2))
    texts = tuple(
        (query.event.user_query, *(item.title or "" for item in query.event.candidates))
        for query in queries
    )
    plain = [
        [query.event.candidates[i].item_id for i in np.argsort(-np.array(row), kind="stable")]
        for query, row in zip(queries, cosines(minilm, texts), strict=True)
    ]
    ours = rerank(queries, minilm_bundle, variant, "--diversity", "0")
    assert mean_ndcg(queries, ours) == pytest.approx(mean_ndcg(queries, plain), abs=tolerance)


def test_two_runs_are_byte_equal_in_any_order_of_arrival(minilm_bundle: Path, data: Path) -> None:
    queries = read_set("crowdflower", data, "dev")
    lists = rerank(queries, minilm_bundle, "fp32")
    backwards = rerank(queries[::-1], minilm_bundle, "fp32")
    assert lists == backwards[::-1]
