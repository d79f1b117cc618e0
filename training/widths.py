"""Pairs of like length read together, so that no step computes much of padding.

A step's pairs are shared out by length into a few parts, each as wide as its own longest pair; a
part too many costs more than the padding that it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

PART: Final = 48  # tokens' worth of time that one more part takes

Read = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # tokens [p, s], mask, types -> [p, d]


def read_by_width(read: Read, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
    """What `read` gives of all pairs [p, s] in their order, read in parts: [p, d]."""
    widths, order = mask.sum(1).sort(stable=True)
    sizes = parts(widths.tolist())
    if len(sizes) == 1:
        return read(ids, mask, types)
    found = []
    for rows in torch.split(order, sizes):
        width = int(mask[rows].sum(1).max())
        of = None if types is None else types[rows, :width]
        found.append(read(ids[rows, :width], mask[rows, :width], of))
    return torch.cat(found)[order.argsort()]


def parts(widths: Sequence[int]) -> list[int]:
    """The sizes of the parts of ascending `widths` that together cost least: by dynamic
    programming, for the cost of a part is its size times its last width, and PART."""
    best, last = [0], [0]  # of the first n: the least cost, and where its last part begins
    for end, width in enumerate(widths, start=1):
        costs = [best[start] + (end - start) * width + PART for start in range(end)]
        best.append(min(costs))
        last.append(costs.index(best[-1]))
    sizes, end = [], len(widths)
    while end:
        sizes.append(end - last[end])
        end = last[end]
    return sizes[::-1]
