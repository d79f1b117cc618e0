"""Means of weights: over the steps of a run, and between where it began and where it came to.

Neither costs anything where the model serves: what is kept is one model of the same shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def moving_average(model: torch.nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that follows it: after t steps the mean of the weights after each, that
    of step k weighing as decay^(t - k) (Polyak & Juditsky 1992, "Acceleration of stochastic
    approximation by averaging", with the exponential window of Izmailov et al. 2018, "Averaging
    weights leads to wider optima and better generalization").

    The weights sum to 1 from the first step on, as Adam's do (Kingma & Ba 2015, section 3): the
    newest has the share (1 - decay) / (1 - decay^t), and where the run began has none.
    """

    def follow(mean: Tensor, newest: Tensor, before: Tensor | int) -> Tensor:
        if not newest.is_floating_point():  # of few bits: it keeps still
            return newest
        share = (1.0 - decay) / (1.0 - decay ** (int(before) + 1))
        return torch.lerp(mean, newest, share)

    return AveragedModel(model, avg_fn=follow)


class Averaging(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Lets the average follow each step."""

    def __init__(self, average: AveragedModel) -> None:
        self._average = average

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module,
        **_: Any,
    ) -> None:
        self._average.update_parameters(model)


@torch.no_grad()
def interpolate(model: torch.nn.Module, first: Mapping[str, Tensor], share: float) -> None:
    """Move the model back, in place, to (1 - share) of the weights `first`, by name, and `share` of
    its own (WiSE-FT, Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", equation 1).
    """
    for name, weight in model.named_parameters():
        weight.copy_(torch.lerp(first[name].to(weight.device), weight, share))
