"""Hop 3: texts as token batches that fit a budget, longest together, and back to their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from worker.ranking.model import Encoded, Floats, TokenBatch, TokenBudget


def pack(
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], list[Sequence[int]]],
    budget: TokenBudget,
) -> tuple[TokenBatch, ...]:
    """Batches of at most `budget.rows` rows and `budget.padded_tokens` tokens, padding counted.

    Every text is a row of exactly one batch. A text longer than the budget is a batch of its own.
    """
    if not texts:
        return ()
    tokens = tokenize(texts)
    longest_first = sorted(range(len(texts)), key=lambda row: (-len(tokens[row]), row))
    batches: list[TokenBatch] = []
    start = 0
    while start < len(longest_first):
        width = max(len(tokens[longest_first[start]]), 1)
        size = max(1, min(budget.rows, budget.padded_tokens // width))
        batches.append(_padded(longest_first[start : start + size], tokens, width))
        start += size
    return tuple(batches)


def unpack(batches: Iterable[tuple[TokenBatch, Encoded]], count: int) -> Floats:
    """The vectors of `count` texts in the order in which they were packed: [count, d]."""
    vectors: Floats | None = None
    for batch, encoded in batches:
        if vectors is None:
            vectors = np.empty((count, encoded.vectors.shape[1]), dtype=np.float32)
        vectors[list(batch.rows)] = encoded.vectors
    return np.empty((0, 0), dtype=np.float32) if vectors is None else vectors


def _padded(rows: Sequence[int], tokens: Sequence[Sequence[int]], width: int) -> TokenBatch:
    """Rows filled up with zeros; what counts is the mask, whatever id a model pads with."""
    input_ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        input_ids[i, : len(tokens[row])] = tokens[row]
        mask[i, : len(tokens[row])] = 1
    return TokenBatch(tuple(rows), input_ids, mask)
