"""Matrix products by oneDNN where torch's own library is slow: float32 on AMD processors.

torch multiplies by MKL, which on processors of other makers runs kernels of half the width: a third
to a half of the speed that oneDNN, which torch brings too, reaches with AVX-512. Both round as
float32 does; their sums are in another order. Elsewhere nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FACTS: Final = Path("/proc/cpuinfo")
LEAST: Final = 2**14  # weights: of a smaller matrix the call costs more than the product


class Products(TorchFunctionMode):
    """A context in which linear layers, in both directions, go to oneDNN; no change where MKL is
    not the slower one."""

    def __init__(self, everywhere: bool = False) -> None:
        """`everywhere`: on any processor, to be compared."""
        super().__init__()
        self._used = everywhere or mkl_is_slow()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear and self._used and not kwargs and _fits(*args):
            return _Linear.apply(*args)  # type: ignore[no-untyped-call]  # of torch's
        return func(*args, **(kwargs or {}))


@cache
def mkl_is_slow() -> bool:
    """Whether this processor is one of AMD's with AVX-512."""
    known = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    amd = known and FACTS.is_file() and "AuthenticAMD" in FACTS.read_text()
    return amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left [m, k] @ right [n, k] transposed + bias [n] -> [m, n], of any strides."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    """inputs [..., k], weight [n, k], bias [n] -> [..., n]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        found = product(inputs.flatten(0, -2), weight, bias)
        return found.view(*inputs.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        flat = gradient.flatten(0, -2)
        return (
            product(flat, weight.t()).view(inputs.shape) if of_inputs else None,
            product(flat.t(), inputs.flatten(0, -2).t()) if of_weight else None,
            flat.sum(0) if of_bias else None,
        )


def _fits(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether it is a product that oneDNN is to make."""
    return (
        inputs.dtype == weight.dtype == torch.float32
        and inputs.device.type == weight.device.type == "cpu"
        and inputs.dim() > 1
        and inputs.numel() > 0
        and weight.numel() >= LEAST
        and not torch.is_autocast_enabled("cpu")
    )
