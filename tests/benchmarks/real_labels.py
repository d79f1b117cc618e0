"""Fine-tuned on the train parts of two labelled sets, judged on their dev parts and on a third set.

    python tests/benchmarks/real_labels.py --data DIR --base FOLDER --out DIR [--seeds 1 2 3]
        [--steps 900] [--set diversity_weight=0.3 …] [--peer DIR-OF-SEED {seed}]

Each seed is trained, exported, calibrated and judged by `training.pipeline`, and ends as one JSON
line a set in `--out`/cells.jsonl, with the values of every query; finished ones are skipped, and a
killed one goes on. The table at the end holds all seeds against the zero-shot encoder and, with
`--peer`, against the scores that `peer.py` wrote, paired by query.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from export.session import open_session
from tests.benchmarks.measuring import commit, machine
from tests.benchmarks.peer import TRAINED_ON
from training import evaluate, pipeline
from training.assess import Bench, side
from training.config import Config
from training.dataset import labelled, split_by_query
from training.evaluate import MEASURES, Judged, Run
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.logs import LogSettings
from training.recipe import Recipe
from training.rounds import Round
from training.service import zero_shot
from training.teach import ModelSettings
from training.trial import Side

DIALS = (0.0, 0.1, 0.2, 0.3, 0.5)
METHOD = "facets"


def main() -> None:
    """Train what is not trained yet, then show everything."""
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells = options.out / "cells.jsonl"
    sets = {name: worth_measuring(read_set(name, options.data), SETS[name].fewest) for name in SETS}
    config = _config(options, options.seeds[0])
    base = side(zero_shot(config, _say))
    if not _done(cells, 0):
        _keep(cells, 0, _baselines(sets, base))
    for seed in options.seeds:
        if not _done(cells, seed):
            _keep(cells, seed, _learned(options, seed, sets, base))
        if options.peer and not _done(cells, -seed):
            folder = Path(str(options.peer).format(seed=seed))
            _keep(cells, -seed, _peer(sets, base, json.loads((folder / "scores.json").read_text())))
    _show([json.loads(line) for line in cells.read_text().splitlines()])


def _learned(
    options: argparse.Namespace, seed: int, sets: Mapping[str, list[GradedQuery]], base: Side
) -> Iterator[tuple[str, Run]]:
    """One seed, from labels to a sealed bundle, and the bundle before its judges."""
    config = _config(options, seed)
    train = [one for name in TRAINED_ON for one in labelled(read_set(name, options.data, "train"))]
    learn, kept = split_by_query(train, config.judge.kept)
    lesson = pipeline.Lesson(learn, kept, {}, {"lists": len(learn), "kept": len(kept)})
    one = Round(options.out / f"seed-{seed}")
    folder = pipeline.learned(config, one, lesson, Bench(base, base, config), None, _say)
    model = side(open_session(folder, device="cpu")).model
    for name, queries in sets.items():
        judged = evaluate.judge(queries, model)
        for dial in DIALS:
            yield name, evaluate.served(judged, model, METHOD, dial)


def _baselines(sets: Mapping[str, list[GradedQuery]], base: Side) -> Iterator[tuple[str, Run]]:
    for name, queries in sets.items():
        judged = evaluate.judge(queries, base.model)
        for run in evaluate.baselines(judged, 0):
            yield name, run
        for dial in DIALS:
            run = evaluate.served(judged, base.model, METHOD, dial)
            yield name, Run("zero-shot", dial, run.values)


def _peer(
    sets: Mapping[str, list[GradedQuery]], base: Side, found: Mapping[str, Any]
) -> Iterator[tuple[str, Run]]:
    """The order of the peer's scores, without a dial: it has none."""
    for name, queries in sets.items():
        scores = found["scores"][name]
        rows = [
            each.measure(_best_first(scores[each.query.event.query_id], each))
            for each in evaluate.judge(queries, base.model)
        ]
        yield name, Run("CrossEncoderTrainer", None, np.array(rows))


def _best_first(scores: Mapping[str, float], judged: Judged) -> list[str]:
    return sorted(judged.gains, key=lambda item: -scores[item])


def _keep(cells: Path, seed: int, runs: Iterator[tuple[str, Run]]) -> None:
    """All of a seed's lines at once: a killed one leaves none."""
    about = {"seed": seed, "commit": commit(), "machine": machine()}
    lines = [
        json.dumps(
            {
                **about,
                "set": name,
                "order": run.method if run.method != METHOD else "trained",
                "dial": run.dial,
                "values": np.round(run.values, 6).tolist(),
            }
        )
        for name, run in runs
    ]
    with cells.open("a") as stream:
        stream.write("".join(line + "\n" for line in lines))


def _done(cells: Path, seed: int) -> bool:
    lines = cells.read_text().splitlines() if cells.exists() else []
    return any(json.loads(line)["seed"] == seed for line in lines)


def _show(cells: Sequence[Mapping[str, Any]]) -> None:
    """Means over seeds, and the change from zero-shot at dial 0 with its interval over queries."""
    columns = [MEASURES.index("ndcg"), MEASURES.index("alpha_ndcg")]
    for name in dict.fromkeys(cell["set"] for cell in cells):
        groups: dict[tuple[str, float | None], list[Any]] = {}
        for cell in cells:
            if cell["set"] == name:
                groups.setdefault((cell["order"], cell["dial"]), []).append(cell["values"])
        plain = np.mean(groups["zero-shot", 0.0], axis=0)
        print(f"\n{name}, {len(plain)} queries: nDCG@10, alpha-nDCG@10, change from zero-shot")
        for (order, dial), values in groups.items():
            mean = np.mean(values, axis=0)
            parts = []
            for column in columns:
                change = evaluate.interval((mean - plain)[:, column], 0)
                level = float(np.nanmean(mean[:, column]))
                parts.append(
                    f"{level:.4f} {change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
                )
            at = "" if dial is None else f"{dial:g}"
            print(f"{order:>20} {at:>4} x{len(values)}  " + "   ".join(parts))
        _against_peer(groups)


def _against_peer(groups: Mapping[tuple[str, float | None], list[Any]]) -> None:
    """Ours minus the peer, seeds paired, then queries."""
    peers, ours = groups.get(("CrossEncoderTrainer", None)), groups.get(("trained", 0.0))
    if peers and ours:
        both = min(len(peers), len(ours))
        change = np.mean(np.array(ours[:both]) - np.array(peers[:both]), axis=0)[:, 0]
        found = evaluate.interval(change, 0)
        numbers = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        print(f"ours minus CrossEncoderTrainer, nDCG@10, {both} seeds: {numbers}")


def _config(options: argparse.Namespace, seed: int) -> Config:
    said: dict[str, Any] = {"seed": seed, "max_steps": options.steps}
    for pair in options.set:
        name, _, value = pair.partition("=")
        said[name] = json.loads(value) if value[:1] in '0123456789"[ntf-' else value
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
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--set", action="append", default=[], metavar="DIAL=VALUE")
    parser.add_argument("--peer", help="folders of peer.py, with {seed} in the name")
    return parser


if __name__ == "__main__":
    main()
