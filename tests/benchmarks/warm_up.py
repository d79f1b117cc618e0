"""What a bare catalogue is worth: the encoder after `training warm-up` against the stock one.

    python -m tests.benchmarks.warm_up --data DIR --base FOLDER --out FILE.jsonl [--seeds 1 2 3]
        [--sets chorus_icecat crowdflower] [--set keep=0.5 …]

Each set's own items are read, and with --set steps=300 learned from, without a query or a grade;
then its queries are judged, zero-shot, at dial 0. A finished seed is one JSON line with the values
of every query, and is skipped; the table pairs the mean over seeds with the stock encoder, query by
query.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow.parquet as pq
import torch

from export.build import Order, build
from export.session import open_session
from tests.benchmarks.measuring import commit, finished, machine
from training.evaluate import interval, judge, served
from training.judgments import NO_CATEGORY, SETS, GradedQuery, read_set, worth_measuring
from training.views import WarmUpSettings
from training.warm_up import warm_up
from worker.events import Item
from worker.ranking.bundled import Bundled
from worker.ranking.model import Doubles

JUDGED: Final = ("chorus_icecat", "crowdflower")
STOCK: Final = 0  # in the place of a seed


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not there yet, and show what each set gained."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    given = {name: _value(text) for name, _, text in (pair.partition("=") for pair in options.set)}
    for name in options.sets:
        queries = worth_measuring(read_set(name, options.data, "all"), SETS[name].fewest)
        for seed in (STOCK, *options.seeds):
            if not any((row["set"], row["seed"]) == (name, seed) for row in finished(options.out)):
                settings = msgspec.convert({**given, "seed": seed}, WarmUpSettings, strict=False)
                found = _cell(name, queries, settings, options)
                with options.out.open("a") as stream:
                    stream.write(json.dumps(found) + "\n")
    for name in options.sets:
        _show(name, [row for row in finished(options.out) if row["set"] == name])
    return 0


def catalogue(name: str, data: Path) -> list[Item]:
    """All items of a set: the products of chorus_icecat, elsewhere what stands in the lists."""
    columns = SETS[name]
    if columns.catalogue:
        rows = pq.read_table(data / name / columns.catalogue).to_pylist()
        return [
            Item(
                item_id=str(row[columns.item_id]),
                title=row[columns.title],
                brand=row[columns.brand] or None,
                category=None if row[columns.category] == NO_CATEGORY else row[columns.category],
                description=row[columns.description] or None,
            )
            for row in rows
        ]
    shown = [item for one in read_set(name, data, "all") for item in one.event.candidates]
    return list({item.item_id: item for item in shown}.values())


def _cell(
    name: str, queries: Sequence[GradedQuery], settings: WarmUpSettings, options: argparse.Namespace
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        base, began = Path(scratch) / "encoder", time.monotonic()
        if settings.seed == STOCK:  # titles alone, as they are
            settings = WarmUpSettings(fields=("title",), seed=STOCK)
        warm_up(settings, options.base, catalogue(name, options.data), base, _say)
        seconds = time.monotonic() - began
        values = _ndcg(queries, base, Path(scratch) / "bundle")
    return {
        "set": name,
        "seed": settings.seed,
        "settings": msgspec.to_builtins(settings),
        "seconds": round(seconds),
        "commit": commit(),
        "machine": machine(),
        "split": [query.split for query in queries],
        "ndcg": np.round(values, 6).tolist(),
    }


def _ndcg(queries: Sequence[GradedQuery], base: Path, folder: Path) -> Doubles:
    """nDCG@10 of each query's list at dial 0, as a zero-shot bundle of this base serves it."""
    build(Order(str(base), folder), _say)
    model = Bundled(open_session(folder, device="cpu"))
    found: Doubles = served(judge(queries, model), model, "facets", 0.0).values[:, 0]
    return found


def _show(name: str, rows: Sequence[dict[str, Any]]) -> None:
    stock = next(row for row in rows if row["seed"] == STOCK)
    warmed = [row for row in rows if row["seed"] != STOCK]
    before, after = np.array(stock["ndcg"]), np.mean([row["ndcg"] for row in warmed], axis=0)
    dev = np.array([split == "dev" for split in stock["split"]])
    for part, of in {"all": np.ones_like(dev), "dev": dev}.items():
        gain = interval((after - before)[of], 0)
        print(
            f"{name}, {part}: {of.sum()} queries, seeds {[row['seed'] for row in warmed]}, nDCG@10"
            f" {before[of].mean():.4f} -> {after[of].mean():.4f}, {gain.mean:+.4f}"
            f" [{gain.low:+.4f}, {gain.high:+.4f}], {np.mean([r['seconds'] for r in warmed]):.0f} s"
        )


def _value(text: str) -> object:
    """JSON where it is some, else a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.warm_up")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--out", type=Path, required=True, help="where the lines are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sets", nargs="+", choices=JUDGED, default=list(JUDGED))
    parser.add_argument("--set", action="append", default=[], metavar="DIAL=VALUE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
