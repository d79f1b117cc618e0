"""Pairs read in parts of like length are the pairs read together."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from export.models import PairModel, PairPooling
from export.onnx import load_trunk
from export.source import read_source
from training import widths
from training.widths import PART, parts, read_by_width


def cost(ascending: list[int], sizes: tuple[int, ...]) -> int:
    ends = itertools.accumulate(sizes)
    return sum(size * ascending[end - 1] + PART for size, end in zip(sizes, ends, strict=True))


@given(st.lists(st.integers(1, 128), min_size=1, max_size=9))
def test_no_other_parts_cost_less(found: list[int]) -> None:
    ascending = sorted(found)
    sizes = parts(ascending)
    assert sum(sizes) == len(ascending)
    every = (
        tuple(np.diff([0, *cuts, len(ascending)]).tolist())
        for count in range(len(ascending))
        for cuts in itertools.combinations(range(1, len(ascending)), count)
    )
    assert cost(ascending, tuple(sizes)) == min(cost(ascending, each) for each in every)


@pytest.mark.parametrize("pooling", ["product", "mean", "cls"])
def test_each_pair_reads_as_it_does_among_all(
    base: Path, pooling: PairPooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widths, "PART", 2)  # so that a few short pairs are several parts
    model = PairModel(load_trunk(read_source(base, "base")), pooling)
    lengths = torch.tensor([5, 30, 6, 12, 31, 5, 13])
    places = torch.arange(31)
    mask = (places < lengths.unsqueeze(1)).long()
    ids = torch.randint(4, 40, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    types = (places >= 3).long() * mask
    asked: list[tuple[int, ...]] = []

    def read(*tokens: torch.Tensor | None) -> torch.Tensor:
        assert tokens[0] is not None
        asked.append(tuple(tokens[0].shape))
        return model.pooled(*tokens)  # type: ignore[arg-type]  # the types alone may be none

    whole = model.pooled(ids, mask, types)
    assert torch.allclose(read_by_width(read, ids, mask, types), whole, atol=1e-5)
    assert len(asked) > 1
    assert sum(rows for rows, _ in asked) == len(ids)
    assert sum(rows * width for rows, width in asked) < ids.numel()
