"""Which list goes into which step, a function of (seed, epoch) alone, and a step as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from training.augment import read_anew
from training.recipe import Recipe
from training.sheets import Sheet, Words

BLOCK: Final = 32  # steps' worth of lists that are sorted by length together

Rows: TypeAlias = NDArray[np.intp]
Slice: TypeAlias = tuple[int, Rows]  # a sheet, and the rows of it that are read


class Batch(NamedTuple):
    """One step's lists: p pairs of s tokens, laid out as b lists of n places."""

    input_ids: Tensor  # [p, s]
    attention_mask: Tensor  # [p, s]
    token_type_ids: Tensor | None  # [p, s]; None where the model knows none
    rows: Tensor  # [b, n]: which pair stands here, -1 where padded
    grades: Tensor  # [b, n] in [0, 1]
    weights: Tensor  # [b, n], 0 where padded
    cosine: Tensor  # [b, n]
    known: Tensor  # [b, n]: the category's index, -1 where it is not known
    vectors: Tensor  # [b, n, d]: the encoder's, of the items
    taught: Tensor | None = None  # [b, n]: a teacher's logits; None where nobody teaches
    groups: Tensor | None = None  # [b, n, ways]: numbers, -1 for none; None: none are compared


def plan(
    sheets: Sequence[Sheet], recipe: Recipe, epoch: int, shuffled: bool = True
) -> list[list[Slice]]:
    """The steps of an epoch: every row of every sheet once, at most `pairs_per_step` in a step.

    Lists longer than `max_list` are cut at random into parts of nearly equal size; lists of like
    length are read together, so that little is padding. Not shuffled (to judge): whole lists.
    """
    chance = np.random.default_rng((recipe.seed, epoch))
    if shuffled:
        slices = list(_cut(sheets, recipe.max_list, chance))
        order = chance.permutation(len(slices)).tolist()
    else:
        slices = [(index, np.arange(len(sheet.pairs))) for index, sheet in enumerate(sheets)]
        order = list(range(len(slices)))
    widths = [int(sheets[index].widths[rows].max()) for index, rows in slices]
    sizes = [len(rows) for _, rows in slices]
    steps = [
        [slices[each] for each in step]
        for block in _filled(order, sizes, BLOCK * recipe.pairs_per_step)
        for step in _filled(sorted(block, key=widths.__getitem__), sizes, recipe.pairs_per_step)
    ]
    if not shuffled:
        return steps
    return [steps[each] for each in chance.permutation(len(steps))]


class Steps(Dataset[Batch]):
    """The steps of a whole run, one an index: what step i reads depends on the recipe alone."""

    def __init__(self, sheets: Sequence[Sheet], words: Words, recipe: Recipe, typed: bool) -> None:
        """Plans epochs until they, or the steps, come to their end."""
        self._sheets, self._words, self._recipe = sheets, words, recipe
        self._typed = typed
        self._steps: list[tuple[int, list[Slice]]] = []
        for epoch in range(recipe.epochs):
            self._steps += [(epoch, step) for step in plan(sheets, recipe, epoch)]
            if recipe.max_steps is not None and len(self._steps) >= recipe.max_steps:
                break
        self._steps = self._steps[: recipe.max_steps]

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Batch:
        epoch, step = self._steps[index]
        return collate(
            [(self._read(epoch, sheet, rows), rows) for sheet, rows in step], self._typed
        )

    def _read(self, epoch: int, index: int, rows: Rows) -> Sheet:
        """The sheet as the epoch reads its texts: the same in every run."""
        sheet, recipe = self._sheets[index], self._recipe
        texts = read_anew(
            sheet.labelled.search,
            rows.tolist(),
            self._words.pair_template,
            recipe.field_dropout,
            recipe.augment,
            (recipe.seed, epoch, index),
        )
        if texts is None:
            return sheet
        pairs = list(sheet.pairs)
        for row, tokens in zip(rows.tolist(), self._words.tokenizer(texts), strict=True):
            pairs[row] = tokens
        return replace(sheet, pairs=tuple(pairs))


def judging(sheets: Sequence[Sheet], recipe: Recipe, typed: bool) -> Iterator[Batch]:
    """Whole lists in a fixed order, those of like length together."""
    ordered = sorted(sheets, key=lambda sheet: int(sheet.widths.max()))
    for step in plan(ordered, recipe, 0, shuffled=False):
        yield collate([(ordered[index], rows) for index, rows in step], typed)


def collate(parts: Sequence[tuple[Sheet, Rows]], typed: bool) -> Batch:
    """The chosen rows of some sheets as one batch, padded with zeros."""
    pairs = [sheet.pairs[row] for sheet, rows in parts for row in rows.tolist()]
    width = max(len(ids) for ids, _ in pairs)
    longest = max(len(rows) for _, rows in parts)
    places = torch.full((len(parts), longest), -1)
    start = 0
    for place, (_, rows) in zip(places, parts, strict=True):
        place[: len(rows)] = torch.arange(start, start + len(rows))
        start += len(rows)
    taught = [sheet.taught[rows] for sheet, rows in parts if sheet.taught is not None]
    groups = [sheet.groups[rows] for sheet, rows in parts if sheet.groups is not None]
    return Batch(
        input_ids=_tokens([ids for ids, _ in pairs], width),
        attention_mask=_tokens([[1] * len(ids) for ids, _ in pairs], width),
        token_type_ids=_tokens([types for _, types in pairs], width) if typed else None,
        rows=places,
        grades=_laid_out([sheet.grades[rows] for sheet, rows in parts], longest),
        weights=_laid_out([sheet.weights[rows] for sheet, rows in parts], longest),
        cosine=_laid_out([sheet.cosine[rows] for sheet, rows in parts], longest),
        known=_laid_out([sheet.known[rows] for sheet, rows in parts], longest, -1),
        vectors=_laid_out([sheet.vectors[rows] for sheet, rows in parts], longest),
        taught=_laid_out(taught, longest) if taught else None,
        groups=_laid_out(groups, longest, -1) if groups else None,
    )


def _cut(sheets: Sequence[Sheet], longest: int, chance: np.random.Generator) -> Iterator[Slice]:
    for index, sheet in enumerate(sheets):
        count = len(sheet.pairs)
        if count <= longest:
            yield index, np.arange(count)
        else:
            parts = -(-count // longest)
            yield from ((index, part) for part in np.array_split(chance.permutation(count), parts))


def _filled(order: Sequence[int], sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Runs of `order` whose sizes sum to at most `budget`; one that is larger stands alone."""
    run: list[int] = []
    filled = 0
    for each in order:
        if run and filled + sizes[each] > budget:
            yield run
            run, filled = [], 0
        run.append(each)
        filled += sizes[each]
    if run:
        yield run


def _tokens(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    table = np.zeros((len(rows), width), dtype=np.int64)
    for row, values in enumerate(rows):
        table[row, : len(values)] = values
    return torch.from_numpy(table)


def _laid_out(arrays: Sequence[NDArray[Any]], longest: int, empty: float = 0) -> Tensor:
    """[b, n, ...] of arrays [n_i, ...]."""
    shape = (len(arrays), longest, *arrays[0].shape[1:])
    table = np.full(shape, empty, dtype=arrays[0].dtype)
    for row, values in enumerate(arrays):
        table[row, : len(values)] = values
    return torch.from_numpy(table)
