"""Values for tests: say what matters, and the rest is plausible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.events import Candidate, Item, ListRule, Match, SearchEvent
from worker.ranking.join import Dials, JoinedSearch, Tables, join
from worker.ranking.model import Scores

WORDS = (
    *("red", "blue", "trail", "running", "shoe", "boot", "sock", "lace"),
    *("hat", "cap", "scarf", "coat", "rain", "wool", "light"),
)


def candidate(item_id: str = "a", **fields: Any) -> Candidate:
    """A candidate with a title."""
    return Candidate(**{"item_id": item_id, "title": f"title of {item_id}", **fields})


def event(candidates: Sequence[Candidate] = (), **fields: Any) -> SearchEvent:
    """A search event."""
    return SearchEvent(
        **{
            "query_id": "q-1",
            "user_query": "running shoes",
            "candidates": tuple(candidates),
            **fields,
        }
    )


def catalogue(*items: Item) -> dict[str, Item]:
    """A catalogue of these items."""
    return {item.item_id: item for item in items}


def joined(search: SearchEvent, tables: Tables | None = None, **dials: Any) -> JoinedSearch:
    """A search, joined."""
    return join(search, tables or Tables(), Dials(**dials))


def rule(
    rule_id: str, action: str, *item_ids: str, query: str | None = None, **fields: Any
) -> ListRule:
    """A list rule; `query` matches exactly unless `match` says otherwise."""
    match = fields.pop("match", Match(query=query))
    return ListRule(rule_id=rule_id, action=action, item_ids=item_ids, match=match, **fields)  # type: ignore[arg-type]


def random_search(seed: int, count: int, **fields: Any) -> SearchEvent:
    """`count` candidates with titles of a few words, some brands and categories."""
    chance = np.random.default_rng(seed)

    def one(index: int) -> Candidate:
        words = chance.choice(WORDS, size=chance.integers(1, 6))
        return candidate(
            f"i{index}",
            title=" ".join(words),
            score=float(chance.integers(0, 20)),
            category=[None, "shoes", "coats", "hats"][chance.integers(4)],
            brand=[None, "Acme", "Birch"][chance.integers(3)],
        )

    return event([one(index) for index in range(count)], **fields)


def random_scores(seed: int, count: int, dimensions: int = 8) -> Scores:
    """Scores of `count` candidates, best first, with two brands and three categories."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    raw = np.sort(chance.normal(size=count))[::-1].copy()
    categories = np.eye(3)[chance.integers(3, size=count)]
    brands = np.eye(2)[chance.integers(2, size=count)]
    return Scores(raw, 1 / (1 + np.exp(-raw)), vectors, categories, brands)
