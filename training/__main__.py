"""The command line of training. `python -m training evaluate --bundle DIR --data DIR --frontier`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from export.bundle import BundleError
from training import judgments, report
from training.evaluate import DIALS, Row, evaluate
from training.judgments import SETS, GradedQuery, worth_measuring
from worker.errors import PrismrankError
from worker.ranking.diversify import METHODS
from worker.ranking.encoder import Encoder
from worker.ranking.model import Model

Open = Callable[[Path, str], Model]


def open_bundle(folder: Path, variant: str) -> Model:
    """A bundle's encoder, on whatever device this machine has."""
    from export.session import open_session  # here: only a real bundle is worth onnxruntime

    return Encoder(open_session(folder, variant))


def main(arguments: Sequence[str] | None = None, open_model: Open = open_bundle) -> int:
    """Run one command; 0 where it did what was asked, 2 where it could not start."""
    options = _parser().parse_args(arguments)
    try:
        sets = _measurable(options)
        model = open_model(options.bundle, options.variant)
    except (PrismrankError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results: dict[str, list[Row]] = {}
    for name, queries in sets.items():
        print(f"{name}: judging {len(queries)} queries", file=sys.stderr)
        dials = DIALS if options.frontier else DIALS[:1]
        results[name] = evaluate(queries, model, options.methods, dials, options.seed)
    _show(options, model, sets, results)
    return 0


def _show(
    options: argparse.Namespace,
    model: Model,
    sets: dict[str, list[GradedQuery]],
    results: dict[str, list[Row]],
) -> None:
    if options.markdown or not options.json:
        for name, rows in results.items():
            print(report.markdown(name, len(sets[name]), rows), end="\n\n")
    if options.plot:
        report.plot(results, options.plot)
    if options.json:
        found = [
            {
                "set": name,
                "queries": len(sets[name]),
                "labels": judgments.digest(sets[name]),
                "rows": report.as_json(rows),
            }
            for name, rows in results.items()
        ]
        print(json.dumps({"bundle": model.digest, "seed": options.seed, "sets": found}))


def _measurable(options: argparse.Namespace) -> dict[str, list[GradedQuery]]:
    """The queries of every source that was asked for, those where an order matters."""
    sets = {path.name: worth_measuring(judgments.read_jsonl(path)) for path in options.judgments}
    for name in options.sets if options.data else ():
        queries = judgments.read_set(name, options.data, options.split)
        sets[name] = worth_measuring(queries, SETS[name].fewest)
    if not any(sets.values()):
        raise judgments.BadJudgments("nothing to judge: give --data DIR or --judgments FILE.jsonl")
    return {name: queries for name, queries in sets.items() if queries}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Prismrank's training.")
    commands = parser.add_subparsers(dest="command", required=True)
    judge = commands.add_parser("evaluate", help="what a bundle's lists are worth to people")
    judge.add_argument("--bundle", type=Path, required=True, help="the folder of the bundle")
    judge.add_argument("--variant", default="fp32", help="which of its graphs")
    judge.add_argument("--data", type=Path, help="the folder of the labelled sets")
    judge.add_argument("--sets", type=_names, default=list(SETS), help=",".join(SETS))
    judge.add_argument("--split", choices=("train", "dev", "all"), help="default: the set's own")
    judge.add_argument("--judgments", type=Path, nargs="+", default=[], help="JSONL with grades")
    judge.add_argument("--frontier", action="store_true", help="every dial, not only 0")
    judge.add_argument("--methods", type=_names, default=list(METHODS), help=",".join(METHODS))
    judge.add_argument("--seed", type=int, default=0, help="of the shuffles and the bootstrap")
    judge.add_argument("--markdown", action="store_true", help="tables (the default)")
    judge.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    judge.add_argument("--plot", type=Path, help="write the curves to this PNG")
    return parser


if __name__ == "__main__":
    sys.exit(main())
