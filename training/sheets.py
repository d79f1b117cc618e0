"""Labelled lists as numbers: tokens by the road that serving takes, made once, beforehand."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from export.bundle import Template
from export.tokenizer import PairTokenizer, PairTokens
from training.dataset import LabelledList
from training.equity import Fairness
from training.groups import numbered
from worker.ranking.model import Floats, Integers, Vector
from worker.ranking.text import item_text, pair_texts, query_text


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
    taught: Floats | None = None  # [n]: a teacher's logits; None where nobody teaches
    groups: Integers | None = None  # [n, ways]: numbers, -1 for none; None where none are compared


def tokenised(lists: Sequence[LabelledList], words: Words) -> list[Sheet]:
    """The lists from which something can be learned, tokenised once, with a progress bar.

    Left out are those without a query, for which the pair model is never asked, and those of which
    no grade counts. Raises KeyError for an item whose vector is not there.
    """
    learnt = [one for one in lists if one.teaches]
    shown = tqdm(learnt, desc="tokens", unit="list", disable=not sys.stderr.isatty())
    return [_sheet(one, words) for one in shown]


def grouped(sheets: Sequence[Sheet], fairness: Fairness) -> list[Sheet]:
    """The sheets with the groups of their items, where a loss compares them; else as they are."""
    if not fairness.descends:
        return list(sheets)
    items = [[entry.item for entry in sheet.labelled.search.entries] for sheet in sheets]
    numbers = numbered(items, fairness)
    return [replace(sheet, groups=each) for sheet, each in zip(sheets, numbers, strict=True)]


def digest(sheets: Sequence[Sheet]) -> str:
    """The sha256 of everything in them that a model learns from."""
    found = hashlib.sha256()
    for sheet in sheets:
        for ids, types in sheet.pairs:
            found.update(np.array([len(ids), *ids, *types]).tobytes())
        for array in (sheet.grades, sheet.weights, sheet.cosine, sheet.known, sheet.vectors):
            found.update(array.tobytes())
        if sheet.groups is not None:
            found.update(sheet.groups.tobytes())
    return found.hexdigest()


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
