"""The Hugging Face Trainer with our losses, whole checkpoints, and a judgment on the dev lists.

What a run needs to go on after a kill lies in its last checkpoint: weights, optimiser, schedule,
the state of every source of chance, and the history, from which early stopping is computed anew.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.adapters import ORTHOGONALITY, orthogonality
from training.attacks import attacked
from training.average import Averaging, moving_average
from training.batches import Batch, Steps
from training.checkpoints import (
    AVERAGE,
    BEST,
    PART,
    best_step,
    checkpoints,
    load_weights,
    save_whole,
)
from training.model import RankingModel
from training.products import Products
from training.recipe import Recipe
from training.shared import shared
from training.step import losses, relevance_of
from worker.errors import PrismrankError
from worker.ranking.metrics import ndcg

Judge = Callable[[RankingModel], dict[str, float]]


class TrainingFailed(PrismrankError):
    """A training cannot go on. Its checkpoints stay; no model was written."""


class End(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Logs and judges the last step too, whatever its number."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"


class RankingTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types
    """Trainer over `Steps`; an epoch of its own is our whole run, so that order is in our hands."""

    control: TrainerControl

    def __init__(
        self,
        model: RankingModel,
        recipe: Recipe,
        steps: Steps,
        judge: Judge | None,
        optimizers: tuple[Any, Any],
        folder: Path,
        callbacks: list[TrainerCallback],
    ) -> None:
        """`judge` gives `ndcg` and more of the dev lists; None where there are none."""
        super().__init__(
            model=model,
            args=arguments(recipe, folder, judge is not None),
            train_dataset=steps,
            eval_dataset=[] if judge else None,  # what `evaluate` reads is `judge`'s own
            data_collator=_only,
            optimizers=optimizers,
            callbacks=[End(), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self.recipe = recipe
        self.judge = judge
        self.folder = folder
        self.parts: dict[str, list[Tensor]] = defaultdict(list)  # of the loss, since the last log
        self.began = time.monotonic()
        self.average = moving_average(self.model, recipe.average) if recipe.average else None
        if self.average is not None:
            self.add_callback(Averaging(self.average))
        self.model.shared = shared(model.pair_model, recipe)

    @property
    def kept(self) -> RankingModel:
        """Whose weights are judged and kept: those of the average where there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]  # of the model's kind

    def training_step(self, *inputs: Any, **more: Any) -> Tensor:
        """A step of the Trainer's, whose products are made where they are made fastest."""
        with Products():
            loss: Tensor = super().training_step(*inputs, **more)
        return loss

    def compute_loss(self, model: Any, inputs: Batch, *_: Any, **__: Any) -> Tensor:
        """The loss of one step; its parts are kept for the log.

        Raises TrainingFailed where it is not finite.
        """
        total, parts = attacked(
            model, inputs, lambda reading: losses(inputs, reading, self.recipe), self.recipe
        )
        if self.recipe.tuning == "adalora":
            parts["orthogonality"] = orthogonality(model)
            total = total + ORTHOGONALITY * parts["orthogonality"]
        if not torch.isfinite(total):
            raise TrainingFailed(
                f"the loss of step {self.state.global_step + 1} is {total.item()}: expected a "
                "number; a lower learning_rate or precision float32 may help"
            )
        for name, value in parts.items():
            self.parts[name].append(value.detach())
        return total

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Judge the dev lists, keep the weights where they are the best, stop where none gain."""
        assert self.judge is not None, "only a run with dev lists evaluates: a bug"
        found = self.judge(self.kept)
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        if self.recipe.patience is not None:
            best, since = best_step(self.state.log_history)
            if best == self.state.global_step:
                save_whole(self.kept, self.folder / BEST)
            if since >= self.recipe.patience:
                self.control.should_training_stop = True
                self.control.should_save = True
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Into the history, with the parts of the loss and the seconds of all runs up to now."""
        if "train_runtime" in logs:  # the Trainer's own summary, of this process alone
            return
        means = {}
        if "loss" in logs:  # not a judgment
            means = {name: float(torch.stack(each).mean()) for name, each in self.parts.items()}
            self.parts.clear()
        now = time.monotonic()
        before = next((one["seconds"] for one in reversed(self.state.log_history)), 0.0)
        seconds = before + now - self.began
        self.began = now
        entry = {**logs, **means, "step": self.state.global_step, "seconds": seconds}
        self.state.log_history.append(entry)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, entry)

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        device = self.args.device
        return Batch(*(None if each is None else each.to(device) for each in inputs))  # type: ignore[arg-type]  # None stays in its place

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.folder / PART)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write it aside and rename it: a checkpoint that has its name is whole."""
        shutil.rmtree(self.folder / PART, ignore_errors=True)
        super()._save_checkpoint(model, trial)
        name = f"checkpoint-{self.state.global_step}"
        if self.average is not None:
            save_whole(self.average, self.folder / PART / name / AVERAGE)
        whole = self.folder / name
        shutil.rmtree(whole, ignore_errors=True)
        os.replace(self.folder / PART / name, whole)
        for older in (*checkpoints(self.folder)[:-1], self.folder / PART):
            shutil.rmtree(older, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.average is not None:
            load_weights(self.average, Path(resume_from_checkpoint) / AVERAGE)


def arguments(recipe: Recipe, folder: Path, judged: bool) -> TrainingArguments:
    """What of a recipe the Trainer itself needs to know."""
    found = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bfloat16",
        seed=recipe.seed,
        logging_strategy="steps",
        logging_steps=recipe.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=recipe.checkpoint_steps,
        eval_strategy="steps" if judged else "no",
        eval_steps=recipe.evaluate_steps,
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
    # One process has one GPU: of several the Trainer would make replicas (DataParallel), and deal a
    # step's lists out to them by twos. torchrun is for those.
    found._n_gpu = min(found.n_gpu, 1)
    return found


@torch.inference_mode()
def judged(model: RankingModel, batches: Sequence[Batch], recipe: Recipe) -> dict[str, float]:
    """nDCG@10 of the lists by the pair model alone, over those where an order can be better; the
    relevance loss of all; and how often the category head is right of the known categories."""
    was_training = model.training
    model.eval()
    gains, relevance, right, named = [], [], 0, 0
    for batch in batches:
        device = next(model.parameters()).device
        moved = Batch(*(None if each is None else each.to(device) for each in batch))  # type: ignore[arg-type]  # None stays in its place
        reading = model(moved)
        loss = relevance_of(moved, reading, recipe)
        relevance += [float(loss)] * len(batch.rows)
        gains += _ndcgs(reading.logits.cpu(), batch)
        if reading.categories is not None:
            told = reading.categories.argmax(-1)
            right += int(((told == moved.known) & (moved.known >= 0)).sum())
            named += int((moved.known >= 0).sum())
    model.train(was_training)
    found = {
        "ndcg": float(np.mean(gains)) if gains else 0.0,
        "relevance": float(np.mean(relevance)),
    }
    return {**found, "accuracy": right / named} if named else found


def _ndcgs(logits: Tensor, batch: Batch) -> list[float]:
    found = []
    for scores, grades, weights in zip(logits, batch.grades, batch.weights, strict=True):
        counted = weights > 0
        worth = grades[counted]
        if len(worth.unique()) > 1:
            order = scores[counted].argsort(descending=True, stable=True)
            found.append(ndcg(worth[order].tolist()))
    return found


def _only(features: Sequence[Batch]) -> Batch:
    (batch,) = features
    return batch
