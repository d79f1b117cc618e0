"""How a training shows itself: a bar on a terminal, plain lines elsewhere, TensorBoard's files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import WandbCallback

from training.recipe import Recipe
from training.tuning import BadRecipe

Say = Callable[[str], None]

LINES: Final = 20  # about so many plain lines in a run


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Tells of every step where somebody watches, else now and then."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._bar: Any = None
        self._loss = float("nan")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            disable=not sys.stderr.isatty(),
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float],
        **_: Any,
    ) -> None:
        if "ndcg" in logs:
            self._tell(state, ", ".join(f"{name} {logs[name]:.4f}" for name in _told(logs)))
            return
        self._bar.set_postfix(loss=f"{logs['loss']:.4f}")
        every = max(state.max_steps // LINES, args.logging_steps)
        if not sys.stderr.isatty() and state.global_step % every < args.logging_steps:
            self._tell(state, f"loss {logs['loss']:.4f}, {logs['seconds']:.0f} s")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar.close()

    def _tell(self, state: TrainerState, what: str) -> None:
        self._bar.clear()
        self._say(f"step {state.global_step} of {state.max_steps}: {what}")
        self._bar.refresh()


class Curves(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Writes what is logged as TensorBoard's scalars; a resumed run takes back what it repeats."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._writer = SummaryWriter(str(self._folder), purge_step=state.global_step + 1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float],
        **_: Any,
    ) -> None:
        part = "dev" if "ndcg" in logs else "train"
        for name in _told(logs):
            self._writer.add_scalar(f"{part}/{name}", logs[name], state.global_step)
        self._writer.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._writer.close()


def biases(recipe: Recipe) -> list[TrainerCallback]:
    """What sends the curves to Weights & Biases, where the recipe asks for it: transformers' own.

    Raises BadRecipe where wandb is not installed.
    """
    if recipe.report_to != "wandb":
        return []
    try:
        callback = WandbCallback()
    except RuntimeError as error:
        raise BadRecipe(
            "report_to wandb: expected wandb to be installed (pip install wandb); nothing was"
            " trained"
        ) from error
    os.environ.setdefault("WANDB_MODE", "offline")  # read when the training begins
    return [callback]


def _told(logs: Mapping[str, float]) -> list[str]:
    return [name for name in logs if name not in ("step", "seconds")]
