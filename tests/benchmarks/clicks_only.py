"""Clicks only: how much of what human labels teach is learned from clicks, with nothing else.

Users are simulated over the train grades of two sets: they ask the queries by a Zipf law, look at
place k of ten with chance 1/k, and click by grade, with 10 % noise (`worker.shop.clicks`). Round 1
shows the zero-shot lists; each round joins all clicks so far, estimates examination from the swaps
of exploration, turns clicks into grades, fine-tunes the base model on them, and its model shows
the next round's lists. `debiased` counts clicks per examination, `naive` per impression; `full` is
the same training on the grades themselves. All are judged on human labels: of the dev parts, and
of the train queries that were `asked`, whose clicks are signs of labels that only `full` saw.

    python -m tests.benchmarks.clicks_only --data DIR --base DIR --work DIR --out FILE [--json]

Each finished cell is a line of FILE, and a stage's result a folder of --work: a killed run goes on.
Other processes may run other seeds beside it, or other arms of a seed whose zero-shot is there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from export.build import Order, build
from export.session import open_session
from tests.benchmarks.cells import ASKED, FULL, ZERO_SHOT, Cell, read_cells, rows
from tests.benchmarks.measuring import show
from training import pipeline, teach
from training.columns import columns, words
from training.config import Config
from training.dataset import LabelledList, labelled, share_of, split_by_query
from training.debias import DebiasSettings, weigh
from training.evaluate import judge, served
from training.examination import Examination, ExaminationSettings, estimate
from training.impressions import ImpressionList, join_impressions
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.labels import LabelSettings
from training.logs import LogSettings
from training.recipe import Recipe
from training.rounds import Round
from training.simulate import Rank, Served, SimulateSettings, ranker, simulate
from training.visitors import Graded
from worker.events import RankedList, SearchEvent
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials
from worker.ranking.metrics import ndcg
from worker.ranking.model import Model

JUDGED: Final = ("crowdflower", "home_depot")
KEPT: Final = 0.1  # of the queries, for the blend: as many clicks or grades are not trained on
SAMPLED: Final = "sampled "  # salts of two hashes that know nothing of each other
SPLIT: Final = "kept "
ESTIMATORS: Final = {"debiased": "ratio", "ips": "ips", "naive": "naive"}
ARMS: Final = (FULL, *ESTIMATORS)
Lists = dict[str, RankedList]  # by the words of the query


@dataclass(frozen=True, slots=True)
class Lab:
    """What all cells of a seed share."""

    seed: int
    train: Sequence[GradedQuery]
    dev: Mapping[str, Sequence[GradedQuery]]
    settings: SimulateSettings
    config: Config
    base: Model
    work: Path
    say: Callable[[str], None]

    def visits(self, number: int, lists: Lists) -> Iterable[Served]:
        """Round `number`, from 1, of users who are shown `lists`."""

        def rank(searches: Sequence[SearchEvent]) -> Sequence[RankedList]:
            return [lists[words(search.user_query)] for search in searches]

        first = (number - 1) * self.settings.visits
        return simulate(Graded(self.train, self.settings), rank, self.settings, first)

    def joined(self, rounds: Sequence[Lists]) -> tuple[ImpressionList, ...]:
        """What the logs say after these rounds, through the join that real logs go through."""
        logs = [one for n, lists in enumerate(rounds, 1) for one in self.visits(n, lists)]
        return join_impressions(
            [one.search for one in logs],
            [one.ranked for one in logs],
            [behaviour for one in logs for behaviour in one.behaviours],
            Graded(self.train, self.settings).catalogue,
            LabelSettings(),
        ).lists

    def lists(self, model: Model) -> Lists:
        """The page of every train query, in the model's order of relevance."""
        rank: Rank = ranker(model, {}, Dials(diversity=0.0))
        searches = [replace(query.event, k=self.settings.page) for query in self.train]
        return {words(each.user_query): each for each in rank(searches)}

    def judged(self, model: Model, lists: Lists) -> dict[str, list[float]]:
        """nDCG@10 of each query at dial 0, by human labels: of the train queries, which have these
        lists, and of the dev queries."""
        found = {ASKED: [_ndcg(query, lists) for query in worth_measuring(self.train)]}
        for name, queries in self.dev.items():
            run = served(judge(queries, model), model, "facets", 0.0)
            found[name] = run.values[:, 0].tolist()
        return found

    def cell(self, arm: str, number: int, model: Model) -> Cell:
        """What a model came to; its lists are kept, for the round after it."""
        self.say(f"{arm} {number}, seed {self.seed}: ranking the train queries")
        path = self._lists(arm, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        lists = self.lists(model)
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(lists))
        part.replace(path)
        return Cell(seed=self.seed, arm=arm, round=number, ndcg=self.judged(model, lists))

    def kept_lists(self, arm: str, number: int) -> Lists:
        return msgspec.json.decode(self._lists(arm, number).read_bytes(), type=Lists)

    def _lists(self, arm: str, number: int) -> Path:
        return self.work / "lists" / f"{arm}-{number}.json"

    def learned(self, cell: Round, lists: Sequence[LabelledList]) -> Model:
        """The base model, fine-tuned on graded lists and exported; its blend fitted on a tenth."""
        lesson = pipeline.Lesson(*split_by_query(lists, KEPT, SPLIT), {}, {})
        return Bundled(pipeline.taught(self.config, cell, lesson, self.base, None, self.say))


def _ndcg(query: GradedQuery, lists: Lists) -> float:
    gains, page = query.gains(), lists[words(query.event.user_query)].items
    return ndcg([gains[item.item_id] for item in page], list(gains.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells that are not there yet, then show what all came to."""
    options = _parser().parse_args(arguments)
    cells = {(cell.seed, cell.arm, cell.round): cell for cell in read_cells(options.out)}
    for seed in options.seeds:
        for cell in missing(make_lab(options, seed), options, cells):
            cells[cell.seed, cell.arm, cell.round] = cell
            with options.out.open("ab") as lines:
                lines.write(msgspec.json.encode(cell) + b"\n")
    show(rows(read_cells(options.out)), as_json=options.json)
    return 0


def missing(
    lab: Lab, options: argparse.Namespace, cells: Collection[tuple[int, str, int]]
) -> Iterable[Cell]:
    """The cells that are wanted and not there, in an order in which each finds what it needs."""
    wanted = {(ZERO_SHOT, 0): partial(zero_shot, lab)}
    for arm in options.arms:
        if arm == FULL:
            wanted[FULL, 0] = partial(full, lab)
        else:
            for number in range(1, options.rounds + 1):
                wanted[arm, number] = partial(by_clicks, lab, arm, number)
    for (arm, number), make in wanted.items():
        if (lab.seed, arm, number) not in cells:
            yield timed(make)


def zero_shot(lab: Lab) -> Cell:
    """The base model as it comes."""
    return lab.cell(ZERO_SHOT, 0, lab.base)


def full(lab: Lab) -> Cell:
    """The same training on what the clicks are only signs of."""
    return lab.cell(FULL, 0, lab.learned(Round(lab.work / FULL), labelled(lab.train)))


def by_clicks(lab: Lab, arm: str, number: int) -> Cell:
    """One round of one arm, on the clicks of this round and of those before it."""
    joined = lab.joined([shown(lab, arm, n) for n in range(1, number + 1)])
    table, _ = columns(joined)
    page = lab.settings.page
    found = estimate(table, ExaminationSettings(places=page))
    lists = weigh(joined, found, DebiasSettings(estimator=ESTIMATORS[arm]))  # type: ignore[arg-type]
    cell = lab.cell(arm, number, lab.learned(Round(lab.work / f"{arm}-{number}"), lists))
    return replace(
        cell,
        theta=found.theta,
        worst=worst(found, lab.settings),
        clicks=int(table.clicks.sum()),
        examination=f"{found.method}: {found.why}",
    )


def shown(lab: Lab, arm: str, number: int) -> Lists:
    """The lists of a round: the zero-shot model's in the first, then those of the round before."""
    return lab.kept_lists(ZERO_SHOT, 0) if number == 1 else lab.kept_lists(arm, number - 1)


def worst(found: Examination, settings: SimulateSettings) -> float:
    """The largest difference to the truth, over the places of a page."""
    places = np.arange(1, settings.page + 1)
    truth = np.array(settings.clicks.examinations(settings.page))
    return float(np.abs(found.at(places) - truth).max())


def timed(make: Callable[[], Cell]) -> Cell:
    start = time.monotonic()
    return replace(make(), seconds=round(time.monotonic() - start, 1))


def make_lab(options: argparse.Namespace, seed: int) -> Lab:
    """Data, settings, and the zero-shot bundle of the base model."""
    work = options.work / f"seed-{seed}"
    work.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    built = Round(work).stage(
        "zero-shot", lambda folder: build(Order(str(options.base), folder), say)
    )
    return Lab(
        seed=seed,
        train=sample(options.data, options.home_depot),
        dev={
            name: worth_measuring(read_set(name, options.data, "dev"), SETS[name].fewest)
            for name in JUDGED
        },
        settings=SimulateSettings(
            seed=seed,
            visits=options.visits,
            page=10,
            explore=options.explore,
            noise=0.1,
            users=5_000,
            impressions=False,
        ),
        config=Config(
            work=str(work),
            model=teach.ModelSettings(base=str(options.base), most_categories=0),
            logs=LogSettings(url=f"{work}/logs"),
            recipe=Recipe(epochs=100, max_steps=options.steps, seed=seed, threads=options.threads),
        ),
        base=Bundled(open_session(built, device="cpu")),
        work=work,
        say=say,
    )


def sample(data: Path, home_depot: int) -> list[GradedQuery]:
    """The train queries: all of Crowdflower's, and of Home Depot's the `home_depot` first by hash,
    of those with eight candidates or more; of queries in the same words, the first."""
    rest = worth_measuring(read_set("home_depot", data, "train"), SETS["home_depot"].fewest)
    rest.sort(key=lambda query: share_of(query.event.user_query, SAMPLED))
    queries = read_set("crowdflower", data, "train") + rest[:home_depot]
    first: dict[str, GradedQuery] = {}
    for query in queries:
        first.setdefault(words(query.event.user_query), query)
    return list(first.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.clicks_only")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--work", type=Path, required=True, help="where stages leave their results")
    parser.add_argument("--out", type=Path, required=True, help="JSONL: a line a finished cell")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[FULL, "debiased", "naive"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--visits", type=int, default=20_000, help="simulated searches a round")
    parser.add_argument("--explore", type=float, default=0.5, help="share of exploration")
    parser.add_argument("--home-depot", type=int, default=600, help="train queries of that set")
    parser.add_argument("--steps", type=int, default=300, help="of each fine-tuning, 32 pairs each")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of all chance")
    parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
