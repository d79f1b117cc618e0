"""Each ingredient of the recipe on and off, on one fixed sample of human labels.

    python -m tests.benchmarks.ablation --data DIR --base FOLDER --work DIR --out FILE.jsonl
        [--seeds 1 2 3] [--only plain fgm …] [--show]

Some 4,000 pairs of the train parts, the same for all, are learned from for two epochs; each model
goes through `training.pipeline` and is judged as a worker would serve it, at dial 0, on the dev
parts and on chorus_icecat, of which nothing was learned: as it is written, with a typo in every
query, and with the query's words in another order. A cell is a process of its own, and one JSON
line with the values of every query; a finished one is skipped, and one that was killed goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from tests.benchmarks.measuring import commit, finished, machine
from tests.benchmarks.real_labels import remember, train_lists
from training import pipeline
from training.assess import side
from training.config import Config
from training.dataset import LabelledList, split_by_query
from training.evaluate import interval, judge, served
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.logs import LogSettings
from training.perturb import PERTURBATIONS
from training.recipe import Recipe
from training.rounds import Round
from training.service import zero_shot
from training.teach import ModelSettings
from worker.ranking.bundled import Bundled
from worker.ranking.model import Doubles, Model

PAIRS: Final = 4_000
KEPT: Final = 0.1  # of the queries, for calibration and blend
PLAIN: Final = "plain"
ZERO_SHOT: Final = "zero-shot"
CLEAN: Final = "clean"
SUITES: Final = ("query_typos", "word_order")
SAME: Final[Mapping[str, Any]] = {"epochs": 2, "threads": 1}
HIGHER: Final = 5e-4  # a rate for what learns beside a trunk that keeps still
INGREDIENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    PLAIN: {},
    "listnet": {"loss": "listnet"},
    "lambda": {"loss": "lambda"},
    "frozen": {"tuning": "frozen"},
    "layer decay": {"layer_decay": 0.8},
    **{
        kind: {"tuning": kind, "learning_rate": HIGHER}
        for kind in ("lora", "rslora", "dora", "adalora", "adapters")
    },
    "ia3": {"tuning": "ia3", "learning_rate": 10 * HIGHER},
    **{kind: {"attack": {"kind": kind}} for kind in ("fgm", "pgd", "freelb", "smart")},
    "typos": {"augment": {"query_typos": 0.3, "title_typos": 0.1}},
    "word order": {"augment": {"word_order": 0.3}},
    "word dropout": {"augment": {"query_dropout": 0.1, "title_dropout": 0.1}},
    "units": {"augment": {"units": 0.3}},
    "hard negatives": {"augment": {"hard_negatives": 4}},
    "average": {"average": 0.98},
    "half of the way": {"interpolate": 0.5},
    "base teaches": {"teacher": {"folder": "champion", "weight": 0.2}},
}
"""What each adds to SAME. The champion is the zero-shot base: nothing else serves here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the cells that are not there, one process each, and show them all."""
    options = _parser().parse_args(arguments)
    if options.cell:
        print(json.dumps(_cell(options.cell, options.seeds[0], options)))
        return 0
    wanted = [] if options.show else [(ZERO_SHOT, 0)]
    for seed in () if options.show else options.seeds:
        wanted += [(name, seed) for name in options.only]
    make("tests.benchmarks.ablation", wanted, options)
    _show(finished(options.out))
    return 0


def make(module: str, wanted: Sequence[tuple[str, int]], options: argparse.Namespace) -> None:
    """Each cell that is not there yet, by `module --cell NAME --seeds SEED`, a process each."""
    for name, seed in wanted:
        if any((row["ingredient"], row["seed"]) == (name, seed) for row in finished(options.out)):
            continue
        said = ["--cell", name, "--seeds", str(seed), *_places(options)]
        child = subprocess.run(
            [sys.executable, "-m", module, *said], stdout=subprocess.PIPE, text=True, check=True
        )
        with options.out.open("a") as stream:
            stream.write(child.stdout.splitlines()[-1] + "\n")


def learned(
    name: str, dials: Mapping[str, Any], seed: int, options: argparse.Namespace
) -> tuple[Model, float]:
    """The model of SAME and these dials, as a worker would serve it, and the seconds of training;
    ZERO_SHOT is the base as it is. What was trained before is found in `options.work`."""
    config = Config(
        work=str(options.work),
        model=ModelSettings(base=str(options.base)),
        logs=LogSettings(url=str(options.work / "logs")),
        recipe=msgspec.convert({**SAME, **dials, "seed": seed}, Recipe),
    )
    model: Model = side(zero_shot(config, say)).model
    learn, kept = split_by_query(sample(train_lists(options.data)), KEPT)
    remember(model, lambda: [*learn, *kept], options.work / "vectors.npz")
    if name == ZERO_SHOT:
        return model, 0.0
    one = Round(options.work / "cells" / f"{name.replace(' ', '-')}-{seed}")
    lesson = pipeline.Lesson(learn, kept, {}, {"lists": len(learn), "kept": len(kept)})
    taught = Bundled(pipeline.taught(config, one, lesson, model, None, say))
    return taught, pipeline.trained_result(one).seconds


def _cell(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training, or the base model as it is, judged."""
    added = INGREDIENTS.get(name, {})
    model, seconds = learned(name, added, seed, options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    began = time.monotonic()
    values = {suite: _judged(suite, model, options.data) for suite in (CLEAN, *SUITES)}
    say(f"{name}, seed {seed}: judged in {time.monotonic() - began:.0f} s")
    return {
        "ingredient": name,
        "recipe": {**SAME, **added},
        "seed": seed,
        "seconds": round(seconds, 1),
        "megabytes": memory,
        "commit": commit(),
        "machine": machine(),
        "ndcg": values,
    }


def sample(lists: Sequence[LabelledList]) -> list[LabelledList]:
    """Lists of some PAIRS pairs beyond those that are kept, by the hash of their queries."""

    def drawn(one: LabelledList) -> bytes:
        return hashlib.sha256(f"sample {one.search.event.user_query}".encode()).digest()

    chosen: list[LabelledList] = []
    pairs = 0
    for one in sorted(lists, key=drawn):
        if pairs < PAIRS / (1.0 - KEPT):
            chosen.append(one)
            pairs += len(one.grades)
    return chosen


def _judged(suite: str, model: Model, data: Path) -> dict[str, list[float]]:
    """nDCG@10 of every query of each set."""
    found = {}
    for name, columns in SETS.items():
        queries: Sequence[GradedQuery] = worth_measuring(read_set(name, data), columns.fewest)
        if suite != CLEAN:
            queries = [PERTURBATIONS[suite](query, 0) for query in queries]
        run = served(judge(queries, model), model, "facets", 0.0)
        found[name] = np.round(run.values[:, 0], 4).tolist()
    return found


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    """An ingredient a line: means over seeds, paired with the plain recipe query by query."""
    seeds = {row["seed"] for row in rows if row["ingredient"] == PLAIN}
    plain = [row for row in rows if row["ingredient"] == PLAIN]
    titles = [*SETS, "from plain", *(f"lost to {suite}" for suite in SUITES), "time", "MB", "seeds"]
    print("| recipe | " + " | ".join(titles) + " |\n|---|" + "--:|" * len(titles))
    for name in (ZERO_SHOT, *INGREDIENTS):
        of = [row for row in rows if row["ingredient"] == name]
        paired = [row for row in plain if row["seed"] in {each["seed"] for each in of}] or plain
        if not of or not seeds:
            continue
        clean = _values(of, CLEAN)
        cells = [f"{np.mean([row['ndcg'][CLEAN][each] for row in of]):.4f}" for each in SETS]
        cells.append("" if name == PLAIN else _interval(clean - _values(paired, CLEAN)))
        cells += [_interval(clean - _values(of, suite)) for suite in SUITES]
        for cost in ("seconds", "megabytes"):
            share = np.mean([row[cost] for row in of]) / np.mean([row[cost] for row in paired])
            cells.append(f"{share:.2f}")
        print(f"| {name} | " + " | ".join([*cells, str(len(of))]) + " |")


def _values(rows: Sequence[Mapping[str, Any]], suite: str) -> Doubles:
    """[queries] of all sets, means over the rows."""
    each = [np.concatenate([row["ndcg"][suite][name] for name in SETS]) for row in rows]
    means: Doubles = np.mean(each, axis=0)
    return means


def _interval(values: Doubles) -> str:
    found = interval(values, 0)
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _places(options: argparse.Namespace) -> list[str]:
    names = ("data", "base", "work", "out")
    return [word for name in names for word in (f"--{name}", str(getattr(options, name)))]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    return parser("tests.benchmarks.ablation", ZERO_SHOT, tuple(INGREDIENTS))


def parser(module: str, first: str, names: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a benchmark of cells; `first` is made whatever is asked for."""
    made = argparse.ArgumentParser(prog=f"python -m {module}")
    made.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    made.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    made.add_argument("--work", type=Path, required=True, help="where trainings go on from")
    made.add_argument("--out", type=Path, required=True, help="the finished cells")
    made.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    made.add_argument("--only", nargs="+", choices=names, default=list(names))
    made.add_argument("--show", action="store_true", help="the table of what is there")
    made.add_argument("--cell", choices=dict.fromkeys((first, *names)), help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    sys.exit(main())
