"""Values for tests: say what matters, and the rest is plausible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.bundle import Blend, Template
from export.domain import Domain
from worker.events import Candidate, Item, ListRule, Match, RankedItem, SearchEvent, Why
from worker.ranking.join import Dials, JoinedSearch, Tables, join
from worker.ranking.model import Floats, PairModel, PairTokens, Scores, TokenBatch
from worker.scoring.overlap import Overlap

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


class PairOverlap(Overlap):
    """A two-stage model that needs no bundle: the pair's logit is the item's share of words that
    the query does not name, below 0, so that it tells more than the cosine does."""

    def __init__(
        self, cached_vectors: int = 10_000, domain: Domain | None = None, **blend: Any
    ) -> None:
        super().__init__(cached_vectors)
        self.calls = 0
        weights = {"pair": 1.0, "cosine": 0.0, "intercept": 0.0, "origin": "a test", **blend}
        template = Template(item_before="item ")
        blended = Blend(**weights)
        self.pairs = PairModel(
            template, blended, self._tokenize_pairs, self._score_pairs, {}, domain
        )

    def _tokenize_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[PairTokens]:
        both = [self.tokenize(pair) for pair in pairs]
        return [([*query, *item], [0] * len(query) + [1] * len(item)) for query, item in both]

    def _score_pairs(self, batch: TokenBatch) -> Floats:
        self.calls += 1
        assert batch.token_type_ids is not None
        logits = np.empty(len(batch.rows), dtype=np.float32)
        for row, (ids, mask) in enumerate(zip(batch.input_ids, batch.attention_mask, strict=True)):
            of_item = batch.token_type_ids[row] == 1
            query, item = set(ids[(mask == 1) & ~of_item]), set(ids[of_item])
            logits[row] = -len(item - query) / len(item)
        return logits


def ranked_item(item_id: str, rank: int, **fields: Any) -> RankedItem:
    """One place of a list, as it was before any exploration."""
    plausible: dict[str, Any] = {
        "relevance": 0.5,
        "gain": 0.5,
        "category": None,
        "engine_rank": rank,
        "engine_score": None,
        "sponsored": None,
        "ad_id": None,
        "base_rank": rank,
        "shown_probability": 1.0,
        "why": Why(relevance=0.5, diversity=0.0),
    }
    return RankedItem(item_id=item_id, rank=rank, **{**plausible, **fields})
