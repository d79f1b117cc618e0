"""Fine-tuned on the train parts of two labelled sets, judged on their dev parts and on a third set.

    python tests/benchmarks/real_labels.py --data DIR --base FOLDER --out DIR [--seeds 1 2 3]
        [--steps 900] [--alphas 0 0.3] [--set learning_rate=2e-5 …] [--peer 'DIR-{seed}'] [--plot P]

Each training goes through `training.pipeline`: fine-tuned, exported, calibrated, and judged as a
worker would serve it. It ends as one JSON line a set and dial in `--out`/cells.jsonl, with the
values of every query; finished ones are skipped, and a killed one goes on. The tables hold the mean
over seeds, paired by query with the zero-shot encoder and, with `--peer`, with what `peer.py` left.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np

from tests.benchmarks.measuring import commit, finished, machine
from tests.benchmarks.peer import TRAINED_ON
from training import evaluate, pipeline, report, teach
from training.assess import side
from training.config import Config
from training.dataset import LabelledList, labelled, split_by_query
from training.evaluate import Judged, Run
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.logs import LogSettings
from training.recipe import Recipe
from training.rounds import Round
from training.service import zero_shot
from training.teach import ModelSettings
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, Tables, join
from worker.ranking.model import Model, Reading
from worker.ranking.rerank import rerank

DIALS: Final = (0.0, 0.1, 0.2, 0.3, 0.5)
METHOD: Final = "facets"
ZERO_SHOT: Final = "zero-shot"
PEER: Final = "CrossEncoderTrainer"
Sets: TypeAlias = Mapping[str, Sequence[GradedQuery]]
Runs: TypeAlias = Iterator[tuple[str, Run]]  # with the set that each is of


def main() -> None:
    """Train what is not trained yet, then show everything."""
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    _claim(options)
    cells = options.out / "cells.jsonl"
    sets = {name: worth_measuring(read_set(name, options.data), SETS[name].fewest) for name in SETS}
    base = side(zero_shot(_config(options, 0, 0.0), _say)).model
    remember(base, lambda: train_lists(options.data), options.out / "vectors.npz")
    _keep(cells, 0, ZERO_SHOT, lambda: _baselines(sets, base))
    for seed in options.seeds:
        for alpha in options.alphas:
            order = _named(alpha)
            _keep(cells, seed, order, lambda: _learned(options, seed, alpha, sets, base))  # noqa: B023
        if options.peer:
            found = json.loads((Path(options.peer.format(seed=seed)) / "scores.json").read_text())
            _keep(cells, seed, PEER, lambda: _peer(sets, base, found["scores"]))  # noqa: B023
    _show(finished(cells), options.plot)


def _claim(options: argparse.Namespace) -> None:
    """Note what the folder belongs to; another recipe or base in it would show old numbers."""
    asked = json.dumps({"base": str(options.base), "steps": options.steps, "set": options.set})
    note = options.out / "run.json"
    if not note.exists():
        note.write_text(asked)
    elif note.read_text() != asked:
        raise SystemExit(f"{note}: {note.read_text()}, asked for {asked}: give another --out")


def _named(alpha: float) -> str:
    return f"trained, alpha {alpha:g}" if alpha else "trained"


def _learned(options: argparse.Namespace, seed: int, alpha: float, sets: Sets, base: Model) -> Runs:
    """One training, from labels to a draft with its constants."""
    config = _config(options, seed, alpha)
    learn, kept = split_by_query(train_lists(options.data), config.judge.kept)
    lesson = pipeline.Lesson(learn, kept, {}, {"lists": len(learn), "kept": len(kept)})
    one = Round(options.out / (f"seed-{seed}" + (f"-alpha-{alpha:g}" if alpha else "")))
    model = Bundled(pipeline.taught(config, one, lesson, base, None, _say))
    _say(f"{_named(alpha)}, seed {seed}: {pipeline.trained_result(one).seconds / 60:.1f} minutes")
    for name, queries in sets.items():
        _say(
            f"{name}: the pair model's word counts by {_mean_share(queries, model):.2f} in the mean"
        )
    yield from _served(sets, model, _named(alpha))


def _mean_share(queries: Sequence[GradedQuery], model: Model) -> float:
    lists = rerank([join(query.event, Tables(), Dials()) for query in queries], model)
    return float(np.mean([one.pair_share for one in lists]))


def _served(sets: Sets, model: Model, order: str) -> Runs:
    for name, queries in sets.items():
        judged = evaluate.judge(queries, model)
        for dial in DIALS:
            yield name, Run(order, dial, evaluate.served(judged, model, METHOD, dial).values)


def _baselines(sets: Sets, base: Model) -> Runs:
    for name, queries in sets.items():
        for run in evaluate.baselines(evaluate.judge(queries, base), 0):
            yield name, run
    yield from _served(sets, base, ZERO_SHOT)


def _peer(sets: Sets, base: Model, scores: Mapping[str, Any]) -> Runs:
    """The order of the peer's scores, without a dial: it has none."""
    for name, queries in sets.items():
        rows = [
            each.measure(_best_first(scores[name][each.query.event.query_id], each))
            for each in evaluate.judge(queries, base)
        ]
        yield name, Run(PEER, None, np.array(rows))


def _best_first(scores: Mapping[str, float], judged: Judged) -> list[str]:
    return sorted(judged.gains, key=lambda item: -scores[item])


def remember(model: Model, lists: Callable[[], Sequence[LabelledList]], path: Path) -> None:
    """Let the base model know all texts of lists, which takes minutes; once known, they are in
    `path` for other runs."""
    if not path.exists():
        found = teach.vectors_of(lists(), model)
        np.savez(path.with_suffix(".part.npz"), texts=[*found], vectors=[*found.values()])
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as kept:
        for text, vector in zip(kept["texts"].tolist(), kept["vectors"], strict=True):
            model.readings[text] = Reading(vector)


def train_lists(data: Path) -> list[LabelledList]:
    """What is learned from: the train parts."""
    return [one for name in TRAINED_ON for one in labelled(read_set(name, data, "train"))]


def _keep(cells: Path, seed: int, order: str, make: Callable[[], Runs]) -> None:
    """All lines of an order's seed at once, where they are not there: a killed one leaves none."""
    if any((cell["seed"], cell["order"]) == (seed, order) for cell in finished(cells)):
        return
    about = {"seed": seed, "commit": commit(), "machine": machine()}
    lines = [
        json.dumps(
            {
                **about,
                "set": name,
                "order": run.method,
                "dial": run.dial,
                "values": np.round(run.values, 6).tolist(),
            }
        )
        for name, run in make()
    ]
    with cells.open("a") as stream:
        stream.write("".join(line + "\n" for line in lines))


def _show(cells: Sequence[Mapping[str, Any]], plot: Path | None) -> None:
    """Means over seeds, and their changes from the zero-shot order, with intervals over queries."""
    tables = {}
    for name in dict.fromkeys(cell["set"] for cell in cells):
        groups: dict[tuple[str, float | None], dict[int, Any]] = {}
        for cell in cells:
            if cell["set"] == name:
                at = (cell["order"], cell["dial"])
                groups.setdefault(at, {})[cell["seed"]] = np.array(cell["values"], float)
        runs = {at: Run(*at, np.mean([*of.values()], axis=0)) for at, of in groups.items()}
        plain = runs[ZERO_SHOT, 0.0]
        tables[name] = [evaluate.summary(run, plain, 0) for run in runs.values()]
        print(report.markdown(name, len(plain.values), tables[name]), end="\n\n")
        for order, dial in groups:
            if order.startswith("trained") and dial == 0.0 and (PEER, None) in groups:
                print(f"{order} {_apart(groups[order, dial], groups[PEER, None])}\n")
    if plot:
        report.plot(tables, plot)


def _apart(ours: Mapping[int, Any], peers: Mapping[int, Any]) -> str:
    """Seeds paired, then queries."""
    both = sorted(ours.keys() & peers.keys())
    change = np.mean([ours[seed] - peers[seed] for seed in both], axis=0)[:, 0]
    found = evaluate.interval(change, 0)
    numbers = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return f"minus {PEER}, nDCG@10, seeds {both}: {numbers}"


def _config(options: argparse.Namespace, seed: int, alpha: float) -> Config:
    said: dict[str, Any] = {"seed": seed, "max_steps": options.steps, "diversity_weight": alpha}
    for pair in options.set:
        name, _, value = pair.partition("=")
        try:
            said[name] = json.loads(value)
        except ValueError:  # a word
            said[name] = value
    work = str(options.out)
    return Config(
        work=work,
        model=ModelSettings(base=str(options.base)),
        logs=LogSettings(url=f"{work}/logs"),
        recipe=msgspec.convert(said, Recipe),
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.0], help="weights of L_div")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--set", action="append", default=[], metavar="DIAL=VALUE")
    parser.add_argument("--peer", help="folders of peer.py, with {seed} in the name")
    parser.add_argument("--plot", type=Path, help="nDCG against alpha-nDCG, a curve an order")
    return parser


if __name__ == "__main__":
    main()
