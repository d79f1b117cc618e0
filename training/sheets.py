"""Labelled lists as numbers: tokens by the road that serving takes, made once, beforehand."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer
from tqdm import tqdm

from export.bundle import Template
from training.dataset import LabelledList
from worker.ranking.model import Floats, Integers, PairTokens, Vector
from worker.ranking.text import item_text, pair_texts, query_text


class PairTokenizer:
    """The tokenizer's own pair form; past `max_tokens` the item is cut, and a query that leaves no
    room for the item is cut with it, the longer of the two first: as a bundle's session does it."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        self._item_cut = _cutting(folder, max_tokens, "only_second")
        self.longer_cut = _cutting(folder, max_tokens, "longest_first")

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[PairTokens]:
        """The tokens of each (query, item), special tokens included, and their token types."""
        try:
            found = self._item_cut.encode_batch_fast(list(pairs))
        except Exception:  # a bare one, for the whole batch: some query is too long by itself
            found = [self._one(pair) for pair in pairs]
        return [(each.ids, each.type_ids) for each in found]

    def _one(self, pair: tuple[str, str]) -> Encoding:
        try:
            return self._item_cut.encode(*pair)
        except Exception:
            return self.longer_cut.encode(*pair)


@dataclass(frozen=True, slots=True)
class Words:
    """How lists become numbers."""

    template: Template  # of the encoder: what `vectors` are known by
    pair_template: Template
    tokenizer: PairTokenizer
    vectors: Mapping[str, Vector]  # rendered text -> the encoder's vector
    categories: tuple[str, ...]  # those that are learned


@dataclass(frozen=True, slots=True)
class Sheet:
    """A labelled list of n candidates, tokenised."""

    labelled: LabelledList
    pairs: tuple[PairTokens, ...]  # [n]
    widths: Integers  # [n]: the tokens of each pair
    grades: Floats  # [n]
    weights: Floats  # [n]
    cosine: Floats  # [n]: of the query's vector and the item's; 0 without the query's
    known: Integers  # [n]: the category's index, -1 where the item names none that is learned
    vectors: Floats  # [n, d]; [n, 0] where no categories are learned


def tokenised(lists: Sequence[LabelledList], words: Words) -> list[Sheet]:
    """The lists from which something can be learned, tokenised once, with a progress bar.

    Left out are those without a query, for which the pair model is never asked, and those of which
    no grade counts. Raises KeyError for an item whose vector is not there.
    """
    learnt = [one for one in lists if one.search.event.user_query.strip() and one.weights.any()]
    shown = tqdm(learnt, desc="tokens", unit="list", disable=not sys.stderr.isatty())
    return [_sheet(one, words) for one in shown]


def digest(sheets: Sequence[Sheet]) -> str:
    """The sha256 of everything in them that a model learns from."""
    found = hashlib.sha256()
    for sheet in sheets:
        for ids, types in sheet.pairs:
            found.update(np.array([len(ids), *ids, *types]).tobytes())
        for array in (sheet.grades, sheet.weights, sheet.cosine, sheet.known, sheet.vectors):
            found.update(array.tobytes())
    return found.hexdigest()


def _cutting(folder: Path, max_tokens: int, strategy: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy=strategy)
    return tokenizer


def _sheet(one: LabelledList, words: Words) -> Sheet:
    search = one.search
    count = len(search.entries)
    pairs = tuple(words.tokenizer(pair_texts(search, range(count), words.pair_template)))
    vectors = np.empty((count, 0), dtype=np.float32)
    if words.vectors:
        texts = [item_text(entry.item, words.template) for entry in search.entries]
        vectors = np.stack([words.vectors[text] for text in texts]).astype(np.float32)
    asked = words.vectors.get(query_text(search, words.template) or "")
    index = {name: place for place, name in enumerate(words.categories)}
    return Sheet(
        labelled=one,
        pairs=pairs,
        widths=np.array([len(ids) for ids, _ in pairs], dtype=np.int64),
        grades=one.grades.astype(np.float32),
        weights=one.weights.astype(np.float32),
        cosine=np.zeros(count, np.float32) if asked is None else vectors @ asked,
        known=np.array([index.get(entry.item.category or "", -1) for entry in search.entries]),
        vectors=vectors if words.categories else vectors[:, :0],
    )
