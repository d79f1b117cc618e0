"""Our MMR against pyversity's, on the same vectors and scores, normalisation and sorting included.

`mmr` is one trade-off on both sides. `mmr_dial` is what serving does: the whole family of
trade-offs and the choice among them, against one point of the peer's. Run from the repository's
root: `OPENBLAS_NUM_THREADS=1 python -m tests.benchmarks.diversify [--json]`. Our coverage has no
row: pyversity's COVER covers vectors, not categories, which is another objective at another cost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyversity

from tests.benchmarks.measuring import medians_us, show
from worker.ranking.diversify import diversify
from worker.ranking.diversify.greedy import greedy
from worker.ranking.diversify.mmr import MMR
from worker.ranking.model import Doubles, Floats, Integers, Scores

COUNTS = (50, 100, 200, 1_000)
DEPTHS = (10, 20, 50)
DIMENSIONS = 384
DIVERSITY = 0.5  # pyversity's lambda is 1 - this; our trade-off is this / (1 - this)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every size and show the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.diversify")
    parser.add_argument("--rounds", type=int, default=101, help="calls of each side a row")
    parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    options = parser.parse_args(arguments)
    rows = [
        row for n in COUNTS for k in DEPTHS for row in _rows(*pool(n), k=k, rounds=options.rounds)
    ]
    show(rows, as_json=options.json)
    return 0


def pool(n: int) -> tuple[Floats, Doubles]:
    """n vectors [n, 384], not yet normalised, in some forty clusters, and their relevance [n].

    As with texts, no two point apart: pyversity takes a negative cosine for 0, and ours does not.
    """
    chance = np.random.default_rng(n)
    centres = 1.0 + chance.normal(size=(40, DIMENSIONS))
    vectors = centres[chance.integers(40, size=n)] + chance.normal(size=(n, DIMENSIONS))
    return vectors.astype(np.float32), chance.random(n)


def one_point(vectors: Floats, relevance: Doubles, k: int) -> Integers:
    """The MMR list of a single trade-off."""
    best_first, scores = _sorted_scores(vectors, relevance)
    trade_off = np.array([DIVERSITY / (1.0 - DIVERSITY)])
    order: Integers = greedy(scores.raw, MMR(scores, 1), trade_off, k, {}).order[0]
    return np.asarray(best_first[order])


def dialled(vectors: Floats, relevance: Doubles, k: int) -> Integers:
    """The MMR list that the dial asks for, as serving makes it."""
    best_first, scores = _sorted_scores(vectors, relevance)
    return np.asarray(best_first[diversify(scores, scores.raw, "mmr", DIVERSITY, k).order])


def of_peer(vectors: Floats, relevance: Doubles, k: int) -> Integers:
    """pyversity's MMR list."""
    result = pyversity.mmr(vectors, relevance, k, diversity=DIVERSITY, normalize=True)
    return np.asarray(result.indices, dtype=np.int64)


def _rows(vectors: Floats, relevance: Doubles, k: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, ours in (("mmr", one_point), ("mmr_dial", dialled)):
        ours_us, peer_us = medians_us(
            partial(ours, vectors, relevance, k), partial(of_peer, vectors, relevance, k), rounds
        )
        row = {"method": name, "n": len(relevance), "k": k}
        times = {"ours_us": round(ours_us, 1), "peer_us": round(peer_us, 1)}
        rows.append({**row, **times, "ratio": round(peer_us / ours_us, 3)})
    return rows


def _sorted_scores(vectors: Floats, relevance: Doubles) -> tuple[Integers, Scores]:
    """Unit vectors in the order of relevance, as `diversify` takes them."""
    best_first = np.argsort(-relevance, kind="stable")
    rows = vectors[best_first]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    raw = relevance[best_first]
    unnamed = np.zeros((len(raw), 0))
    return best_first, Scores(raw, raw, unit, categories=unnamed, brands=unnamed)


if __name__ == "__main__":
    sys.exit(main())
