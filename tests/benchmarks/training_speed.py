"""Our training's steps against a plain Hugging Face Trainer's on the same pairs, in turns.

    python -m tests.benchmarks.training_speed --data DIR --base FOLDER --work DIR [--steps 300]

The peer is AutoModelForSequenceClassification of one label with its default collator and sampler:
random steps of as many pairs, padded to their longest, all weights learning, AdamW at the same
rate. Both tokenised beforehand, both on one thread, both through a whole Trainer, a chunk of steps
each in turns within one process; CPU time, so that other work on the machine counts little. The
quality is nDCG@10 of what each pair model says of the dev parts after the same number of steps.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from export.models import PairModel
from export.onnx import load_trunk, quiet
from export.source import read_source
from export.tokenizer import PairTokenizer
from tests.benchmarks.measuring import show
from tests.benchmarks.peer import TRAINED_ON
from training import tuning
from training.batches import Batch, Steps, judging
from training.dataset import labelled
from training.judgments import read_set
from training.model import RankingModel
from training.offset import begin_as_cosine
from training.recipe import Recipe
from training.sheets import Sheet, Words, tokenised
from training.trainer import RankingTrainer
from worker.ranking.metrics import ndcg

CHUNK: Final = 10  # steps before the other's turn


class Turns(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Clocks chunks of steps, and gives the other trainer its turn between them."""

    def __init__(self, mine: threading.Semaphore, other: threading.Semaphore) -> None:
        self._mine, self._other = mine, other
        self.seconds: list[tuple[float, float]] = []  # of CPU and of the wall, a chunk
        self._began = (0.0, 0.0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % CHUNK == 0:
            self._began = (time.process_time(), time.perf_counter())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % CHUNK == 0:
            now = (time.process_time(), time.perf_counter())
            self.seconds.append((now[0] - self._began[0], now[1] - self._began[1]))
            self._other.release()
            if state.global_step < state.max_steps:
                self._mine.acquire()


def main() -> None:
    """Train both, clock both, judge both."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    recipe = Recipe(seed=options.seed, max_steps=options.steps, epochs=1000)
    words = _words(options.base, recipe)
    learnt, dev = (
        {
            name: tokenised(labelled(read_set(name, options.data, part)), words)
            for name in TRAINED_ON
        }
        for part in ("train", "dev")
    )
    sheets = [sheet for each in learnt.values() for sheet in each]
    first, second = threading.Semaphore(1), threading.Semaphore(0)
    ours, our_turns = _ours(options, recipe, words, sheets, Turns(first, second))
    plain, plain_turns = _plain(options, recipe, sheets, Turns(second, first))
    with ThreadPoolExecutor(2) as both:
        runs = [both.submit(_in_turn, *each) for each in ((ours, first), (plain, second))]
        for run in runs:
            run.result()
    steps: Steps = ours.train_dataset
    pairs = [len(steps[index].input_ids) for index in range(len(steps))]
    counts = [sum(pairs[at : at + CHUNK]) for at in range(0, len(pairs), CHUNK)]
    even = [recipe.pairs_per_step * CHUNK] * len(counts)
    speeds = [_speeds(our_turns.seconds, counts), _speeds(plain_turns.seconds, even)]
    judges = (_our_scores(ours.model), _plain_scores(plain.model))
    rows = []
    for name, speed, score in zip(("ours", "plain Trainer"), speeds, judges, strict=True):
        row: dict[str, Any] = {"training": name}
        row["pairs/s (CPU)"], row["pairs/s (wall)"] = (statistics.median(each) for each in speed)
        ratios = [
            [one / other for one, other in zip(of, plain_of, strict=True)]
            for of, plain_of in zip(speed, speeds[1], strict=True)
        ]
        row["ratio (CPU)"], row["ratio (wall)"] = (statistics.median(each) for each in ratios)
        low, _, high = statistics.quantiles(ratios[0], n=4)
        row["quartiles"] = f"{low:.2f} to {high:.2f}"
        row |= {name: f"{_quality(each, score, recipe):.4f}" for name, each in dev.items()}
        rows.append(row)
    show(rows, as_json=options.json)


def _words(base: Path, recipe: Recipe) -> Words:
    source = read_source(base, base.name)
    tokenizer = PairTokenizer(base, min(recipe.max_tokens, source.max_tokens))
    return Words(source.template, source.template, tokenizer, {}, ())


def _ours(
    options: argparse.Namespace, recipe: Recipe, words: Words, sheets: Sequence[Sheet], turns: Turns
) -> tuple[RankingTrainer, Turns]:
    """Our trainer of the default recipe, as `training.fine_tune` makes it."""
    pair_model = PairModel(load_trunk(read_source(options.base, options.base.name)), "product")
    steps = Steps(sheets, words, recipe, typed=True)
    begin_as_cosine(pair_model, steps)
    tuning.prepare(pair_model.trunk, recipe)
    optimizer = tuning.optimiser(pair_model.trunk, pair_model.head, None, recipe)
    trainer = RankingTrainer(
        model=RankingModel(pair_model, None, by_width=True),
        recipe=recipe,
        steps=steps,
        judge=None,
        optimizers=(optimizer, tuning.schedule(optimizer, len(steps), recipe)),
        folder=options.work / "ours",
        callbacks=[turns],
    )
    return trainer, turns


def _plain(
    options: argparse.Namespace, recipe: Recipe, sheets: Sequence[Sheet], turns: Turns
) -> tuple[Trainer, Turns]:
    """A Trainer with its defaults: a cross-encoder of one label, whose loss is binary."""
    rows = [
        {"input_ids": [*ids], "token_type_ids": [*types], "labels": [float(grade)]}
        for sheet in sheets
        for (ids, types), grade in zip(sheet.pairs, sheet.grades, strict=True)
    ]
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            options.base, num_labels=1, problem_type="multi_label_classification"
        )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(options.work / "plain"),
            max_steps=options.steps,
            per_device_train_batch_size=recipe.pairs_per_step,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_steps=int(recipe.warmup * options.steps),
            logging_steps=recipe.log_steps,
            save_steps=recipe.checkpoint_steps,
            save_total_limit=1,
            seed=recipe.seed,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(options.base)),
        callbacks=[turns],
    )
    return trainer, turns


def _in_turn(trainer: Trainer, mine: threading.Semaphore) -> None:
    mine.acquire()
    trainer.train()


def _speeds(
    seconds: Sequence[tuple[float, float]], counts: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Pairs a second of CPU and of the wall, of each chunk but the first, which warms up."""
    cpu, wall = zip(*seconds[1:], strict=True)
    return tuple(  # type: ignore[return-value]  # two, for there are two clocks
        [count / took for count, took in zip(counts[1:], of, strict=True)] for of in (cpu, wall)
    )


def _our_scores(model: Any) -> Any:
    def score(batch: Batch) -> Tensor:
        logits: Tensor = model(batch).logits
        return logits

    return score if model.eval() else None


def _plain_scores(model: Any) -> Any:
    def score(batch: Batch) -> Tensor:
        logits: Tensor = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
        ).logits
        return logits.squeeze(1)[batch.rows.clamp(min=0)]

    return score if model.eval() else None


@torch.inference_mode()
def _quality(sheets: Sequence[Sheet], score: Any, recipe: Recipe) -> float:
    """Mean nDCG@10 of the lists of which an order can be better."""
    return float(np.mean([*_gains(sheets, score, recipe)]))


def _gains(sheets: Sequence[Sheet], score: Any, recipe: Recipe) -> Iterator[float]:
    for batch in judging(sheets, recipe, typed=True):
        for scores, grades, rows in zip(score(batch), batch.grades, batch.rows, strict=True):
            there = rows >= 0
            if len(grades[there].unique()) > 1:
                order = scores[there].argsort(descending=True, stable=True)
                yield ndcg(grades[there][order].tolist())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--steps", type=int, default=300, help="of each, a multiple of 10")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    main()
