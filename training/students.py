"""A pair model of fewer layers than its base: a student that costs less to serve.

The layers that are kept begin with the weights that they had, and every other part with all of its
own (Sanh et al. 2019, "DistilBERT", section 2; Sun et al. 2019, "Patient knowledge distillation",
section 3). Of the encoder nothing is taken away: what it reads is remembered, and a pair is not.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from export.models import hidden
from training.tuning import BadRecipe, layers


def kept(depth: int, count: int) -> tuple[int, ...]:
    """Which `count` of `depth` layers stay, from the lowest, 0: as evenly spread as they can be,
    the first and the last among them; of one alone, the first.

    >>> kept(12, 6)  # as DistilBERT's authors chose them
    (0, 2, 4, 7, 9, 11)
    """
    gaps = max(count - 1, 1)
    return tuple(round(place * (depth - 1) / gaps) for place in range(count))


def thin(trunk: PreTrainedModel, count: int) -> None:
    """Leave the trunk `count` of its layers, in place. The weights of those that stay are the same
    tensors as before. Raises BadRecipe where it has fewer, or layers that share their weights."""
    found = layers(trunk)
    if len(found) != trunk.config.num_hidden_layers:
        raise BadRecipe(
            f"layers {count}: the base has {trunk.config.num_hidden_layers} layers and weights of"
            f" {len(found)}, expected each to have its own; nothing was trained"
        )
    if count > len(found):
        raise BadRecipe(
            f"layers {count}: expected at most {len(found)}, which the weights to begin with have;"
            " nothing was trained"
        )
    staying = kept(len(found), count)
    for name, value in vars(trunk.config).items():  # of each layer: how far it looks, …
        if "layer" in name and isinstance(value, list) and len(value) == len(found):
            setattr(trunk.config, name, [value[place] for place in staying])
    trunk.config.num_hidden_layers = count
    for place in reversed(range(len(found))):
        if place not in staying:
            del found[place]
    _check_is_read_back(trunk, count)


@torch.no_grad()
def _check_is_read_back(trunk: PreTrainedModel, count: int) -> None:
    """Raise BadRecipe where the model that its configuration now tells of is another one: so it
    would be exported. One in few bits is not tried."""
    if any(each.dtype != torch.float32 for each in trunk.parameters()):
        return
    again = type(trunk)(trunk.config)
    again.load_state_dict(trunk.state_dict())
    tokens = torch.arange(min(8, trunk.config.vocab_size))[None].to(trunk.device)
    learns = trunk.training
    mask = torch.ones_like(tokens)
    mine, its = (hidden(each.eval(), tokens, mask) for each in (trunk, again.to(trunk.device)))
    trunk.train(learns)
    if not torch.allclose(mine, its, atol=1e-4):
        raise BadRecipe(
            f"layers {count}: without some of its layers {type(trunk).__name__} is not the model"
            " that its configuration tells of; nothing was trained"
        )
