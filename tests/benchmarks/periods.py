"""Which queries are asked when: five periods, each leaning towards a topic of its own. Pure.

Topics are found by k-means over the queries' vectors, without a look at a label. A period has most
of the queries of its topic and some of every other, as a shop's seasons do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from sklearn.cluster import KMeans  # type: ignore[import-untyped]  # ships no types

from training.dataset import share_of
from training.judgments import GradedQuery
from worker.ranking.model import Vector

PERIODS: Final = 5
DAYS: Final = 7.0  # of a period
LEANING: Final = 0.8  # share of a topic's queries that are asked in its own period for certain
FIRST_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def assigned(vectors: Mapping[str, Vector]) -> dict[str, int]:
    """Query -> its period, from 0, by the vectors [d] of all queries. Raises ValueError where there
    are fewer of them than periods."""
    found = KMeans(n_clusters=PERIODS, n_init=4, random_state=0).fit_predict([*vectors.values()])
    return {
        query: period_of(query, topic) for query, topic in zip(vectors, found.tolist(), strict=True)
    }


def period_of(query: str, topic: int) -> int:
    """The period of the query's topic by a chance of LEANING, else any; its hash is the coin."""
    if share_of(query, "leaning ") < LEANING:
        return topic
    return int(share_of(query, "period ") * PERIODS)


def asked_in(
    period: int, queries: Iterable[GradedQuery], periods: Mapping[str, int]
) -> list[GradedQuery]:
    """The queries of a period, asked on its first day."""
    at = FIRST_DAY + timedelta(days=DAYS * period)
    return [
        replace(query, event=msgspec.structs.replace(query.event, timestamp=at))
        for query in queries
        if periods[query.event.user_query] == period
    ]
