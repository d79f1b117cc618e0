"""What fairness between brands costs: plain training, and each of its three remedies.

    python -m tests.benchmarks.fair --data DIR --base FOLDER --work DIR --out FILE.jsonl
        [--seeds 1 2 3] [--only reweighed exposure …] [--show]

Trained and resumed as the cells of `tests.benchmarks.ablation`, on its sample of human labels. Each
remedy is judged beside the plain model of its seed as the gate judges a challenger beside its
champion: at dial 0, on every set, brands of 20 candidates or more compared, queries drawn again for
both. A cell is one JSON line: [plain, remedy, change, low, high] of relevance (nDCG@10) and of each
measure of fairness (more is better), and chance's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.ablation import learned
from tests.benchmarks.measuring import finished
from tests.benchmarks.processes import asks, fill, measured_here, say
from training.equity import Fairness, Groups
from training.evaluate import DEPTH, MEASURES, Judged, baselines, interval, judge, served
from training.fairness import Pools, ways
from training.gate import FAIR, GateSettings
from training.judgments import SETS, read_set, worth_measuring
from training.parity import Two, parity_checks
from worker.ranking.model import Model

MODULE: Final = "tests.benchmarks.fair"
PLAIN: Final = "plain"
RELEVANCE: Final = "relevance"
GROUPS: Final = [{"field": "brand"}]
BY_BRAND: Final = Fairness(groups=(Groups(field="brand"),))
REMEDIES: Final[Mapping[str, Mapping[str, Any]]] = {
    PLAIN: {},
    "exposure": {"fairness": {"groups": GROUPS, "exposure": 0.5}},
    "reweighed": {"fairness": {"groups": GROUPS, "reweigh": True}},
    "opportunity": {"fairness": {"groups": GROUPS, "opportunity": 0.5}},
    "exposure by merit": {"fairness": {"groups": GROUPS, "exposure": 0.5, "due": "merit"}},
}
"""Their weights were not tuned."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the cells that are not there, one process each, and show them all."""
    options = _parser().parse_args(arguments)
    if options.cell:
        print(json.dumps(_cell(options.cell, options.seeds[0], options)))
        return 0
    wanted = [] if options.show else [(name, seed) for seed in options.seeds for name in REMEDIES]
    for name, seed in wanted:
        if name in (PLAIN, *options.only):
            said = ["--cell", name, "--seeds", str(seed)]
            fill(MODULE, {"ingredient": name, "seed": seed}, said, options)
    _show(finished(options.out))
    return 0


def _cell(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One remedy beside the plain model of its seed, which is found trained or trained first."""
    plain, seconds = learned(PLAIN, {}, seed, options)
    model = plain
    if name != PLAIN:
        model, seconds = learned(name, REMEDIES[name], seed, options)
    return {
        "ingredient": name,
        "recipe": REMEDIES[name],
        "seed": seed,
        "seconds": round(seconds, 1),
        **measured_here(),
        "sets": {each: _beside(plain, model, each, options.data) for each in SETS},
    }


def _beside(plain: Model, model: Model, name: str, data: Path) -> dict[str, Any]:
    """What is measured of the dev queries of a set, and how many there are."""
    queries = worth_measuring(read_set(name, data), SETS[name].fewest)
    say(f"judging on {len(queries)} queries of {name}")
    judged = judge(queries, plain)
    old, new = (served(judged, each, "facets", 0.0) for each in (plain, model))
    ndcg = [run.values[:, MEASURES.index("ndcg")] for run in (old, new)]
    change = interval(ndcg[1] - ndcg[0], 0)
    rows = {RELEVANCE: [*(each.mean() for each in ndcg), change.mean, change.low, change.high]}
    (pools,) = ways(queries, BY_BRAND)
    two = Two(old.lists[0], new.lists[0], DEPTH, 0)
    for check in parity_checks(pools, two, name, "", GateSettings(least_queries=1)):
        numbers = (check.champion, check.challenger, check.change, check.low, check.high)
        if check.change is not None:
            rows[check.measure] = list(numbers)
    return {
        "queries": len(queries),
        "brands": len(set(pools.groups) - {None}),
        "chance": _chance(judged, pools),
        **{measure: [round(float(each), 4) for each in row] for measure, row in rows.items()},
    }


def _chance(judged: Sequence[Judged], pools: Pools) -> dict[str, float | None]:
    """What orders by lot are worth: no order of these pools is wholly even."""
    lot = next(iter(baselines(judged, 0)))
    values = pools.spread(lot.lists, DEPTH).values
    found: dict[str, float | None] = {}
    for name in FAIR:
        value = values[name]
        sign = 1.0 if name == "exposure_parity" else -1.0
        found[name] = None if value is None else round(sign * value, 4)
    return found


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each set and cell; changes are from plain."""
    titles = ["set", "remedy", "seed", "nDCG@10", *(name.replace("_", " ") for name in FAIR)]
    print(f"| {' | '.join(titles)} | seconds |\n|---|---|" + "--:|" * (len(titles) - 1))
    for name in SETS:
        for row in rows:
            found = row["sets"][name]
            cells = [_told(found.get(each)) for each in (RELEVANCE, *FAIR)]
            line = [name, row["ingredient"], str(row["seed"]), *cells, f"{row['seconds']:.0f}"]
            print(f"| {' | '.join(line)} |")


def _told(numbers: Sequence[float] | None) -> str:
    if numbers is None:
        return "-"
    _, value, change, low, high = numbers
    if low == high == 0.0:
        return f"{value:.4f}"
    return f"{value:.4f} {change:+.4f} [{low:+.4f}, {high:+.4f}]"


def _parser() -> argparse.ArgumentParser:
    parser = asks(MODULE)
    parser.add_argument("--only", nargs="+", choices=REMEDIES, default=list(REMEDIES))
    parser.add_argument("--cell", choices=REMEDIES, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
