"""Each ingredient of the recipe on and off, on one fixed sample of human labels.

    python -m tests.benchmarks.ablation --data DIR --base FOLDER --work DIR --out FILE.jsonl
        [--seeds 1 2 3] [--only plain fgm …] [--show [--beside zero-shot]]

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
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.benchmarks.cells import told
from tests.benchmarks.measuring import finished
from tests.benchmarks.processes import asks, configured, fill, measured_here, say
from tests.benchmarks.real_labels import remember, train_lists
from training import pipeline
from training.assess import side
from training.dataset import LabelledList, split_by_query
from training.evaluate import interval, judge, served
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.perturb import PERTURBATIONS
from training.rounds import Round
from training.service import zero_shot
from training.views import WarmUpSettings
from training.warm_up import warm_up
from worker.events import Item
from worker.ranking.bundled import Bundled
from worker.ranking.model import Doubles, Model

MODULE: Final = "tests.benchmarks.ablation"
PAIRS: Final = 4_000
KEPT: Final = 0.1  # of the queries, for calibration and blend
PLAIN: Final = "plain"
ZERO_SHOT: Final = "zero-shot"
TITLES: Final = "titles"  # the encoder reads no more of an item
AS_WRITTEN: Final = "as written"  # misspelt queries too
BEFORE: Final = f"{TITLES}, {AS_WRITTEN}"  # the default until 27 Nov 2026
UNTRAINED: Final = (ZERO_SHOT, f"{ZERO_SHOT}, {TITLES}", f"{ZERO_SHOT}, {BEFORE}")
DESCRIBED: Final = ("title", "description:100")
CLEAN: Final = "clean"
SUITES: Final = ("query_typos", "word_order")
SAME: Final[Mapping[str, Any]] = {"epochs": 2, "threads": 1}
HIGHER: Final = 5e-4  # a rate for what learns beside a trunk that keeps still
TYPOS: Final = {"query_typos": 0.3, "title_typos": 0.1}
INGREDIENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    PLAIN: {},
    TITLES: {},
    BEFORE: {},
    "described pairs": {},
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
    "typos": {"augment": TYPOS},
    f"typos, {BEFORE}": {"augment": TYPOS},
    "word order": {"augment": {"word_order": 0.3}},
    "word dropout": {"augment": {"query_dropout": 0.1, "title_dropout": 0.1}},
    "units": {"augment": {"units": 0.3}},
    "synthetic": {"augment": {"synthetic": 0.5}},
    "hard negatives": {"augment": {"hard_negatives": 4}},
    "average": {"average": 0.98},
    "half of the way": {"interpolate": 0.5},
    "unlabelled": {"unlabelled": {"share": 1.0}},
    "base teaches": {"teacher": {"folder": "champion", "weight": 0.2}},
}
"""What each adds to SAME. The champion is the zero-shot base: nothing else serves here, but beside
unlabelled lists, the train parts' others without their grades: there what is plain does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the cells that are not there, one process each, and show them all."""
    options = _parser().parse_args(arguments)
    if options.cell:
        print(json.dumps(_cell(options.cell, options.seeds[0], options)))
        return 0
    wanted = [] if options.show else [(name, 0) for name in UNTRAINED]
    for seed in () if options.show else options.seeds:
        wanted += [(name, seed) for name in options.only]
    for name, seed in wanted:
        said = ["--cell", name, "--seeds", str(seed)]
        fill(MODULE, {"ingredient": name, "seed": seed}, said, options)
    _show(finished(options.out), options.beside)
    return 0


def learned(
    name: str, dials: Mapping[str, Any], seed: int, options: argparse.Namespace
) -> tuple[Model, float]:
    """The model of SAME and these dials, as a worker would serve it, and the CPU seconds that it
    took to learn and export it, which other work on the machine changes little; of a training that
    goes on, those of its last part. One of UNTRAINED is the base as it is."""
    titles = TITLES in name
    read = {
        "base": str(titles_alone(options) if titles else options.base),
        "spelling": AS_WRITTEN not in name,
        "fields": DESCRIBED if name == "described pairs" else ("title",),
    }
    config = configured(options, {**SAME, **dials, "seed": seed}, model=read)
    model: Model = side(zero_shot(config, say)).model
    lists = train_lists(options.data)
    chosen = sample(lists, PAIRS / (1.0 - KEPT))
    learn, kept = split_by_query(chosen, KEPT)
    remember(model, lambda: [*learn, *kept], options.work / f"vectors{'-titles' * titles}.npz")
    if name in UNTRAINED:
        return model, 0.0
    one = Round(options.work / "cells" / f"{name.replace(' ', '-')}-{seed}")
    lesson = pipeline.Lesson(learn, kept, {}, {"lists": len(learn), "kept": len(kept)})
    began = time.process_time()
    if "unlabelled" in dials:
        serves, _ = learned(PLAIN, {}, seed, options)
        began = time.process_time()
        asked = {id(each) for each in chosen}
        withheld = [each.search for each in lists if id(each) not in asked]
        lesson = pipeline.enlarged(config, one, lesson, withheld, (model, serves), say)
    taught = Bundled(pipeline.taught(config, one, lesson, model, None, say))
    return taught, time.process_time() - began


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
        **measured_here(),
        "ndcg": values,
    }


def titles_alone(options: argparse.Namespace) -> Path:
    """The base model as one that reads the titles of items and nothing else."""
    folder: Path = options.work / "titles-alone"
    if not folder.exists():
        settings = WarmUpSettings(fields=("title",))
        warm_up(settings, options.base, [Item(item_id="any", title="any")], folder, say)
    return folder


def sample(lists: Sequence[LabelledList], wanted: float) -> list[LabelledList]:
    """Lists of so many pairs, or of a few more, by the hash of their queries."""

    def drawn(one: LabelledList) -> bytes:
        return hashlib.sha256(f"sample {one.search.event.user_query}".encode()).digest()

    chosen: list[LabelledList] = []
    pairs = 0
    for one in sorted(lists, key=drawn):
        if pairs < wanted:
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


def _show(rows: Sequence[Mapping[str, Any]], beside: str) -> None:
    """An ingredient a line: means over seeds, paired query by query with what it stands beside; of
    that which is lost, how much less, beside another than the plain recipe."""
    plain = [row for row in rows if row["ingredient"] == beside]
    lost = f"lost to {{}}{'' if beside == PLAIN else f', less than {beside}'}"
    titles = [*SETS, f"from {beside}", *map(lost.format, SUITES), "time", "MB", "seeds"]
    print("| recipe | " + " | ".join(titles) + " |\n|---|" + "--:|" * len(titles))
    for name in (*UNTRAINED, *INGREDIENTS):
        of = [row for row in rows if row["ingredient"] == name]
        paired = [row for row in plain if row["seed"] in {each["seed"] for each in of}] or plain
        if not of or not plain:
            continue
        clean = _values(of, CLEAN)
        cells = [f"{np.mean([row['ndcg'][CLEAN][each] for row in of]):.4f}" for each in SETS]
        cells.append("" if name == beside else told(interval(clean - _values(paired, CLEAN), 0)))
        for suite in SUITES:
            gone = clean - _values(of, suite)
            theirs = _values(paired, CLEAN) - _values(paired, suite)
            cells.append(told(interval(gone if beside == PLAIN else theirs - gone, 0)))
        for cost in ("seconds", "megabytes"):
            whole = np.mean([row[cost] for row in paired])
            cells.append(f"{np.mean([row[cost] for row in of]) / whole:.2f}" if whole else "")
        print(f"| {name} | " + " | ".join([*cells, str(len(of))]) + " |")


def _values(rows: Sequence[Mapping[str, Any]], suite: str) -> Doubles:
    """[queries] of all sets, means over the rows."""
    each = [np.concatenate([row["ndcg"][suite][name] for name in SETS]) for row in rows]
    means: Doubles = np.mean(each, axis=0)
    return means


def _parser() -> argparse.ArgumentParser:
    parser = asks(MODULE)
    parser.add_argument("--only", nargs="+", choices=INGREDIENTS, default=list(INGREDIENTS))
    known = (*UNTRAINED, *INGREDIENTS)
    parser.add_argument("--beside", choices=known, default=PLAIN, help="what each is shown beside")
    parser.add_argument("--cell", choices=known, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
