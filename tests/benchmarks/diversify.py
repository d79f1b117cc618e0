"""Our methods against pyversity's on the same vectors and scores, normalising and sorting included.

A row is one method, one pool of n and one depth k, at one trade-off on both sides, so that the
lists are the same ones; `tests/ranking/test_methods.py` holds them equal. `floor_us` is the least
that any eager form must do: normalise, and compute the cosines of the k chosen items with all
others in one product (for `cover` of all with all). `dial` is what serving does: the whole family
of trade-offs and the choice among them, against one point of the peer's.

Run from the repository's root: `OPENBLAS_NUM_THREADS=1 python -m tests.benchmarks.diversify`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyversity

from tests.benchmarks.measuring import medians_us, show
from worker.ranking.diversify import METHODS, diversify
from worker.ranking.diversify.compiled import compiled
from worker.ranking.diversify.cosines import dot
from worker.ranking.diversify.cover import Cover
from worker.ranking.diversify.greedy import greedy
from worker.ranking.model import Doubles, Floats, Integers, Scores

COUNTS: Final = (50, 100, 200, 1_000)
DEPTHS: Final = (10, 20, 50)
DIMENSIONS: Final = 384
DIVERSITY: Final = 0.5  # pyversity's lambda is 1 - this; our trade-off is this / (1 - this)
UNNAMED: Final = np.zeros((max(COUNTS), 0))  # neither categories nor brands
TRADE_OFF: Final = np.array([DIVERSITY / (1.0 - DIVERSITY)])
PEERS: Final = {
    "mmr": pyversity.mmr,
    "msd": pyversity.msd,
    "dpp": pyversity.dpp,
    "cover": pyversity.cover,
    "ssd": pyversity.ssd,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every method and size, and show the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.diversify")
    parser.add_argument("--rounds", type=int, default=51, help="calls of each side a row")
    parser.add_argument("--methods", nargs="+", choices=(*PEERS, "dial"), default=[*PEERS, "dial"])
    parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    options = parser.parse_args(arguments)
    rows = [
        _row(method, *pool(n), k=k, rounds=options.rounds)
        for method in options.methods
        for n in COUNTS
        for k in DEPTHS
    ]
    show(rows, as_json=options.json)
    return 0


def pool(n: int) -> tuple[Floats, Doubles]:
    """n vectors [n, 384], not yet normalised, in some forty clusters, and their relevance [n]."""
    chance = np.random.default_rng(n)
    centres = 1.0 + chance.normal(size=(40, DIMENSIONS))
    vectors = centres[chance.integers(40, size=n)] + chance.normal(size=(n, DIMENSIONS))
    return vectors.astype(np.float32), chance.random(n)


def one_point(method: str, vectors: Floats, relevance: Doubles, k: int) -> Integers:
    """The list of a single trade-off: pyversity's at `diversity=DIVERSITY`."""
    best_first, scores = _sorted_scores(vectors, relevance)
    shown = METHODS[method].of(scores, k, 1)
    utility, trade_offs = scores.raw, TRADE_OFF
    if method in ("ssd", "dpp"):
        utility = np.empty_like(utility)
        standardise(scores.raw, utility)
    if method == "dpp":
        utility, trade_offs = np.exp(2.0 * (1.0 - DIVERSITY) * utility), np.ones(1)
    if isinstance(shown, Cover):
        trade_offs = trade_offs * shown.largest
    chosen: Integers = best_first[greedy(utility, shown, trade_offs, k, {}).order[0]]
    return chosen


def dialled(vectors: Floats, relevance: Doubles, k: int) -> Integers:
    """The list that the dial asks for, of the default method, as serving makes it."""
    best_first, scores = _sorted_scores(vectors, relevance)
    return np.asarray(best_first[diversify(scores, scores.raw, "facets", DIVERSITY, k).order])


def of_peer(method: str, vectors: Floats, relevance: Doubles, k: int) -> Integers:
    """pyversity's list."""
    result = PEERS[method](vectors, relevance, k, diversity=DIVERSITY)
    return np.asarray(result.indices, dtype=np.int64)


def floor(method: str, vectors: Floats, k: int) -> Floats:
    """Normalise, and compute the columns of the kernel that an eager greedy reads."""
    unit = np.empty_like(vectors)
    normalise(vectors, np.arange(len(vectors)), unit)
    chosen = unit if method == "cover" else unit[:k]
    return np.asarray(unit @ chosen.T)


def _row(method: str, vectors: Floats, relevance: Doubles, k: int, rounds: int) -> dict[str, Any]:
    peer = "mmr" if method == "dial" else method
    ours: Callable[..., Integers] = dialled if method == "dial" else partial(one_point, method)
    ours_us, peer_us = medians_us(
        partial(ours, vectors, relevance, k), partial(of_peer, peer, vectors, relevance, k), rounds
    )
    floor_us, _ = medians_us(partial(floor, method, vectors, k), lambda: None, rounds)
    return {
        "method": method,
        "n": len(relevance),
        "k": k,
        "ours_us": round(ours_us, 1),
        "peer_us": round(peer_us, 1),
        "floor_us": round(floor_us, 1),
        "ratio": round(peer_us / ours_us, 2),
    }


def _sorted_scores(vectors: Floats, relevance: Doubles) -> tuple[Integers, Scores]:
    """Unit vectors in the order of relevance, as `diversify` takes them."""
    best_first = (-relevance).argsort(kind="stable")
    unit = np.empty_like(vectors)
    normalise(vectors, best_first, unit)
    raw = relevance[best_first]
    return best_first, Scores(raw, raw, unit, UNNAMED[: len(raw)], UNNAMED[: len(raw)])


@compiled
def normalise(vectors: Floats, order: Integers, unit: Floats) -> None:
    """Fill `unit` [n, d] with the rows of `vectors` in that order, each of length 1."""
    for place in range(order.size):
        row = order[place]
        shorter = np.float32(1.0 / np.sqrt(dot(vectors, row, row)))
        for column in range(vectors.shape[1]):
            unit[place, column] = vectors[row, column] * shorter


@compiled
def standardise(relevance: Doubles, standard: Doubles) -> None:
    """Fill `standard` [n] with the z-scores that pyversity's DPP and SSD begin with."""
    total = squares = 0.0
    for one in relevance:
        total += one
        squares += one * one
    mean = total / relevance.size
    spread = np.sqrt(squares / relevance.size - mean * mean)
    for item in range(relevance.size):
        standard[item] = (relevance[item] - mean) / spread


if __name__ == "__main__":
    sys.exit(main())
