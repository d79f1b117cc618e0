"""A model folder's tokenizer.json as training and serving both read it: of texts, and of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from tokenizers import Encoding, Tokenizer

from export.bundle import BundleError


class PairTokens(NamedTuple):
    """A pair of texts as tokens."""

    ids: Sequence[int]
    types: Sequence[int]  # 0 for the query's tokens, 1 for those after


class Span(NamedTuple):
    """The characters that a token was made of."""

    text: int  # 0: the query's, 1: the item's
    start: int
    end: int


class PairTokenizer:
    """The tokenizer's own pair form, special tokens included.

    Past `max_tokens` the item is cut; a query that leaves no room for a token of the item is cut
    with it, the longer of the two first.
    """

    def __init__(self, folder: Path, max_tokens: int) -> None:
        self._item_cut = read_tokenizer(folder, max_tokens, "only_second")
        self._longer_cut = read_tokenizer(folder, max_tokens, "longest_first")

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[PairTokens]:
        """The tokens of each (query, item)."""
        try:
            found = self._item_cut.encode_batch_fast(list(pairs))
        except Exception:  # a bare one, for the whole batch: some query is too long by itself
            found = [self._one(pair) for pair in pairs]
        return [PairTokens(encoding.ids, encoding.type_ids) for encoding in found]

    def spans(self, pair: tuple[str, str]) -> tuple[PairTokens, list[Span | None]]:
        """The tokens of a pair, and where each comes from; None for the tokenizer's own marks."""
        found = self._one(pair)
        spans = [
            None if text is None else Span(text, start, end)
            for text, (start, end) in zip(found.sequence_ids, found.offsets, strict=True)
        ]
        return PairTokens(found.ids, found.type_ids), spans

    def _one(self, pair: tuple[str, str]) -> Encoding:
        try:
            return self._item_cut.encode(*pair)
        except Exception:
            return self._longer_cut.encode(*pair)


def read_tokenizer(
    folder: Path, max_tokens: int, strategy: Literal["longest_first", "only_second"]
) -> Tokenizer:
    """The folder's tokenizer, cutting at `max_tokens`, without padding; BundleError if there is
    none that can be read."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises a bare one
        raise BundleError(folder, f"tokenizer.json: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy=strategy)
    return tokenizer
