"""Labelled lists and a base model in, a trained pair model and category head out.

The text of a pair comes by the road that serving takes. Killed at any moment and started again with
the same arguments, a run goes on from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from msgspec import Struct
from safetensors.torch import load_file
from transformers import PreTrainedModel, set_seed

from export.bundle import Template
from export.onnx import input_names, load_trunk
from export.source import read_source, weights_sha256
from export.tokenizer import PairTokenizer
from export.trained import Trained as Exportable
from training import adapters, tuning
from training.average import interpolate
from training.batches import Steps, judging
from training.beginning import Load, first_model
from training.checkpoints import (
    BEST,
    FIRST,
    PART,
    TAUGHT,
    best_step,
    checkpoints,
    history,
    load_weights,
    save_whole,
)
from training.dataset import LabelledList
from training.model import RankingModel
from training.offset import begin_as_cosine, cosine_says
from training.progress import Curves, Progress, Say, biases
from training.quantised import restore
from training.recipe import FULL_BITS, Recipe
from training.sheets import Sheet, Words, digest, grouped, tokenised
from training.teachers import find_teacher, taught
from training.trainer import RankingTrainer, TrainingFailed, judged
from worker.ranking.model import Model, Vector

MODEL: Final = "model"  # the folder that export reads
RESULT: Final = "fine_tune.json"
RUN: Final = "run.json"  # what the folder was begun with


class Trained(Struct, frozen=True, kw_only=True):
    """What came of a run."""

    folder: str  # as `export.trained.read_trained` takes it
    steps: int  # that were made
    best_step: int  # whose weights were kept: the last, unless it stopped early
    seconds: float  # of training, over all times it was started
    losses: tuple[dict[str, float], ...]  # what was logged: the mean of each part since the last

    @property
    def last_losses(self) -> dict[str, float]:
        """The newest of each part that has a mean: the whole, and its objectives."""
        parts = (
            *("loss", "relevance", "distilled", "diversity", "category", "adversarial"),
            *("exposure", "opportunity"),
        )
        steps = [one for one in self.losses if "loss" in one]
        return {name: steps[-1][name] for name in parts if steps and name in steps[-1]}


@dataclass(frozen=True, slots=True)
class Run:
    """A run's identity: equal for equal arguments."""

    recipe: Recipe
    base: str  # sha256 of the weights it started from
    train: str  # sha256 of the lists
    dev: str
    categories: tuple[str, ...]
    teacher: str  # sha256 of it; empty where nobody teaches
    start: str  # sha256 of the earlier training's weights; empty where it began with the base


def fine_tune(
    recipe: Recipe,
    base: Path,
    train: Sequence[LabelledList],
    dev: Sequence[LabelledList],
    vectors: Mapping[str, Vector],
    categories: tuple[str, ...],
    out: Path,
    say: Say,
    pair_template: Template | None = None,
    start: Path | None = None,
    champion: Model | None = None,
    load: Load = load_trunk,
) -> Trained:
    """Train on `train` as it is, watch `dev`, and write `out`/model, which `export.trained` reads.

    `vectors` are the base encoder's, by the text of every item; `categories` those that the head
    learns (none: no head). `pair_template` says how a pair is written (default: what the base
    needs); `start` is a folder of an earlier training to go on from; `champion` what serves, should
    the recipe let it teach; `load` gives the base's trunk. `out` also holds checkpoints and
    `tensorboard`, and belongs to these arguments: TrainingFailed where it was begun with others,
    where nothing can be learned from `train`, or where the loss is no number; BadRecipe where the
    recipe does not fit the base, or its teacher is none; BundleError where either cannot be loaded.
    """
    with _threads(recipe.threads):
        set_seed(recipe.seed)
        source = read_source(base, base.name)
        exportable = first_model(recipe, source, categories, start, load)
        words = Words(
            template=source.template,
            pair_template=pair_template or exportable.pair_template,
            tokenizer=PairTokenizer(base, min(recipe.max_tokens, source.max_tokens)),
            vectors=vectors,
            categories=categories,
        )
        say(f"reading {len(train)} lists to learn from and {len(dev)} to watch")
        learnt = grouped(tokenised(train, words), recipe.fairness)
        watched = tokenised(dev, words)
        if not learnt:
            raise TrainingFailed("no list has a query and a grade that counts: nothing to learn")
        if recipe.patience is not None and not watched:
            raise TrainingFailed("patience is set, and there are no dev lists to be patient with")
        teacher = find_teacher(recipe, source, words.pair_template, champion)
        data = (source.weights_sha256, digest(learnt), digest(watched))
        began = weights_sha256(start, start.name) if start else ""
        run = Run(recipe, *data, categories, teacher.sha256 if teacher else "", began)
        _claim(out, run)
        if (out / RESULT).is_file():
            return msgspec.json.decode((out / RESULT).read_bytes(), type=Trained)
        if teacher is not None:
            learnt = taught(teacher, learnt, out / TAUGHT, say)
        whole = partial(load_trunk, source)  # its own: what is shared would stand beside few bits
        return _trained(run, exportable, learnt, watched, words, out, say, whole, start is None)


def _trained(
    run: Run,
    exportable: Exportable,
    learnt: Sequence[Sheet],
    watched: Sequence[Sheet],
    words: Words,
    out: Path,
    say: Say,
    whole: Callable[[], PreTrainedModel],
    fresh: bool,
) -> Trained:
    recipe, trunk = run.recipe, exportable.pair_model.trunk
    typed = "token_type_ids" in input_names(trunk)
    steps = Steps(learnt, words, recipe, typed)
    seen = list(judging(watched, recipe, typed))
    last = checkpoints(out)[-1:]
    product = exportable.pair_model.pooling == "product"
    if product and fresh and not last:
        begin_as_cosine(exportable.pair_model, steps)
    model = RankingModel(
        exportable.pair_model,
        exportable.head,
        (0.0, 0.0) if product else cosine_says(learnt),
        by_width=recipe.attack.kind == "none",  # an attack shifts the words of a whole step
    )
    if recipe.interpolate < 1.0 and not last:
        save_whole(model.pair_model, out / FIRST)
    tuning.prepare(trunk, recipe)
    set_seed(recipe.seed)  # whatever was drawn before, and a run that goes on does not draw again
    heeding = adapters.inject(trunk, recipe, len(steps))
    optimizer = tuning.optimiser(trunk, model.pair_model.head, model.category_head, recipe)
    trainer = RankingTrainer(
        model=model,
        recipe=recipe,
        steps=steps,
        judge=(lambda judge: judged(judge, seen, recipe)) if seen else None,
        optimizers=(optimizer, tuning.schedule(optimizer, len(steps), recipe)),
        folder=out,
        callbacks=[*heeding, Progress(say), Curves(out / "tensorboard"), *biases(recipe)],
    )
    entries = _run(trainer, last[0] if last else None, out, say)
    if recipe.base_bits < FULL_BITS:
        restore(exportable.pair_model, recipe, len(steps), whole)
    return _written(run, exportable, model, entries, out)


def _run(trainer: RankingTrainer, last: Path | None, out: Path, say: Say) -> list[dict[str, Any]]:
    """Train to the end from the last checkpoint; the history. The model holds the kept weights."""
    recipe = trainer.recipe
    entries = history(last) if last else []
    stopped = recipe.patience is not None and best_step(entries)[1] >= recipe.patience
    if last:
        say(f"going on from {last.name}")
    if not stopped:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        entries = trainer.state.log_history
    if recipe.patience is not None and (out / BEST).is_file():
        load_weights(trainer.model, out / BEST)
    elif trainer.average is not None:
        trainer.model.load_state_dict(trainer.kept.state_dict())
    return entries


def _written(
    run: Run,
    exportable: Exportable,
    model: RankingModel,
    entries: Sequence[Mapping[str, Any]],
    out: Path,
) -> Trained:
    """The folder that export reads, whole or not at all, and the result beside it."""
    adapters.merge(exportable.pair_model.trunk)
    part = out / (MODEL + PART)
    shutil.rmtree(part, ignore_errors=True)
    model.to("cpu")
    if run.recipe.interpolate < 1.0:
        interpolate(model.pair_model, load_file(out / FIRST), run.recipe.interpolate)
    exportable.save(part)
    shutil.rmtree(out / MODEL, ignore_errors=True)
    part.rename(out / MODEL)
    steps = max(one["step"] for one in entries)
    result = Trained(
        folder=str(out / MODEL),
        steps=steps,
        best_step=best_step(entries)[0] if run.recipe.patience is not None else steps,
        seconds=entries[-1]["seconds"],
        losses=tuple({name: one[name] for name in one if name != "seconds"} for one in entries),
    )
    _write(out / RESULT, result)
    for each in (*checkpoints(out), out / BEST, out / FIRST, out / TAUGHT):
        shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
    return result


def _claim(out: Path, run: Run) -> None:
    """Note what the folder belongs to, and clear what a kill left half-written."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = msgspec.json.encode(run)
    if not (out / RUN).is_file():
        _write(out / RUN, run)
    elif (found := (out / RUN).read_bytes()) != wanted:
        raise TrainingFailed(
            f"{out}: was begun with another recipe, base or data ({_differing(found, wanted)}); "
            "it stays as it is: give another folder, or delete this one"
        )
    for part in out.glob("*" + PART):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def _differing(found: bytes, wanted: bytes) -> str:
    was, is_ = msgspec.json.decode(found), msgspec.json.decode(wanted)
    return ", ".join(name for name in is_ if was.get(name) != is_[name])


def _write(path: Path, what: Any) -> None:
    part = path.with_name(path.name + PART)
    part.write_bytes(msgspec.json.encode(what))
    part.rename(path)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """With so many threads; afterwards with those that were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
