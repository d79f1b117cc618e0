"""Students of fewer layers: what a cheaper pair model loses, and what it gets from a teacher.

    python -m tests.benchmarks.distilled --data DIR --base FOLDER --work DIR --out FILE.jsonl
        [--seeds 1] [--only '3 layers, labels' …] [--show]

The teacher is the default recipe, trained on the sample of `ablation`; each student is trained on
the same lists for as long, with fewer of the base's layers, from grades alone or from the teacher's
logits too. Beside them stand what costs nothing to make, the teacher reading only the first stage's
best half or third of each list, and the base without a pair model, which no student can cost less
than. All are judged as a worker would serve them, at dial 0; those with a pair model by its logits
alone too, where none hides behind the encoder's cosine. What a list of 100 candidates costs, of
which the pair model reads 64, depends on the layers and not on what was learned: it is a cell of
its own, in CPU time, in turns with the teacher. `new items` adds what reading 100 of them takes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import numpy as np
import torch

from export.draft import TrainedOrder, draft
from export.session import open_session
from export.source import read_source
from tests.benchmarks.ablation import ZERO_SHOT, learned
from tests.benchmarks.cells import told
from tests.benchmarks.drift_periods import ALONE, SERVED, alone
from tests.benchmarks.measuring import WARM_UP, finished, medians_us
from tests.benchmarks.processes import asks, configured, fill, measured_here, say
from training.beginning import first_model
from training.dataset import LabelledList, labelled
from training.evaluate import Run, interval, judge, measured
from training.fine_tune import MODEL
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.recipe import Recipe
from training.service import zero_shot
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, JoinedSearch, Tables, join
from worker.ranking.model import Doubles, Model
from worker.ranking.rerank import embed, rerank
from worker.ranking.text import item_text

MODULE: Final = "tests.benchmarks.distilled"
TEACHER: Final = "6 layers, labels"
LEARNED_FROM: Final = ("labels", "margin_mse", "kl")
READ: Final[Mapping[str, int]] = {f"{TEACHER}, reading half": 2, f"{TEACHER}, reading a third": 3}
COSTS: Final = "costs"
CELLS: Final = (
    TEACHER,
    ZERO_SHOT,
    *READ,
    *(f"{layers} layers, {each}" for layers in (3, 2) for each in LEARNED_FROM),
    *(f"6 layers, {each}" for each in LEARNED_FROM[1:]),
    COSTS,
)
LAYERS: Final = 6  # of the teacher, all that the base has
SHAPES: Final[Mapping[str, tuple[int | None, int]]] = {  # layers, and one of how many is read
    ZERO_SHOT: (None, 1),
    **{name: (LAYERS, part) for name, part in READ.items()},
    **{f"{layers} layers": (layers, 1) for layers in (LAYERS, 3, 2)},
}
CANDIDATES: Final = 100
TIMED: Final = 5  # lists, each of a query of its own
SHOP: Final = "home_depot"  # whose items the timed lists are of


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the cells that are not there, one process each, and show them all."""
    options = _parser().parse_args(arguments)
    if options.cell:
        make = _costs if options.cell == COSTS else _cell
        print(json.dumps(make(options.cell, options.seeds[0], options)))
        return 0
    for name, seed in [] if options.show else [(n, s) for s in options.seeds for n in options.only]:
        said = ["--cell", name, "--seeds", str(seed)]
        fill(MODULE, {"student": name, "seed": seed}, said, options)
    _show(finished(options.out))
    return 0


def dials(name: str, teacher: Path) -> dict[str, Any]:
    """What a cell's recipe says besides what all have; `teacher` is the folder of who teaches."""
    if name in (ZERO_SHOT, *READ):
        return {}
    layers, source = name.split(" layers, ")
    found: dict[str, Any] = {} if int(layers) == LAYERS else {"layers": int(layers)}
    if source in LEARNED_FROM[1:]:
        found["teacher"] = {"folder": str(teacher), "loss": source}
    return found


def _cell(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One student, trained where it is not yet, and judged."""
    student, seconds = _student(name, seed, options)
    part = READ.get(name, 1)
    queries = {each: _queries(each, options.data) for each in SETS}
    values = {SERVED: {each: served(of, student, part) for each, of in queries.items()}}
    if student.pairs is not None and part == 1:
        values[ALONE] = {each: by_pairs(of, student) for each, of in queries.items()}
    return {
        "student": name,
        "recipe": dials(name, Path(TEACHER)),
        "seed": seed,
        "seconds": round(seconds, 1),
        **measured_here(),
        "ndcg": values,
    }


def _costs(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """What the teacher, fewer layers, and reading less cost beside the teacher. Nothing is trained
    for it: what was learned makes a model no slower."""
    pool = labelled(_queries(SHOP, options.data))
    base = zero_shot(configured(options, {}), say).folder
    found = {}
    for each, (layers, part) in SHAPES.items():
        bundle = base if layers is None else shaped(layers, options.base, options.work / "shapes")
        teacher = shaped(LAYERS, options.base, options.work / "shapes")
        ours, peer = (Bundled(open_session(one, device="cpu")) for one in (bundle, teacher))
        found[each] = {**costs(ours, peer, pool, part), "megabytes": megabytes(bundle)}
        say(f"{each}: {found[each]}")
    items = items_ms(Bundled(open_session(base, device="cpu")), pool)
    return {"student": name, "seed": seed, **measured_here(), "items, ms": items, "costs": found}


def shaped(layers: int, base: Path, folder: Path) -> Path:
    """A bundle whose pair model has so many of the base's layers, and has learned nothing."""
    out = folder / f"{layers}-layers"
    if not out.exists():
        with TemporaryDirectory() as temporary:
            trained = Path(temporary) / "trained"
            first = first_model(Recipe(layers=layers), read_source(base, base.name), (), None)
            torch.nn.init.ones_(first.pair_model.head.weight)  # a cosine's: equal logits prove none
            first.save(trained)
            draft(TrainedOrder(base=str(base), trained=trained), out, say)
    return out


def _student(name: str, seed: int, options: argparse.Namespace) -> tuple[Model, float]:
    """The model of a cell as a worker would serve it, and the seconds of its training."""
    taught = options.work / "cells" / f"{TEACHER.replace(' ', '-')}-{seed}" / "trained" / MODEL
    return learned(TEACHER if name in READ else name, dials(name, taught), seed, options)


def served(queries: Sequence[GradedQuery], model: Model, part: int = 1) -> list[float]:
    """nDCG@10 of each query at dial 0, where one of `part` candidates is read by the pair model."""
    searches = [
        join(query.event, query.tables, _reading(len(query.event.candidates), part))
        for query in queries
    ]
    orders = ([item.item_id for item in one.items] for one in rerank(searches, model))
    return _ndcg(measured(judge(queries, model), "facets", 0.0, orders))


def by_pairs(queries: Sequence[GradedQuery], model: Model) -> list[float]:
    """nDCG@10 of each query in the order of the pair model's logits."""
    return _ndcg(alone(judge(queries, model), model))


def _ndcg(run: Run) -> list[float]:
    values: list[float] = np.round(run.values[:, 0], 4).tolist()
    return values


def costs(
    student: Model, teacher: Model, pool: Sequence[LabelledList], part: int = 1
) -> dict[str, float]:
    """CPU milliseconds of scoring one list of a query that was never asked, where every item was
    read before, of the student and of the teacher, another model;."""
    ours, peer = (
        _scored(model, list(lists(pool, each))) for model, each in ((student, part), (teacher, 1))
    )
    clock = time.process_time
    ours_us, peer_us = medians_us(partial(next, ours), partial(next, peer), TIMED, clock)
    return {"ms": round(ours_us / 1e3, 1), "teacher's ms": round(peer_us / 1e3, 1)}


def items_ms(model: Model, pool: Sequence[LabelledList]) -> float:
    """CPU milliseconds of reading the items of one list that were never read."""
    searches = list(lists(pool, 1))
    texts = [[item_text(e.item, model.template) for e in one.entries] for one in searches]
    fresh = iter(texts)

    def read() -> None:
        model.readings.clear()
        embed(next(fresh), model)

    return round(medians_us(read, lambda: None, TIMED, time.process_time)[0] / 1e3, 1)


def _scored(model: Model, searches: Sequence[JoinedSearch]) -> Iterator[object]:
    """A list at a time; all items were read before."""
    entries = [entry for search in searches for entry in search.entries]
    embed([item_text(entry.item, model.template) for entry in entries], model)
    for search in searches:
        yield rerank([search], model)


def lists(pool: Sequence[LabelledList], part: int) -> Iterator[JoinedSearch]:
    """As many as are timed: a query of the pool, and candidates of it by lot."""
    items = {e.item.item_id: e.item for one in pool for e in one.search.entries}
    chance = Random(0)
    read = Dials(diversity=0.0).pair_candidates
    for one in pool[: TIMED + WARM_UP]:
        drawn = tuple(chance.sample(list(items.values()), min(CANDIDATES, len(items))))
        event = msgspec.structs.replace(one.search.event, candidates=drawn, k=None, policy=None)
        yield join(event, Tables(), _reading(min(len(drawn), read), part))


def _reading(count: int, part: int) -> Dials:
    """The dials under which the pair model reads one of `part` of so many candidates."""
    return Dials(diversity=0.0, pair_candidates=math.ceil(count / part))


def megabytes(folder: Path) -> float:
    """Of a bundle's float32 graphs."""
    size = sum(each.stat().st_size for each in (folder / "onnx").iterdir())
    return round(size / 1e6, 1)


def _queries(name: str, data: Path) -> list[GradedQuery]:
    return list(worth_measuring(read_set(name, data), SETS[name].fewest))


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    """A student a line: means over seeds, paired with the teacher query by query."""
    titles = [*SETS, "from the teacher", "pair model alone", "from the teacher's"]
    titles += ["CPU time, known items", "new items", "MB", "seeds"]
    print("| student | " + " | ".join(titles) + " |\n|---|" + "--:|" * len(titles))
    timed = next((row for row in rows if row["student"] == COSTS), {})
    for name in CELLS[:-1]:
        of = [row for row in rows if row["student"] == name]
        seeds = {row["seed"] for row in of}
        best = [row for row in rows if row["student"] == TEACHER and row["seed"] in seeds]
        if not best:
            continue
        cells = [f"{np.mean([row['ndcg'][SERVED][each] for row in of]):.4f}" for each in SETS]
        cells.append(_apart(of, best, SERVED))
        own = ALONE in of[0]["ndcg"]
        cells.append(f"{_values(of, ALONE).mean():.4f}" if own else "")
        cells.append(_apart(of, best, ALONE) if own else "")
        cells += _cost(name, timed)
        print(f"| {name} | " + " | ".join([*cells, str(len(of))]) + " |")


def _cost(name: str, timed: Mapping[str, Any]) -> list[str]:
    """The shares of the teacher's time, and megabytes; nothing where they were not measured."""
    if not timed:
        return ["", "", ""]
    known = timed["costs"]
    one = known.get(name) or known[name.partition(",")[0]]
    items = timed["items, ms"]
    ours, peer = one["ms"], one["teacher's ms"]
    return [
        f"{ours / peer:.2f}",
        f"{(ours + items) / (peer + items):.2f}",
        f"{one['megabytes']:.0f}",
    ]


def _apart(of: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], way: str) -> str:
    """The change from the teacher, and nothing for the teacher itself."""
    if of[0]["student"] == TEACHER:
        return ""
    return told(interval(_values(of, way) - _values(best, way), 0))


def _values(rows: Sequence[Mapping[str, Any]], way: str) -> Doubles:
    """[queries] of all sets, means over the rows."""
    each = [np.concatenate([row["ndcg"][way][name] for name in SETS]) for row in rows]
    means: Doubles = np.mean(each, axis=0)
    return means


def _parser() -> argparse.ArgumentParser:
    parser = asks(MODULE)
    parser.set_defaults(seeds=[1])
    parser.add_argument("--only", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--cell", choices=CELLS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
