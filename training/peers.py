"""pyversity's methods on our own scores: what our diversifiers are held against.

Only `evaluate --peers` and the benchmarks need pyversity; training and serving do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from training.evaluate import DEPTH, Judged, Run, measured
from training.judgments import GradedQuery
from worker.errors import PrismrankError
from worker.ranking.join import Dials, join
from worker.ranking.judge import conclude, first_stage
from worker.ranking.model import Model, Scores
from worker.ranking.rerank import needed, read
from worker.ranking.spelling import spelled

PEERS: Final = ("mmr", "msd", "dpp", "cover", "ssd")


class NoPeers(PrismrankError):
    """pyversity is not installed. Nothing was judged."""


def named(method: str) -> str:
    """How a row says whose method it is."""
    return f"pyversity {method}"


def by_peers(judged: Sequence[Judged], model: Model, dials: Sequence[float]) -> Iterator[Run]:
    """Each method at each dial, on the vectors and the P(relevant) that our own methods are given.

    Raises NoPeers where pyversity is not installed.
    """
    methods = _methods()
    scores = [scores_of(one.query, model) for one in judged]
    for name, method in methods.items():
        for dial in dials:
            yield measured(
                judged, named(name), dial, [_order(*one, method, dial) for one in scores]
            )


def scores_of(query: GradedQuery, model: Model) -> tuple[list[str], Scores]:
    """The ids of a query's candidates, and what the worker's own road makes of them."""
    search = spelled(join(query.event, query.tables, Dials(diversity=0.0)), model)
    readings = read(needed([search], model), model)
    scores = conclude(search, first_stage(search, readings, model), readings, model)
    return [entry.item.item_id for entry in search.entries], scores


def _methods() -> dict[str, Callable[..., Any]]:
    try:
        import pyversity
    except ImportError as error:
        raise NoPeers("--peers: expected pyversity to be installed; nothing was judged") from error
    return {name: getattr(pyversity, name) for name in PEERS}


def _order(
    ids: Sequence[str], scores: Scores, method: Callable[..., Any], dial: float
) -> list[str]:
    found = method(scores.vectors, scores.relevance, DEPTH, diversity=dial)
    return [ids[index] for index in found.indices]
