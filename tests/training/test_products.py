"""oneDNN's products are torch's, in float32, and a training learns the same by them."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.products import LEAST, Products

SIZES = st.integers(128, 160)


def learned(layer: torch.nn.Linear, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What comes out of a layer, and the gradients of it and its inputs."""
    layer = deepcopy(layer)
    leaf = inputs.clone().requires_grad_()
    found = layer(leaf)
    found.square().sum().backward()
    gradients = (leaf.grad, layer.weight.grad)
    assert all(each is not None for each in gradients)
    return (found.detach(), *gradients, *([] if layer.bias is None else [layer.bias.grad]))


@given(rows=st.integers(1, 9), wide=SIZES, out=SIZES, bias=st.booleans(), seed=st.integers(0, 99))
def test_a_linear_layer_and_its_gradients_are_those_of_float64(
    rows: int, wide: int, out: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer, inputs = torch.nn.Linear(wide, out, bias=bias), torch.randn(rows, 3, wide)
    assert layer.weight.numel() >= LEAST
    exact = learned(deepcopy(layer).double(), inputs.double())
    with Products(everywhere=True):
        found = learned(layer, inputs)
    for one, other in zip(found, exact, strict=True):
        assert (one.double() - other).norm() <= 1e-6 * other.norm()
        assert one.shape == other.shape


def test_the_products_are_made_by_onednn_within_the_context_alone() -> None:
    layer, inputs = torch.nn.Linear(256, 256), torch.randn(8, 256)
    assert "_Linear" not in type(layer(inputs).grad_fn).__name__
    with Products(everywhere=True):
        assert "_Linear" in type(layer(inputs).grad_fn).__name__


@pytest.mark.parametrize(
    "inputs",
    [torch.randn(8, 256, dtype=torch.float64), torch.randn(256)],
    ids=["float64", "one row without an axis"],
)
def test_what_onednn_is_not_asked_for_stays_torchs(inputs: torch.Tensor) -> None:
    layer = torch.nn.Linear(256, 256).to(inputs.dtype)
    with Products(everywhere=True):
        assert torch.equal(layer(inputs), layer(inputs))
        assert "_Linear" not in type(layer(inputs).grad_fn).__name__


def test_what_keeps_still_has_no_gradient() -> None:
    layer = torch.nn.Linear(256, 256).requires_grad_(False)
    inputs = torch.randn(4, 256, requires_grad=True)
    with Products(everywhere=True):
        layer(inputs).sum().backward()
    assert layer.weight.grad is None
    assert inputs.grad is not None


def test_under_autocast_bfloat16_is_kept() -> None:
    layer = torch.nn.Linear(256, 256)
    with Products(everywhere=True), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(4, 256)).dtype == torch.bfloat16
