"""Relevance against diversity: our method and pyversity's five, from the same zero-shot scores.

    python -m tests.benchmarks.frontier --data DIR --bundle DIR [--out FILE] [--plot PNG] [--json]

Each family of lists runs over its dial. On one half of the queries (by hash of their words) the
dial is chosen that gives the most alpha-nDCG@10 for at most 2 % of nDCG@10, ours among ours and the
peer's among all of the peer's methods; the other half is what is reported, and the halves then
change places. `both` has one dial for the queries of both sets. Hypervolume is the area that a
curve dominates in the plane of the two measures, as a share of the box of all curves. Intervals are
paired bootstraps over queries. The rows `without` take a field from what our method is told: they
say where its gain comes from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from export.session import open_session
from tests.benchmarks.measuring import commit, machine
from tests.benchmarks.measuring import show as show_rows
from training import report
from training.evaluate import Judged, Run, judge, served, summary
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.peers import PEERS, by_peers, named
from worker.ranking.bundled import Bundled
from worker.ranking.model import Doubles, Model

JUDGED: Final = ("chorus_icecat", "crowdflower")
BOTH: Final = "both"
DIALS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
OURS: Final = "facets"
LOSS: Final = 0.02  # of nDCG, that may be given up
RESAMPLES: Final = 2_000
NDCG, ALPHA_NDCG = 0, 1  # columns of a run's values
Family = Mapping[float, Doubles]  # dial -> [queries, 2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge every family on every set, and show who gives more for as much."""
    options = _parser().parse_args(arguments)
    model = Bundled(open_session(options.bundle, device="cpu"))
    found, halves, tables = {}, {}, {}
    for name in JUDGED:
        queries = worth_measuring(queries_of(name, options.data), SETS[name].fewest)
        print(f"{name}: {len(queries)} queries", file=sys.stderr, flush=True)
        judged = judge(queries, model)
        runs = by_us(judged, model)
        for run in by_peers(judged, model, DIALS):
            runs.setdefault(run.method, []).append(run)
        found[name] = {
            family: {run.dial or 0.0: run.values[:, :2] for run in each}
            for family, each in runs.items()
        }
        halves[name] = np.array([_half(query) for query in queries])
        shown = [run for family in (OURS, *map(named, PEERS)) for run in runs[family]]
        tables[name] = [summary(run, runs[OURS][0], 0) for run in shown]
    found[BOTH] = {
        family: {
            dial: np.concatenate([found[name][family][dial] for name in JUDGED]) for dial in of
        }
        for family, of in found[JUDGED[0]].items()
    }
    halves[BOTH] = np.concatenate([halves[name] for name in JUDGED])
    rows = [
        {"set": name, **row}
        for name, families in found.items()
        for row in compared(families, halves[name])
    ]
    show_rows(rows, as_json=options.json)
    if options.out:
        curves = {name: report.as_json(each) for name, each in tables.items()}
        about = {"commit": commit(), "machine": machine(), "rows": rows, "curves": curves}
        options.out.write_text(json.dumps(about, indent=1))
    if options.plot:
        report.plot(tables, options.plot)
    return 0


def queries_of(name: str, data: Path) -> list[GradedQuery]:
    """All at hand: nothing is trained here."""
    splits = [read_set(name, data, split) for split in ("train", "dev")]
    return [query for split in splits for query in split]


def by_us(judged: Sequence[Judged], model: Model) -> dict[str, list[Run]]:
    """Our method as it is served, whole and without what it is told of a field."""
    found = {OURS: [served(judged, model, OURS, dial) for dial in DIALS]}
    for fields in (("brand",), ("category",), ("brand", "category")):
        blind = [_without(one, fields) for one in judged]
        found["without " + " and ".join(fields)] = [
            served(blind, model, OURS, dial) for dial in DIALS
        ]
    return found


def compared(families: Mapping[str, Family], halves: Doubles) -> list[dict[str, Any]]:
    """A row a family: its chosen dials, what they give on the other half, and its hypervolume."""
    peers = [name for name in families if name.startswith(named(""))]
    best = _chosen({name: families[name] for name in peers}, halves)
    areas, resampled = _hypervolumes(families, len(halves))
    first = max(peers, key=lambda name: areas[name])
    rows = []
    for name, family in families.items():
        dials, values = _chosen({name: family}, halves)
        gain = values - family[0.0]
        ahead = values[:, ALPHA_NDCG] - best[1][:, ALPHA_NDCG]
        row = {
            "family": name,
            "dials": " / ".join(f"{dial:g}" for _, dial in dials),
            "nDCG loss": f"{-gain[:, NDCG].mean() / family[0.0][:, NDCG].mean():.4f}",
            "alpha-nDCG gain": _interval(gain[:, ALPHA_NDCG]),
            "ahead of the best peer": _interval(ahead),
            "hypervolume": f"{areas[name]:.4f}",
            "ahead in it": _quantiles(
                areas[name] - areas[first], resampled[name] - resampled[first]
            ),
        }
        rows.append(row)
    which = " / ".join(f"{name} {dial:g}" for name, dial in best[0])
    rows.append({key: "" for key in rows[0]} | {"family": "best peer", "dials": which})
    return rows


def _chosen(
    families: Mapping[str, Family], halves: Doubles
) -> tuple[list[tuple[str, float]], Doubles]:
    """For each half what was chosen on the other, and the values [queries, 2] that it then gave."""
    picks = []
    values = np.empty_like(next(iter(families.values()))[0.0])
    for half in (0, 1):
        learned, told = halves != half, halves == half
        allowed = [
            (float(np.nanmean(found[learned, ALPHA_NDCG])), name, dial)
            for name, family in families.items()
            for dial, found in family.items()
            if found[learned, NDCG].mean() >= (1.0 - LOSS) * family[0.0][learned, NDCG].mean()
        ]
        _, name, dial = max(allowed, key=lambda one: one[0])
        picks.append((name, dial))
        values[told] = families[name][dial][told]
    return picks, values


def _hypervolumes(
    families: Mapping[str, Family], count: int
) -> tuple[dict[str, float], dict[str, Doubles]]:
    """The area under each family, over all queries and over each resample of them."""
    drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)
    weights = np.vstack([np.ones(count), drawn])
    means = {
        name: np.stack([_means(weights, found) for found in family.values()], axis=1)
        for name, family in families.items()
    }  # [1 + resamples, dials, 2]
    lows = np.min([each.min(axis=1) for each in means.values()], axis=0)
    highs = np.max([each.max(axis=1) for each in means.values()], axis=0)
    boxes = np.maximum(highs - lows, 1e-12)
    areas = {
        name: np.array([_area(points) for points in (each - lows[:, None]) / boxes[:, None]])
        for name, each in means.items()
    }
    return {n: float(a[0]) for n, a in areas.items()}, {n: a[1:] for n, a in areas.items()}


def _means(weights: Doubles, values: Doubles) -> Doubles:
    """[resamples, queries], [queries, 2] -> [resamples, 2]; NaN says nothing."""
    known = ~np.isnan(values)
    return np.asarray((weights @ np.where(known, values, 0.0)) / (weights @ known))


def _area(points: Doubles) -> float:
    """What a curve [dials, 2] dominates, from the origin (Zitzler & Thiele 1999)."""
    area, highest = 0.0, 0.0
    for x, y in sorted(points.tolist(), reverse=True):
        if y > highest:
            area += x * (y - highest)
            highest = y
    return area


def _interval(values: Doubles) -> str:
    values = values[~np.isnan(values)]
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return _quantiles(float(values.mean()), values[drawn].mean(axis=1))


def _quantiles(value: float, resampled: Doubles) -> str:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def _without(one: Judged, fields: Sequence[str]) -> Judged:
    """The same labels, and candidates that do not carry these fields."""
    bare = tuple(
        msgspec.structs.replace(item, **dict.fromkeys(fields))
        for item in one.query.event.candidates
    )
    event = msgspec.structs.replace(one.query.event, candidates=bare)
    query = GradedQuery(event, one.query.grades, one.query.split, one.query.past)
    return Judged(query, one.gains, one.subtopics, one.vectors, one.likeness)


def _half(query: GradedQuery) -> int:
    return hashlib.sha256(query.event.user_query.encode()).digest()[0] % 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.frontier")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    parser.add_argument("--out", type=Path, help="JSON: the rows, and every point of every curve")
    parser.add_argument("--plot", type=Path, help="PNG: the curves")
    parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
