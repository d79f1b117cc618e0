"""A base in 8 or 4 bits, which keeps still while what is put beside its weights learns.

4 bits are NF4, and the scales of its blocks are quantised again (Dettmers et al. 2023, "QLoRA:
Efficient finetuning of quantized LLMs", section 3); 8 bits are LLM.int8() (Dettmers et al. 2022,
"LLM.int8(): 8-bit matrix multiplication for transformers at scale", section 3). bitsandbytes does
both, while the weights are read, so that they never stand in memory whole. Linear layers have so
few bits; word vectors have the 16 of bfloat16, all else is float32. So there is nothing for peft's
`prepare_model_for_kbit_training` to cast, and it is `training.adapters` that freezes.

Nothing of few bits is ever written. A checkpoint holds what learns; the rest is quantised anew from
the base's own files, to the same bytes. What is exported is the base in float32 with what was
learned worked into it, as QLoRA's users do: neither the model that was trained, to the last bit,
nor one whose every weight was rounded. Whoever judges and calibrates it reads it as it is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig, PreTrainedModel

from export.models import PairModel
from export.onnx import load_trunk
from export.source import Source
from training.adapters import inject
from training.recipe import Recipe
from training.students import thin
from training.tuning import BadRecipe

BLOCK: Final = 64  # weights that NF4 gives one scale
REPACKS: Final = "support_avx512bf16_for_cpu"  # a layer of bitsandbytes': whether it does


def load_quantised(source: Source, recipe: Recipe) -> PreTrainedModel:
    """The base in the recipe's bits, on the GPU where there is one; its state tells what learns.

    Raises BadRecipe where bitsandbytes is missing or cannot serve the device, BundleError where the
    base cannot be loaded.
    """
    bits = recipe.base_bits
    try:
        config = BitsAndBytesConfig(
            load_in_8bit=bits == 8,
            load_in_4bit=bits == 4,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, recipe.precision),
        )
        trunk = load_trunk(source, quantization_config=config)
    except ImportError as error:
        raise BadRecipe(
            f"base_bits {bits}: expected bitsandbytes to be installed (pip install"
            " 'prismrank[bits]'); nothing was trained"
        ) from error
    except RuntimeError as error:
        raise BadRecipe(
            f"base_bits {bits}: expected a device that bitsandbytes can serve"
            f" ({str(error).strip().splitlines()[0]}); nothing was trained"
        ) from error
    if bits == 4 and trunk.device.type == "cpu":
        _check_reads_blocks(trunk)
    words = trunk.get_input_embeddings().to(torch.bfloat16)
    words.register_forward_hook(_widened)
    trunk.requires_grad_(False)
    trunk.register_state_dict_post_hook(_without_still)
    trunk.register_load_state_dict_post_hook(_still_is_there)
    return trunk


def restore(
    pair_model: PairModel, recipe: Recipe, steps: int, whole: Callable[[], PreTrainedModel]
) -> None:
    """Give a pair model, in place, the base's own trunk with what was learned in `steps` beside the
    quantised one, unmerged, on the CPU."""
    learned = {name: each.cpu() for name, each in pair_model.trunk.state_dict().items()}
    pair_model.trunk = whole()  # and the quantised one is gone
    if recipe.layers is not None:
        thin(pair_model.trunk, recipe.layers)
    inject(pair_model.trunk, recipe, steps)
    unknown = pair_model.trunk.load_state_dict(learned, strict=False).unexpected_keys
    assert not unknown, f"what was learned has its place in the base: a bug ({unknown})"


def _check_reads_blocks(trunk: PreTrainedModel) -> None:
    """Make bitsandbytes' layers ready to learn on a CPU, in place.

    A layer that repacks its weights to be judged would pass no gradient on afterwards. Of one whose
    rows are no whole blocks, others are read than were written, by bitsandbytes 0.50.2: BadRecipe.
    """
    for name, layer in trunk.named_modules():
        if not hasattr(layer, REPACKS):
            continue
        setattr(layer, REPACKS, False)
        if layer.in_features % BLOCK:
            raise BadRecipe(
                f"base_bits 4: {name} reads {layer.in_features} dimensions; expected a multiple of"
                f" {BLOCK} on a CPU, where bitsandbytes reads others wrongly; use 8, or a GPU"
            )


def _widened(_words: torch.nn.Module, _inputs: Any, vectors: Tensor) -> Tensor:
    return vectors.float()


def _without_still(
    trunk: torch.nn.Module, state: dict[str, Any], prefix: str, _metadata: Any
) -> None:
    """Leave in a trunk's state what learns, and what counts beside it."""
    kept = {name for name, each in trunk.named_parameters() if each.requires_grad}
    kept |= {name for name, _ in trunk.named_buffers()}
    for name in [each for each in state if each.startswith(prefix)]:
        if name.removeprefix(prefix) not in kept:
            del state[name]


def _still_is_there(trunk: torch.nn.Module, keys: Any) -> None:
    """What keeps still is not missing from a state: it was read with the base."""
    still = tuple(name for name, each in trunk.named_parameters() if not each.requires_grad)
    keys.missing_keys[:] = [name for name in keys.missing_keys if not name.endswith(still)]
