"""`python -m training evaluate`: what a bundle's lists are worth to people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

from export.session import open_session
from training import judgments, report
from training.commands import say
from training.evaluate import DIALS, Row, nobody
from training.evaluate import evaluate as judge
from training.judgments import SETS, GradedQuery, worth_measuring
from training.peers import by_peers
from training.robustness import Shaken, shake
from worker.ranking.bundled import Bundled
from worker.ranking.model import Model


def evaluate(options: argparse.Namespace) -> int:
    """Every measure of a bundle's lists, on human labels."""
    sets = _measurable(options)
    model = Bundled(open_session(options.bundle, options.variant))
    results: dict[str, list[Row]] = {}
    shaken: dict[str, list[Shaken]] = {}
    peers = by_peers if options.peers else nobody
    for name, queries in sets.items():
        say(f"{name}: judging {len(queries)} queries")
        dials = DIALS if options.frontier else DIALS[:1]
        results[name] = judge(queries, model, options.methods, dials, options.seed, peers)
        if options.robustness:
            shaken[name] = shake(queries, model, options.seed)
    _show(options, model, sets, results, shaken)
    return 0


def _measurable(options: argparse.Namespace) -> dict[str, list[GradedQuery]]:
    """The queries of every source that was asked for, those where an order matters."""
    sets = {path.name: worth_measuring(judgments.read_jsonl(path)) for path in options.judgments}
    for name in options.sets if options.data else ():
        queries = judgments.read_set(name, options.data, options.split)
        sets[name] = worth_measuring(queries, SETS[name].fewest)
    if not any(sets.values()):
        raise judgments.BadJudgments("nothing to judge: give --data DIR or --judgments FILE.jsonl")
    return {name: queries for name, queries in sets.items() if queries}


def _show(
    options: argparse.Namespace,
    model: Model,
    sets: Mapping[str, Sequence[GradedQuery]],
    results: Mapping[str, Sequence[Row]],
    shaken: Mapping[str, Sequence[Shaken]],
) -> None:
    if options.markdown or not options.json:
        for name, rows in results.items():
            print(report.markdown(name, len(sets[name]), rows), end="\n\n")
            if name in shaken:
                print(report.robustness(name, shaken[name]), end="\n\n")
    if options.plot:
        report.plot(results, options.plot)
    if options.json:
        found = [
            {
                "set": name,
                "queries": len(sets[name]),
                "labels": judgments.digest(sets[name]),
                "rows": report.as_json(rows),
                **({"robustness": report.robustness_json(shaken[name])} if shaken else {}),
            }
            for name, rows in results.items()
        ]
        print(json.dumps({"bundle": model.digest, "seed": options.seed, "sets": found}))
