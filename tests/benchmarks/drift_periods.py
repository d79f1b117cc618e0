"""Five periods of drift: what a model that goes on from the last champion keeps of old queries.

    python -m tests.benchmarks.drift_periods --data DIR --base FOLDER --work DIR --out FILE.jsonl
        [--seeds 1 2 3] [--only replay …] [--show [--beside ARM]]

The train queries of home_depot and crowdflower are dealt into five periods, each leaning towards
one of five topics (`periods.py`), some 600 pairs a period, half of each set; the dev queries by the
same rule. An arm makes a model a period through `training.pipeline`, from the lists of all periods
so far as a round would: from which it learns its recipe says, and whatever comes of it serves and
is the champion of the next period, whatever the gate says. A fifth of the queries is kept for the
blend, of all periods so far.

After each period a model is judged on the queries of the periods so far: on those of the dev parts,
which nobody learns from, and on those that were `learned`. Each by nDCG@10 in two orders: `served`,
as a worker would at dial 0, with the frozen encoder's cosine beside the pair model's word and alone
where the items lie far from what was learned; and `alone`, by the pair model's logits, where
forgetting cannot hide. A cell is a process of its own, and one JSON line with the values of every
query; a finished one is skipped, and one that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from export.registry import Registry
from tests.benchmarks.ablation import sample
from tests.benchmarks.forgetting import AT_ONCE, FIRST, NAIVE, RANDOM, ZERO_SHOT, Line, rows
from tests.benchmarks.measuring import finished
from tests.benchmarks.periods import DAYS, PERIODS, asked_in, assigned
from tests.benchmarks.processes import asks, configured, fill, measured_here, say
from tests.benchmarks.real_labels import remember
from training import pipeline
from training.assess import Bench, side
from training.dataset import LabelledList, graded, labelled, split_by_query
from training.evaluate import Judged, Run, baselines, judge, measured, served
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.replay import replayed
from training.rounds import Round, write_whole
from training.service import in_service, zero_shot
from training.sources import CHAMPION
from training.trial import Side
from worker.ranking.join import Dials, join
from worker.ranking.model import Model
from worker.ranking.pairs import read_pairs
from worker.ranking.rerank import embed
from worker.ranking.text import pair_texts

MODULE: Final = "tests.benchmarks.drift_periods"
LEARNED_PAIRS: Final = {"home_depot": 300, "crowdflower": 300}  # of a period, kept ones too
DEV_PAIRS: Final = {"home_depot": 400, "crowdflower": 400}  # of a period, where there are so many
KEPT: Final = 0.2  # of the queries, for calibration and blend
DEV, LEARNED = "dev", "learned"
SERVED, ALONE = "served", "alone"
SAME: Final[Mapping[str, Any]] = {"epochs": 2, "learning_rate": 1e-4, "threads": 1}
NEWEST: Final = {"start": CHAMPION, "replay": {"share": 0.0, "period_days": DAYS}}
REPLAY: Final = {"start": CHAMPION, "replay": {"share": 0.5, "period_days": DAYS}}
CONTINUED: Final[Mapping[str, Mapping[str, Any]]] = {
    "naive continuation": NEWEST,
    "replay": REPLAY,
    "replay, half of the way": {**REPLAY, "interpolate": 0.5},
    "replay, champion teaches": {**REPLAY, "teacher": {"folder": CHAMPION, "weight": 0.2}},
    "newest alone, half of the way": {**NEWEST, "interpolate": 0.5},
    "naive, twice as long": {**NEWEST, "epochs": 4},
}
"""What each adds to SAME from the second period on; the first is the same for all."""
LONGER: Final = "at once, twice as long"  # a replay makes nearly twice the steps of others
WHOLE: Final[Mapping[str, Mapping[str, Any]]] = {AT_ONCE: {}, LONGER: {"epochs": 4}}


@dataclass(frozen=True, slots=True)
class Shop:
    """Lists by period, from the first."""

    learn: Sequence[Sequence[LabelledList]]
    kept: Sequence[Sequence[LabelledList]]
    dev: Sequence[Sequence[LabelledList]]

    def until(self, period: int) -> Shop:
        """The periods so far."""
        return Shop(self.learn[:period], self.kept[:period], self.dev[:period])

    @property
    def judged(self) -> dict[str, Sequence[Sequence[LabelledList]]]:
        return {DEV: self.dev, LEARNED: self.learn}


@dataclass(frozen=True, slots=True)
class Made:
    """A model, and what it took."""

    side: Side
    digest: str  # of its bundle; empty where nothing was trained
    pairs: int  # that were learned from
    seconds: float  # of training


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the cells that are not there, one process each, and show them all."""
    options = _parser().parse_args(arguments)
    if options.cell:
        line = _cell(options.cell, options.seeds[0], options.period, options)
        print(json.dumps(msgspec.to_builtins(line), separators=(",", ":")))
        return 0
    wanted = [] if options.show else [(ZERO_SHOT, 0, PERIODS)]
    for seed in () if options.show else options.seeds:
        wanted += [(FIRST, seed, 1), *((arm, seed, PERIODS) for arm in WHOLE)]
        wanted += [(arm, seed, number) for arm in options.only for number in range(2, PERIODS + 1)]
    for arm, seed, period in wanted:
        said = ["--cell", arm, "--seeds", str(seed), "--period", str(period)]
        fill(MODULE, {"arm": arm, "seed": seed, "period": period}, said, options)
    _show(msgspec.convert(finished(options.out), list[Line]), options.beside)
    return 0


def _cell(arm: str, seed: int, period: int, options: argparse.Namespace) -> Line:
    """One period of one arm, or the base model as it is, judged on the periods so far."""
    added = {**CONTINUED, **WHOLE}.get(arm, {})
    config = configured(options, {**SAME, **added, "seed": seed}, {"most_categories": 0})
    base = side(zero_shot(config, say))
    shop = drifting(options, base.model)
    everything = _joined([*shop.learn, *shop.kept, *shop.dev])

    def knowing(one: Side) -> Side:
        """What the frozen encoder says of all texts is the same in every bundle."""
        remember(one.model, lambda: everything, options.work / "vectors.npz")
        return one

    knowing(base)
    shop = shop.until(period)
    made = Made(base, "", 0, 0.0)
    if arm != ZERO_SHOT:
        parent = _champion(arm, seed, period, options.out)
        bench = Bench(base, knowing(in_service(config, parent, base)), config)
        one = Round(options.work / "rounds" / f"{arm.replace(' ', '-')}-{seed}-{period}")
        made = _learned(one, shop, bench, parent)
    return Line(
        arm=arm,
        seed=seed,
        period=period,
        bundle=made.digest,
        recipe={**SAME, **added},
        pairs=made.pairs,
        seconds=round(made.seconds, 1),
        queries={name: [len(each) for each in lists] for name, lists in shop.judged.items()},
        ndcg=_judged(shop, knowing(made.side).model),
        **measured_here(),
    )


def _learned(one: Round, shop: Shop, bench: Bench, parent: str | None) -> Made:
    """A round from the lists of all periods so far; the bundle is published, whatever the gate
    says, and the round's folder goes."""
    config, learn, kept = bench.config, _joined(shop.learn), _joined(shop.kept)
    lesson = pipeline.Lesson(learn, kept, {}, {"lists": len(learn), "kept": len(kept)})
    registry = Registry(config.registry.url)
    digest = registry.publish(pipeline.learned(config, one, lesson, bench, parent, say))
    seconds = pipeline.trained_result(one).seconds
    shutil.rmtree(one.folder)
    chosen = replayed(learn, config.recipe.replay, config.recipe.seed)
    pairs = sum(len(each.grades) for each in chosen)
    return Made(in_service(config, digest, bench.base), digest, pairs, seconds)


def drifting(options: argparse.Namespace, model: Model) -> Shop:
    """The shop of five periods; which query is asked when is found once and kept."""
    train, dev = (_queries(options.data, split) for split in ("train", "dev"))
    path = options.work / "periods.json"
    if not path.exists():
        said = {
            query.event.user_query: model.template.query(query.event.user_query)
            for queries in (*train.values(), *dev.values())
            for query in queries
        }
        known = embed(sorted({*said.values()}), model)
        found = assigned({query: known[said[query]] for query in sorted(said)})
        write_whole(path, json.dumps(found).encode())
    periods = json.loads(path.read_bytes())
    learned = [_asked(period, train, periods, LEARNED_PAIRS) for period in range(PERIODS)]
    parts = [split_by_query(lists, KEPT) for lists in learned]
    return Shop(
        [learn for learn, _ in parts],
        [kept for _, kept in parts],
        [_asked(period, dev, periods, DEV_PAIRS) for period in range(PERIODS)],
    )


def _queries(data: Path, split: str) -> dict[str, list[GradedQuery]]:
    return {
        name: worth_measuring(read_set(name, data, split), SETS[name].fewest)
        for name in LEARNED_PAIRS
    }


def _asked(
    period: int,
    queries: Mapping[str, Sequence[GradedQuery]],
    periods: Mapping[str, int],
    pairs: Mapping[str, int],
) -> list[LabelledList]:
    """The lists of a period, of so many pairs of each set."""
    return [
        one
        for name, of in queries.items()
        for one in sample(labelled(asked_in(period, of, periods)), pairs[name])
    ]


def _champion(arm: str, seed: int, period: int, out: Path) -> str | None:
    """The bundle that the arm made in the period before; None where it begins with the base."""
    if arm not in CONTINUED:
        return None
    before = (FIRST if period == 2 else arm, seed, period - 1)
    lines = msgspec.convert(finished(out), list[Line])
    return next(one.bundle for one in lines if (one.arm, one.seed, one.period) == before)


def _judged(shop: Shop, model: Model) -> dict[str, dict[str, list[float]]]:
    """nDCG@10 of every query of each set, as it is served and by the pair model alone; of a model
    without one, that of the cosine, which a pair model begins as, and of a random order."""
    found = {}
    for name, lists in shop.judged.items():
        judged = judge([graded(one) for one in _joined(lists)], model)
        runs = {SERVED: served(judged, model, "facets", 0.0)}
        if model.pairs is None:
            plain = {run.method: run for run in baselines(judged, 0)}
            runs |= {ALONE: plain["cosine"], RANDOM: plain["random"]}
        else:
            runs[ALONE] = alone(judged, model)
        found[name] = {way: np.round(run.values[:, 0], 4).tolist() for way, run in runs.items()}
    return found


def alone(judged: Sequence[Judged], model: Model) -> Run:
    """The order of the pair model's logits: no blend, and its word counts everywhere."""
    assert model.pairs is not None, "a bundle that was trained has a pair model: this is a bug"
    orders = []
    for one in judged:
        search = join(one.query.event, one.query.tables, Dials())
        pairs = pair_texts(search, range(len(search.entries)), model.pairs.template)
        best = np.argsort(-read_pairs(pairs, model.pairs, model.budget), kind="stable")
        orders.append([search.entries[row].item.item_id for row in best])
    return measured(judged, ALONE, None, orders)


def _joined(lists: Sequence[Sequence[LabelledList]]) -> list[LabelledList]:
    return [one for each in lists for one in each]


def _show(lines: Sequence[Line], beside: str) -> None:
    """A table for each set and each way to order it."""
    for on in (DEV, LEARNED):
        for way in (SERVED, ALONE):
            found = rows(lines, on, way, beside)
            if found:
                print(f"\n{on}, {way}\n\n| " + " | ".join(found[0]) + " |")
                print("|---|" + "--:|" * (len(found[0]) - 1))
            for row in found:
                print("| " + " | ".join(row.values()) + " |")


def _parser() -> argparse.ArgumentParser:
    parser = asks(MODULE)
    parser.add_argument("--only", nargs="+", choices=CONTINUED, default=list(CONTINUED))
    parser.add_argument("--beside", choices=CONTINUED, default=NAIVE, help="whom changes are from")
    parser.add_argument(
        "--cell", choices=(ZERO_SHOT, FIRST, *WHOLE, *CONTINUED), help=argparse.SUPPRESS
    )
    parser.add_argument("--period", type=int, default=PERIODS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
