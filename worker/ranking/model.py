"""The port: what the core asks of a model, and the arrays that pass between them.

The ONNX bundle, the weak honest ranker (`scoring.overlap`) and training's own models all fit
`Model` and run one contract suite.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from export.bundle import Blend, Calibration, Template
from export.domain import Domain

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Vector: TypeAlias = Floats  # [d], unit length
PairTokens: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""Token ids of a (query, item), special tokens included, and the token types of its pair form."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Texts, or pairs, as padded tokens. `rows[i]` says which of the packed ones row i is."""

    rows: tuple[int, ...]
    input_ids: Integers  # [n, s]
    attention_mask: Integers  # [n, s], 1 for a token and 0 for padding
    token_type_ids: Integers | None = None  # [n, s], of pairs: 0 for the query's tokens, 1 after

    @property
    def padded_tokens(self) -> int:
        """What the batch costs: rows x longest."""
        return self.input_ids.size


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder gave for a TokenBatch, row by row."""

    vectors: Floats  # [n, d], unit length
    categories: Floats | None = None  # [n, C] logits; None where there is no category head


@dataclass(frozen=True, slots=True)
class Reading:
    """What an encoder gave for one text, as it is remembered."""

    vector: Vector  # [d], unit length
    categories: Floats | None = None  # [C] logits; None where there is no category head


class Scores(NamedTuple):
    """What is known of one search's candidates, aligned with them."""

    raw: Doubles  # [n] decides the order: the logit of relevance where there is one
    relevance: Doubles | None  # [n] P(relevant), monotone in raw; None where no model gave it
    vectors: Floats  # [n, d] unit length
    categories: Doubles  # [n, C] P(category | item); a row of zeros where nothing is known
    brands: Doubles  # [n, B] 1 for the item's brand; a row of zeros where it names none
    pair_count: int = 0  # how many of the n the pair model read
    pair_share: float = 0.0  # how far its word counts
    taste: Doubles | None = None  # [C] P(category | user); None where nothing is known of the user


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How large a TokenBatch may be."""

    padded_tokens: int = 4096
    rows: int = 64


@dataclass(frozen=True, slots=True)
class PairModel:
    """The exact second stage: reads query and item together."""

    template: Template
    blend: Blend
    tokenize: Callable[[Sequence[tuple[str, str]]], Sequence[PairTokens]]  # (query, item) texts
    score: Callable[[TokenBatch], Floats]  # the effect: [n] logits; equal rows give equal ones
    logits: MutableMapping[tuple[str, str], float]  # by (query, item) text: a bounded cache
    domain: Domain | None = None

    def share(self, vectors: Floats) -> float:
        """How far its word counts in a list of items [n, d], from 0 to 1."""
        if self.domain is None or self.blend.beyond is None:
            return 1.0
        return self.domain.share(vectors)


class Model(Protocol):
    """Turns tokens into vectors, and says what its numbers mean."""

    digest: str | None  # the bundle's name; None for a model that is no bundle
    template: Template
    calibration: Calibration
    categories: tuple[str, ...]
    category_head: bool  # whether it tells the `categories` of an item itself, as logits
    spelling: bool  # whether a misspelt query is read as its candidates spell it
    budget: TokenBudget
    readings: MutableMapping[str, Reading]  # by rendered text: a bounded cache
    pairs: PairModel | None  # None where there is only the first stage

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """The token ids of each text, special tokens included, cut at the model's maximum."""

    def score(self, batch: TokenBatch) -> Encoded:
        """The effect: run the graph. Equal rows give equal vectors in any batch."""
