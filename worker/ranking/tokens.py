"""Hop 3: texts and pairs as token batches that fit a budget, longest together, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from worker.ranking.model import Encoded, Integers, PairTokens, Reading, TokenBatch, TokenBudget


def pack(
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], list[Sequence[int]]],
    budget: TokenBudget,
) -> tuple[TokenBatch, ...]:
    """Batches of at most `budget.rows` rows and `budget.padded_tokens` tokens, padding counted.

    Every text is a row of exactly one batch. A text longer than the budget is a batch of its own.
    """
    return _packed(tokenize(texts), None, budget) if texts else ()


def pack_pairs(
    pairs: Sequence[tuple[str, str]],
    tokenize: Callable[[Sequence[tuple[str, str]]], Sequence[PairTokens]],
    budget: TokenBudget,
) -> tuple[TokenBatch, ...]:
    """As `pack`, for (query, item) texts; the batches have token types, 0 where padded."""
    if not pairs:
        return ()
    tokens, types = zip(*tokenize(pairs), strict=True)
    return _packed(tokens, types, budget)


def unpack(batches: Iterable[tuple[TokenBatch, Encoded]]) -> list[Reading]:
    """What was given for each text, in the order in which they were packed."""
    found: dict[int, Reading] = {}
    for batch, encoded in batches:
        for i, row in enumerate(batch.rows):
            logits = None if encoded.categories is None else encoded.categories[i]
            found[row] = Reading(encoded.vectors[i], logits)
    return [found[row] for row in range(len(found))]


def _packed(
    tokens: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None, budget: TokenBudget
) -> tuple[TokenBatch, ...]:
    longest_first = sorted(range(len(tokens)), key=lambda row: (-len(tokens[row]), row))
    batches: list[TokenBatch] = []
    start = 0
    while start < len(longest_first):
        width = max(len(tokens[longest_first[start]]), 1)
        size = max(1, min(budget.rows, budget.padded_tokens // width))
        batches.append(_padded(longest_first[start : start + size], tokens, types, width))
        start += size
    return tuple(batches)


def _padded(
    rows: Sequence[int],
    tokens: Sequence[Sequence[int]],
    types: Sequence[Sequence[int]] | None,
    width: int,
) -> TokenBatch:
    """Rows filled up with zeros; what counts is the mask, whatever id a model pads with."""
    input_ids = _table(rows, tokens, width)
    mask = (np.arange(width) < np.array([[len(tokens[row])] for row in rows])).astype(np.int64)
    return TokenBatch(
        tuple(rows), input_ids, mask, None if types is None else _table(rows, types, width)
    )


def _table(rows: Sequence[int], values: Sequence[Sequence[int]], width: int) -> Integers:
    table = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(values[row])] = values[row]
    return table
