"""What a step of each kind of adversarial training costs, against a plain one.

    python -m tests.benchmarks.attacks --data DIR --base FOLDER [--rounds 12] [--json]

Steps of 16 pairs from home_depot's train part, on one thread, the kinds in turns on the same pairs:
reading, backward pass and optimiser. CPU time, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from export.models import PairModel
from export.onnx import load_trunk
from export.source import read_source
from export.tokenizer import PairTokenizer
from tests.benchmarks.measuring import show
from training import tuning
from training.adversary import Attack
from training.attacks import attacked
from training.batches import Batch, Steps
from training.dataset import labelled
from training.judgments import read_set
from training.model import RankingModel
from training.offset import begin_as_cosine
from training.recipe import Recipe
from training.sheets import Words, tokenised
from training.step import losses

ATTACKS: Final = {
    "none": Attack(),
    "fgm": Attack(kind="fgm"),
    "pgd, 2 steps": Attack(kind="pgd"),
    "pgd, 3 steps": Attack(kind="pgd", steps=3),
    "freelb, 2 steps": Attack(kind="freelb"),
    "freelb, 3 steps": Attack(kind="freelb", steps=3),
    "smart, 1 step": Attack(kind="smart", steps=1),
}


def main() -> None:
    """Time the kinds in turns; a row a kind, its ratio the median over rounds."""
    options = _parser().parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = Recipe(pairs_per_step=16, max_steps=options.rounds + 1)
    model, steps = _made(options.base, options.data, recipe)
    optimizer = tuning.optimiser(model.pair_model.trunk, model.pair_model.head, None, recipe)
    times: dict[str, list[float]] = defaultdict(list)
    parts: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(options.rounds + 1):
        for name, attack in ATTACKS.items():
            one = msgspec.structs.replace(recipe, attack=attack)
            start = time.process_time()
            found = _step(model, steps[turn], one, optimizer)
            if turn > 0:  # the first is warm-up
                times[name].append(time.process_time() - start)
                parts[name].append(found)
    show([_row(name, times, parts) for name in ATTACKS], as_json=options.json)


def _made(base: Path, data: Path, recipe: Recipe) -> tuple[RankingModel, Steps]:
    """The base as a pair model that begins as its cosine, in training, and what it reads."""
    source = read_source(base, base.name)
    pair_model = PairModel(load_trunk(source), "product")
    lists = labelled(read_set("home_depot", data, "train"))[:400]
    tokens = PairTokenizer(base, recipe.max_tokens)
    words = Words(source.template, source.template, tokens, {}, ())
    steps = Steps(tokenised(lists, words), words, recipe, typed=True)
    model = RankingModel(pair_model, None)
    begin_as_cosine(pair_model, steps)
    tuning.prepare(pair_model.trunk, recipe)
    return model.train(), steps


def _step(
    model: RankingModel, batch: Batch, recipe: Recipe, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    loss, parts = attacked(model, batch, lambda reading: losses(batch, reading, recipe), recipe)
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    return {name: float(each.detach()) for name, each in parts.items()}


def _row(
    name: str, times: dict[str, list[float]], parts: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    ratios = [one / plain for one, plain in zip(times[name], times["none"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    adversarial = [one["adversarial"] for one in parts[name] if "adversarial" in one]
    return {
        "attack": name,
        "ms": f"{1000 * statistics.median(times[name]):.0f}",
        "ratio": f"{statistics.median(ratios):.2f}",
        "quartiles": f"{low:.2f} to {high:.2f}",
        "relevance": f"{statistics.mean(one['relevance'] for one in parts[name]):.4f}",
        "adversarial": f"{statistics.mean(adversarial):.4f}" if adversarial else "",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--rounds", type=int, default=12, help="steps of each kind")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    main()
