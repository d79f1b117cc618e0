"""Bottleneck adapters: small layers behind a trunk's own, which no weight of the trunk can take in.

So they stay in the trunk and travel with it: a folder of training holds them under their names,
and whoever reads it puts them in before it loads the weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

NAME: Final = "bottleneck"  # of the adapter, beside the `layer` that it stands behind
WIDTH: Final = f".{NAME}.down.bias"  # the end of the name of the weight whose length is its width


class Bottleneck(torch.nn.Module):
    """Down to `width` dimensions and up again, added to what came in: [..., d] -> [..., d].

    Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", section 2.1: 2 d m + d + m
    weights. `up` begins at 0, so that a fresh one changes nothing.
    """

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.down = torch.nn.Linear(dimensions, width)
        self.up = torch.nn.Linear(width, dimensions)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., d] -> [..., d]."""
        added: Tensor = self.up(torch.nn.functional.gelu(self.down(states)))
        return states + added


def insert(model: torch.nn.Module, place: str, width: int) -> None:
    """Put a fresh adapter behind the linear layer that is called `place`, in place."""
    layer = model.get_submodule(place)
    if not isinstance(layer, torch.nn.Linear):
        raise ValueError(f"{place}: expected a linear layer to stand behind, not {layer}")
    adapter = Bottleneck(layer.out_features, width).to(layer.weight.device)
    model.set_submodule(
        place, torch.nn.Sequential(OrderedDict([("layer", layer), (NAME, adapter)]))
    )


def insert_those_of(model: torch.nn.Module, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Put fresh adapters wherever these weights, by their names in the model, have some."""
    for name, weight in weights:
        if name.endswith(WIDTH):
            insert(model, name.removesuffix(WIDTH), len(weight))


def adapters(model: torch.nn.Module) -> list[Bottleneck]:
    """Those that are in it."""
    return [each for each in model.modules() if isinstance(each, Bottleneck)]
