"""Packing: nothing is lost, repeated or over the budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.ranking.model import Encoded, PairTokens, TokenBudget
from worker.ranking.tokens import pack, pack_pairs, unpack

TOKENS = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=20)
BUDGETS = st.builds(TokenBudget, padded_tokens=st.integers(1, 60), rows=st.integers(1, 8))


def packed(tokens: list[list[int]], budget: TokenBudget) -> tuple[object, ...]:
    def tokenize(texts: Sequence[str]) -> list[Sequence[int]]:
        return [tokens[int(text)] for text in texts]

    return pack([str(i) for i in range(len(tokens))], tokenize, budget)


@given(TOKENS, BUDGETS)
def test_every_text_is_one_row_of_one_batch(tokens: list[list[int]], budget: TokenBudget) -> None:
    rows = [row for batch in packed(tokens, budget) for row in batch.rows]  # type: ignore[attr-defined]
    assert sorted(rows) == list(range(len(tokens)))


@given(TOKENS, BUDGETS)
def test_a_batch_keeps_to_the_budget_unless_one_text_alone_is_over_it(
    tokens: list[list[int]], budget: TokenBudget
) -> None:
    for batch in packed(tokens, budget):
        assert len(batch.rows) <= budget.rows  # type: ignore[attr-defined]
        over = batch.padded_tokens > budget.padded_tokens  # type: ignore[attr-defined]
        assert not over or len(batch.rows) == 1  # type: ignore[attr-defined]


@given(TOKENS, BUDGETS)
def test_rows_hold_their_tokens_and_padding(tokens: list[list[int]], budget: TokenBudget) -> None:
    for batch in packed(tokens, budget):
        for i, row in enumerate(batch.rows):  # type: ignore[attr-defined]
            length = len(tokens[row])
            assert batch.input_ids[i, :length].tolist() == tokens[row]  # type: ignore[attr-defined]
            assert (batch.input_ids[i, length:] == 0).all()  # type: ignore[attr-defined]
            assert batch.attention_mask[i].sum() == length  # type: ignore[attr-defined]


@given(TOKENS, BUDGETS)
def test_unpacking_restores_the_order(tokens: list[list[int]], budget: TokenBudget) -> None:
    batches = packed(tokens, budget)
    encoded = [
        (b, Encoded(np.array(b.rows, dtype=np.float32)[:, np.newaxis]))  # type: ignore[attr-defined]
        for b in batches
    ]
    found = unpack(encoded)  # type: ignore[arg-type]
    assert [one.vector.tolist() for one in found] == [[row] for row in range(len(tokens))]


@given(TOKENS, BUDGETS)
def test_pairs_are_packed_like_texts_and_keep_their_token_types(
    tokens: list[list[int]], budget: TokenBudget
) -> None:
    def tokenize(pairs: Sequence[tuple[str, str]]) -> list[PairTokens]:
        return [(tokens[int(item)], [one % 2 for one in tokens[int(item)]]) for _, item in pairs]

    batches = pack_pairs([("q", str(i)) for i in range(len(tokens))], tokenize, budget)
    for batch, plain in zip(batches, packed(tokens, budget), strict=True):
        assert batch.rows == plain.rows  # type: ignore[attr-defined]
        assert (batch.input_ids == plain.input_ids).all()  # type: ignore[attr-defined]
        assert (batch.attention_mask == plain.attention_mask).all()  # type: ignore[attr-defined]
        assert batch.token_type_ids is not None
        assert (batch.token_type_ids == batch.input_ids % 2).all()


@given(TOKENS)
def test_the_longest_go_together(tokens: list[list[int]]) -> None:
    widths = [b.input_ids.shape[1] for b in packed(tokens, TokenBudget(40, 4))]  # type: ignore[attr-defined]
    assert widths == sorted(widths, reverse=True)
