"""What learns beside a trunk that keeps still: how each kind goes in, and how it comes out again.

All but the bottleneck adapters merge into the trunk's own weights, which then have no trace of
them; those stay (see `export.adapters`). peft is imported where it is used, for it takes seconds.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from export.adapters import NAME, adapters, insert
from training.recipe import Recipe
from training.tuning import BadRecipe, layers

INITIAL: Final = 1.5  # times the rank: what AdaLoRA begins with (section 4)
FEWEST_STEPS: Final = 3  # one to weigh in, one to allocate at, one to learn what is left
ORTHOGONALITY: Final = 0.5  # what AdaLoRA's regulariser weighs in the loss: peft's default
AVERAGES: Final = ("exp_avg_ipt", "exp_avg_unc")  # peft's, of sensitivity and its uncertainty
MASK: Final = "rank_pattern"  # peft's: which triplets are left
ATTENTION: Final = "att"  # in the name of a layer's part that attends, in every family
KEYS_AND_VALUES: Final = ("key", "value", "k_proj", "v_proj", "k_lin", "v_lin")

Inject: TypeAlias = Callable[[PreTrainedModel, Recipe, int], list[TrainerCallback]]


def inject(trunk: PreTrainedModel, recipe: Recipe, steps: int) -> list[TrainerCallback]:
    """Freeze the trunk and put in what learns instead, in place; nothing for `full` and `frozen`.

    What is put in begins without effect. Returns what a training of `steps` must call back.
    Raises BadRecipe where the trunk has no place for it, or the steps are too few.
    """
    if recipe.tuning not in KINDS:
        return []
    trunk.requires_grad_(False)
    return KINDS[recipe.tuning](trunk, recipe, steps)


def merge(trunk: PreTrainedModel) -> None:
    """Work what was put in into the layers that it adapts and take it away, in place.

    Bottleneck adapters stay where they are.
    """
    if not hasattr(trunk, "peft_config"):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [
        (name, module)
        for name, module in trunk.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    for name, module in adapted:
        _own(module.get_base_layer())
        module.merge()
        trunk.set_submodule(name, module.get_base_layer())
    del trunk.peft_config


def _own(layer: torch.nn.Module) -> None:
    """Give a layer tensors of its own, in place: others may share those that it has."""
    for name, each in list(layer.named_parameters(recurse=False)):
        own = torch.nn.Parameter(each.detach().clone(), requires_grad=each.requires_grad)
        layer.register_parameter(name, own)


def orthogonality(trunk: torch.nn.Module) -> Tensor:
    """How far AdaLoRA's singular vectors are from orthonormal: the mean of |P'P - I| and |QQ' - I|.

    Zhang et al. 2023, "Adaptive budget allocation for parameter-efficient fine-tuning", section
    3.1; the paper squares the Frobenius norms, its authors' code and peft do not.
    """
    found = []
    for name, each in trunk.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            product = each @ each.T if ".lora_A." in name else each.T @ each
            unit = torch.eye(len(product), dtype=product.dtype, device=product.device)
            found.append(torch.linalg.matrix_norm(product - unit))
    return torch.stack(found).mean()


class Allocation(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """After each step, leaves AdaLoRA's rank to the triplets that matter most (sections 3.2, 3.3).

    peft's allocator remembers their importance outside of the model, where no checkpoint would have
    it; between two steps it stands in buffers of the adapted layers.
    """

    def __init__(self, tuner: Any) -> None:
        """`tuner` is peft's AdaLoraModel, fresh."""
        self._tuner = tuner
        self._buffers: dict[str, dict[str, tuple[torch.nn.Module, str]]] = defaultdict(dict)
        for name, weight in tuner.model.named_parameters():
            if ".lora_" in name:
                for average in AVERAGES:
                    self._keep(average, name, torch.zeros_like(weight))
            if ".lora_E." in name:
                self._keep(MASK, name, torch.ones(len(weight), dtype=torch.bool))

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Weigh the triplets by this step's gradients, and mask those beyond the budget."""
        config, allocator = self._tuner.peft_config["default"], self._tuner.rankallocator
        allocator.ipt = dict.fromkeys(self._kept(AVERAGES[0]))  # names that have their averages
        for average in AVERAGES:
            setattr(allocator, average, self._kept(average))
        config.rank_pattern = {name: mask.tolist() for name, mask in self._kept(MASK).items()}
        self._tuner.update_and_allocate(state.global_step + 1)
        for average in AVERAGES:
            for name, buffer in self._kept(average).items():
                buffer.copy_(getattr(allocator, average).get(name, buffer))
        for name, buffer in self._kept(MASK).items():
            buffer.copy_(torch.tensor(config.rank_pattern[name]))

    def _keep(self, what: str, name: str, value: Tensor) -> None:
        path, _, factor = name.removesuffix(".default").rpartition(".")
        layer = self._tuner.model.get_submodule(path)
        layer.register_buffer(f"{factor}_{what}", value)
        self._buffers[what][name] = layer, f"{factor}_{what}"

    def _kept(self, what: str) -> dict[str, Tensor]:
        """What is kept, by the names of the factors; on the device where the model is by now."""
        places = self._buffers[what]
        return {name: layer.get_buffer(buffer) for name, (layer, buffer) in places.items()}


def _low_rank(
    trunk: PreTrainedModel, recipe: Recipe, steps: int, **dials: Any
) -> list[TrainerCallback]:
    """Low-rank factors beside the linear layers (Hu et al. 2022, "LoRA", section 4.1)."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(
        LoraConfig(
            r=recipe.lora_rank,
            lora_alpha=recipe.lora_alpha,
            target_modules=_targets(trunk, recipe),
            **dials,
        ),
        trunk,
    )
    return []


def _adaptive(trunk: PreTrainedModel, recipe: Recipe, steps: int) -> list[TrainerCallback]:
    """AdaLoRA: after the warm-up, half of what is left of the run takes rank away, a hundredth of
    the run at a time; the other half learns with what remains."""
    from peft import AdaLoraConfig, AdaLoraModel

    if steps < FEWEST_STEPS:
        raise BadRecipe(
            f"tuning adalora: {steps} steps; expected at least {FEWEST_STEPS} to allocate rank in"
        )
    warmup = int(recipe.warmup * steps)
    within = set(layers(trunk).modules())  # a pooler above them has no gradient to be weighed by
    targets = [each for each in _targets(trunk, recipe) if trunk.get_submodule(each) in within]
    config = AdaLoraConfig(
        init_r=math.ceil(INITIAL * recipe.lora_rank),
        target_r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        target_modules=targets,
        tinit=warmup,
        tfinal=(steps - warmup) // 2,
        deltaT=max(1, steps // 100),
        total_step=steps,
    )
    tuner: Any = AdaLoraModel(trunk, config, "default")  # type: ignore[no-untyped-call]  # peft's
    return [Allocation(tuner)]


def _scaled(trunk: PreTrainedModel, recipe: Recipe, steps: int) -> list[TrainerCallback]:
    """(IA)3: scales of keys, values and the feed-forward's inner activations (Liu et al. 2022,
    "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning",
    section 3.3)."""
    from peft import IA3Config, inject_adapter_in_model

    forwards = [place for places in _outputs(trunk) for place in places[1:]]
    keys = [name for name in _linear(trunk) if name.endswith(KEYS_AND_VALUES)]
    targets = _targets(trunk, recipe) if recipe.lora_targets else [*keys, *forwards]
    inner = [each for each in forwards if each in targets]
    inject_adapter_in_model(IA3Config(target_modules=targets, feedforward_modules=inner), trunk)
    return []


def _bottlenecks(trunk: PreTrainedModel, recipe: Recipe, steps: int) -> list[TrainerCallback]:
    """Adapters behind each attention's and each feed-forward's output, before what went in is added
    (Houlsby et al. 2019, section 2.1; there the norms learn too). Those of an earlier training go
    on learning instead."""
    if not adapters(trunk):
        for place in itertools.chain.from_iterable(_outputs(trunk)):
            insert(trunk, place, recipe.adapter_width)
    for each in adapters(trunk):
        each.requires_grad_(True)
    return []


def _targets(trunk: PreTrainedModel, recipe: Recipe) -> list[str]:
    """The linear layers whose names end as the recipe says; BadRecipe where none does."""
    linear = _linear(trunk)
    found = [name for name in linear if name.endswith(recipe.lora_targets or ("",))]
    if not found:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise BadRecipe(f"lora_targets {list(recipe.lora_targets)}: expected ends of {known}")
    return found


def _linear(module: torch.nn.Module) -> list[str]:
    """The linear layers of a trunk or of a part, but for those of adapters."""
    linear = [name for name, each in module.named_modules() if isinstance(each, torch.nn.Linear)]
    return [name for name in linear if f".{NAME}." not in name]


def _outputs(trunk: PreTrainedModel) -> list[tuple[str, str]]:
    """Of each layer the linear ones that end its attention and its feed-forward: the last whose
    name tells of attention, and the last of the others. BadRecipe where a layer lacks one."""
    names = {each: name for name, each in trunk.named_modules()}
    found = []
    for layer in layers(trunk):
        attention = [name for name in _linear(layer) if ATTENTION in name]
        others = [name for name in _linear(layer) if ATTENTION not in name]
        if not attention or not others:
            raise BadRecipe(
                f"the base's layer {names[layer]}: expected linear layers of an attention and of a "
                "feed-forward; use tuning full, frozen or lora"
            )
        found.append((f"{names[layer]}.{attention[-1]}", f"{names[layer]}.{others[-1]}"))
    return found


KINDS: Final[Mapping[str, Inject]] = {
    "lora": _low_rank,
    "dora": partial(_low_rank, use_dora=True),
    "rslora": partial(_low_rank, use_rslora=True),
    "adalora": _adaptive,
    "ia3": _scaled,
    "adapters": _bottlenecks,
}
