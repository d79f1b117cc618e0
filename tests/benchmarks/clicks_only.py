"""Clicks only: how much of what human labels teach is learned from clicks, with nothing else.

Users are simulated over the train grades of two sets: they ask the queries by a Zipf law, look at
place k of ten with chance 1/k, and click by grade, with 10 % noise (`worker.shop.clicks`). Round 1
shows the zero-shot lists; each round joins all clicks so far, estimates examination from the swaps
of exploration, turns clicks into grades, fine-tunes the base model on them, and its model shows
the next round's lists. `debiased` counts clicks per examination, `naive` per impression; `full` is
the same training on the grades themselves. All are judged on human labels of the dev parts.

    python -m tests.benchmarks.clicks_only --data DIR --base DIR --work DIR --out FILE [--json]

Each finished cell is a line of FILE, and a stage's result a folder of --work: a killed run goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from export.build import Order, build
from export.session import open_session
from tests.benchmarks.cells import FULL, ZERO_SHOT, Cell, read_cells, rows
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
from worker.ranking.model import Model

JUDGED: Final = ("crowdflower", "home_depot")
KEPT: Final = 0.1  # of the queries, for the blend: as many clicks or grades are not trained on
SAMPLED: Final = "sampled "  # salts of two hashes that know nothing of each other
SPLIT: Final = "kept "
ARMS: Final = ("debiased", "naive")
ESTIMATORS: Final = {"debiased": "ratio", "ips": "ips", "naive": "naive"}
Lists = dict[str, RankedList]  # by the words of the query


@dataclass(frozen=True, slots=True)
class Lab:
    """What all cells share."""

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

    def judged(self, model: Model) -> dict[str, list[float]]:
        """nDCG@10 of each dev query at dial 0, by human labels."""
        found = {}
        for name, queries in self.dev.items():
            run = served(judge(queries, model), model, "facets", 0.0)
            found[name] = run.values[:, 0].tolist()
        return found

    def learned(self, cell: Round, lists: Sequence[LabelledList]) -> Model:
        """The base model, fine-tuned on graded lists and exported; its blend fitted on a tenth."""
        lesson = pipeline.Lesson(*split_by_query(lists, KEPT, SPLIT), {}, {})
        return Bundled(pipeline.taught(self.config, cell, lesson, self.base, None, self.say))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells that are not there yet, then show what all came to."""
    options = _parser().parse_args(arguments)
    cells = {(cell.arm, cell.round): cell for cell in read_cells(options.out)}
    for cell in missing(options, cells):
        cells[cell.arm, cell.round] = cell
        with options.out.open("ab") as lines:
            lines.write(msgspec.json.encode(cell) + b"\n")
    show(rows(cells), as_json=options.json)
    return 0


def missing(options: argparse.Namespace, cells: Mapping[tuple[str, int], Cell]) -> Iterable[Cell]:
    """The cells that are wanted and not there, in an order in which each finds what it needs."""
    lab = make_lab(options)
    if (ZERO_SHOT, 0) not in cells:
        yield timed(partial(zero_shot, lab))
    if (FULL, 0) not in cells:
        yield timed(partial(full, lab))
    for arm in options.arms:
        for number in range(1, options.rounds + 1):
            if (arm, number) not in cells:
                yield timed(partial(by_clicks, lab, arm, number))


def zero_shot(lab: Lab) -> Cell:
    """The base model as it comes."""
    return Cell(arm=ZERO_SHOT, round=0, ndcg=lab.judged(lab.base))


def full(lab: Lab) -> Cell:
    """The same training on what the clicks are only signs of."""
    model = lab.learned(Round(lab.work / "full"), labelled(lab.train))
    return Cell(arm=FULL, round=0, ndcg=lab.judged(model))


def by_clicks(lab: Lab, arm: str, number: int) -> Cell:
    """One round of one arm, on the clicks of this round and of those before it."""
    joined = lab.joined([shown(lab, arm, n) for n in range(1, number + 1)])
    table, _ = columns(joined)
    page = lab.settings.page
    found = estimate(table, ExaminationSettings(places=page))
    lists = weigh(joined, found, DebiasSettings(estimator=ESTIMATORS[arm]))  # type: ignore[arg-type]
    model = lab.learned(Round(lab.work / f"{arm}-{number}"), lists)
    write_lists(lab, arm, number + 1, model)
    return Cell(
        arm=arm,
        round=number,
        ndcg=lab.judged(model),
        theta=found.theta,
        worst=worst(found, lab.settings),
        clicks=int(table.clicks.sum()),
        examination=f"{found.method}: {found.why}",
    )


def shown(lab: Lab, arm: str, number: int) -> Lists:
    """The lists of a round: the zero-shot model's in the first, then those of the round before."""
    path = lists_path(lab, arm, number)
    if number == 1 and not path.exists():
        write_lists(lab, arm, 1, lab.base)
    return msgspec.json.decode(path.read_bytes(), type=Lists)


def write_lists(lab: Lab, arm: str, number: int, model: Model) -> None:
    lab.say(f"{arm}: ranking the train queries for round {number}")
    path = lists_path(lab, arm, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(lab.lists(model)))
    part.replace(path)


def lists_path(lab: Lab, arm: str, number: int) -> Path:
    """Round 1 is the same for all arms."""
    return lab.work / "lists" / ("1.json" if number == 1 else f"{arm}-{number}.json")


def worst(found: Examination, settings: SimulateSettings) -> float:
    """The largest difference to the truth, over the places of a page."""
    places = np.arange(1, settings.page + 1)
    truth = np.array(settings.clicks.examinations(settings.page))
    return float(np.abs(found.at(places) - truth).max())


def timed(make: Callable[[], Cell]) -> Cell:
    start = time.monotonic()
    return replace(make(), seconds=round(time.monotonic() - start, 1))


def make_lab(options: argparse.Namespace) -> Lab:
    """Data, settings, and the zero-shot bundle of the base model."""
    options.work.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    built = Round(options.work).stage(
        "zero-shot", lambda folder: build(Order(str(options.base), folder), say)
    )
    return Lab(
        train=sample(options.data, options.home_depot),
        dev={
            name: worth_measuring(read_set(name, options.data, "dev"), SETS[name].fewest)
            for name in JUDGED
        },
        settings=SimulateSettings(
            seed=options.seed,
            visits=options.visits,
            page=10,
            explore=options.explore,
            noise=0.1,
            users=5_000,
            impressions=False,
        ),
        config=Config(
            work=str(options.work),
            model=teach.ModelSettings(base=str(options.base), most_categories=0),
            logs=LogSettings(url=f"{options.work}/logs"),
            recipe=Recipe(
                epochs=100, max_steps=options.steps, seed=options.seed, threads=options.threads
            ),
        ),
        base=Bundled(open_session(built, device="cpu")),
        work=options.work,
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
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--visits", type=int, default=20_000, help="simulated searches a round")
    parser.add_argument("--explore", type=float, default=0.5, help="share of exploration")
    parser.add_argument("--home-depot", type=int, default=600, help="train queries of that set")
    parser.add_argument("--steps", type=int, default=300, help="of each fine-tuning, 32 pairs each")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
