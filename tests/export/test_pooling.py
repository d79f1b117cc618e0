"""How a pair model reads its states: nothing of the padding, and each token as whose it is."""

from __future__ import annotations

import pytest
import torch

from export.models import PairModel, last_pool, match
from tests.export.models import make_model


def test_the_last_token_is_the_last_that_is_real() -> None:
    states = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.equal(last_pool(states, mask), torch.stack([states[0, 1], states[1, 2]]))


def test_a_pair_model_does_not_see_its_padding() -> None:
    torch.manual_seed(3)
    kinds = (("bert", "cls"), ("bert", "mean"), ("bert", "product"), ("qwen3", "last"))
    for family, pooling in kinds:
        model = PairModel(make_model(family), pooling).eval()  # type: ignore[arg-type]
        ids = torch.tensor([[5, 6, 7, 8]])
        types = torch.tensor([[0, 0, 1, 1]]) if family == "bert" else None
        padded = torch.tensor([[5, 6, 7, 8, 9, 9, 9]])
        mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
        padded_types = torch.tensor([[0, 0, 1, 1, 1, 0, 1]]) if family == "bert" else None
        with torch.inference_mode():
            alone = model(ids, torch.ones_like(ids), types)
            assert model(padded, mask, padded_types) == pytest.approx(alone, abs=1e-4)


def test_a_product_adds_up_to_the_cosine_of_query_and_item() -> None:
    torch.manual_seed(4)
    states, mask = torch.randn(2, 5, 9), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    types = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    found = match(states, mask, types)
    ends = ((states[0, :2], states[0, 2:4]), (states[1, :1], states[1, 1:]))
    for row, (query, item) in zip(found, ends, strict=True):
        cosine = torch.cosine_similarity(query.mean(0), item.mean(0), dim=0)
        assert row.sum() / 3.0 == pytest.approx(float(cosine), abs=1e-6)


def test_a_product_wants_to_know_which_token_is_whose() -> None:
    model = PairModel(make_model("bert"), "product")
    ids = torch.tensor([[5, 6, 7, 8]])
    with pytest.raises(ValueError, match="expected token types"):
        model(ids, torch.ones_like(ids))
