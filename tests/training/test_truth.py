"""The science works: from simulated clicks alone, the truth behind them is found again."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from tests.factories import candidate, event
from training.columns import columns
from training.debias import DebiasSettings, weigh
from training.examination import Examination, ExaminationSettings, estimate
from training.impressions import ImpressionList, join_impressions
from training.judgments import GradedQuery
from training.labels import LabelSettings
from training.simulate import SimulateSettings, ranker, simulate
from training.visitors import Graded
from worker.ranking.join import Dials
from worker.ranking.metrics import ndcg
from worker.scoring.overlap import Overlap

SETTINGS = SimulateSettings(visits=12_000, page=8, explore=1.0, noise=0.1, impressions=False)
QUERIES = 30
ITEMS = 12
TOLERANCE = 0.03


def graded(number: int) -> GradedQuery:
    """A query whose candidates' order says nothing of their grades."""
    random = Random(number)
    items = [candidate(f"{number}-{n}", title=f"shoe x{n}") for n in range(ITEMS)]
    grades = tuple(random.choice((0.0, 1 / 3, 2 / 3, 1.0)) for _ in items)
    return GradedQuery(event(items, query_id=f"k-{number}", user_query=f"q{number}"), grades)


TRUTH = [graded(number) for number in range(QUERIES)]


@pytest.fixture(scope="module")
def joined() -> tuple[ImpressionList, ...]:
    """Clicks on lists in an order that says nothing, joined as real logs are."""
    source = Graded(TRUTH, SETTINGS)
    rank = ranker(Overlap(), source.catalogue, Dials(diversity=0.0))
    logs = list(simulate(source, rank, SETTINGS))
    return join_impressions(
        [one.search for one in logs],
        [one.ranked for one in logs],
        [behaviour for one in logs for behaviour in one.behaviours],
        source.catalogue,
        LabelSettings(),
    ).lists


@pytest.fixture(scope="module")
def examination(joined: tuple[ImpressionList, ...]) -> Examination:
    return estimate(columns(joined)[0], ExaminationSettings(places=SETTINGS.page))


def test_every_visit_becomes_one_impression_list(joined: tuple[ImpressionList, ...]) -> None:
    assert len(joined) == SETTINGS.visits
    assert {len(one.shown) for one in joined} == {SETTINGS.page}


def test_the_estimated_examination_lies_near_the_truth(examination: Examination) -> None:
    places = np.arange(1, SETTINGS.page + 1)
    truth = np.array(SETTINGS.clicks.examinations(SETTINGS.page))
    assert examination.method == "harvest"
    assert np.abs(examination.at(places) - truth).max() <= TOLERANCE


def test_clicks_per_examination_order_items_better_than_clicks_do(
    joined: tuple[ImpressionList, ...], examination: Examination
) -> None:
    gains = {query.event.user_query: query.gains() for query in TRUTH}

    def quality(estimator: str) -> float:
        """The mean nDCG of the shown items, ordered by what the clicks say of them."""
        found = []
        for one in weigh(joined, examination, DebiasSettings(estimator=estimator)):  # type: ignore[arg-type]
            ids = [entry.item.item_id for entry in one.search.entries]
            true = gains[one.search.event.user_query]
            order = sorted(zip(ids, one.grades.tolist(), strict=True), key=lambda pair: -pair[1])
            found.append(ndcg([true[item] for item, _ in order], [true[item] for item in ids]))
        return float(np.mean(found))

    naive, ratio, ips = map(quality, ("naive", "ratio", "ips"))
    assert naive + 0.03 < min(ratio, ips)
    assert ratio > 0.95
