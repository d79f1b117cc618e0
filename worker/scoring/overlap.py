"""The weak honest ranker: token overlap. Baseline, fallback, and the tests' stand-in for a bundle.

A text becomes the unit vector of its hashed words, so the cosine of two texts is the overlap of
their words (Salton's cosine of binary term vectors), and everything that works on a bundle's
vectors works on these.
"""

from __future__ import annotations

import zlib
from collections.abc import MutableMapping, Sequence

import numpy as np

from export.bundle import Calibration, Template
from worker.ranking.cache import Bounded
from worker.ranking.model import Encoded, PairModel, Reading, TokenBatch, TokenBudget
from worker.ranking.rules import words

DIMENSIONS = 512
EMPTY_TEXT = 1  # a text without words still has a direction, of its own


class Overlap:
    """A `Model` without a model. Its raw score is the cosine itself: calibrated as it is."""

    digest: str | None = None
    template = Template()
    calibration = Calibration(slope=1.0, intercept=0.0, origin="none: the overlap itself")
    categories: tuple[str, ...] = ()
    category_head = False
    spelling = False
    pairs: PairModel | None = None
    budget = TokenBudget(padded_tokens=1 << 16, rows=1_024)

    def __init__(self, cached_vectors: int = 10_000) -> None:
        self.readings: MutableMapping[str, Reading] = Bounded(cached_vectors)

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """A number in [2, DIMENSIONS) for each distinct word."""
        return [sorted(set(map(_number, words(text)))) or [EMPTY_TEXT] for text in texts]

    def score(self, batch: TokenBatch) -> Encoded:
        """Count the words, at unit length."""
        vectors = np.zeros((len(batch.rows), DIMENSIONS), dtype=np.float32)
        rows, columns = np.nonzero(batch.attention_mask)
        vectors[rows, batch.input_ids[rows, columns]] = 1.0
        lengths = np.sqrt(vectors.sum(axis=1, keepdims=True))
        return Encoded(vectors=vectors / lengths)


def _number(word: str) -> int:
    return 2 + zlib.crc32(word.encode()) % (DIMENSIONS - 2)
