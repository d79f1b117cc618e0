"""What clicks on the champion's lists say of a challenger that nobody has seen."""

from __future__ import annotations

import pytest

from tests.training.test_trial import PLANTED, ReadsDescriptions
from training.clicks import clicks_checks
from training.columns import columns
from training.config import Config
from training.debias import split
from training.examination import ExaminationSettings, estimate
from training.gate import Check
from training.impressions import LabelSettings, join_impressions
from training.logs import LogSettings
from training.simulate import SimulateSettings, ranker, simulate
from training.teach import ModelSettings
from training.visitors import Graded
from worker.ranking.join import Dials
from worker.ranking.model import Model
from worker.scoring.overlap import Overlap

TITLES, DESCRIPTIONS = Overlap(), ReadsDescriptions()


def checks(champion: Model, challenger: Model, visits: int, page: int = 12) -> list[Check]:
    """Both estimates from so many visits to the champion's lists."""
    config = Config(work="w", model=ModelSettings(base="b"), logs=LogSettings(url="l"))
    settings = SimulateSettings(visits=visits, page=page, explore=0.4)
    source = Graded(PLANTED, settings)
    rank = ranker(champion, source.catalogue, Dials(diversity=config.judge.diversity))
    served = list(simulate(source, rank, settings))
    joined = join_impressions(
        [one.search for one in served],
        [one.ranked for one in served],
        [done for one in served for done in one.behaviours],
        source.catalogue,
        LabelSettings(),
    )
    past, recent = split(joined.lists, 0.5)
    examination = estimate(columns(past)[0], ExaminationSettings(method="assumed"))
    find = clicks_checks(past, recent, examination, source.catalogue, config)
    return list(find(champion, challenger))


def test_an_order_that_people_would_like_better_is_found_before_anyone_saw_it() -> None:
    snips, dr = checks(TITLES, DESCRIPTIONS, 1_500)
    assert (snips.measure, dr.measure) == ("clicks_snips", "clicks_dr")
    assert dr.verdict == "better"
    assert dr.change is not None
    assert dr.change > 0.1
    assert dr.champion == 1.0, "values are in what the champion's lists earn"
    # Every item moves further than exploration ever did: without a reward model nobody knows.
    assert snips.verdict == "unknown"
    assert "0 impressions in effect" in snips.line


def test_an_order_that_people_would_like_less_is_found_too() -> None:
    _, dr = checks(DESCRIPTIONS, TITLES, 1_500)
    assert dr.verdict == "worse"


def test_of_what_nobody_was_ever_shown_clicks_tell_nothing() -> None:
    for check in checks(TITLES, DESCRIPTIONS, 600, page=3):
        assert check.verdict == "unknown"
        assert "of what would be looked at was ever shown, 80% are needed" in check.line


def test_the_champion_beside_itself_earns_what_it_earns() -> None:
    for check in checks(TITLES, TITLES, 400):
        assert check.change == pytest.approx(0.0, abs=1e-9)
        assert check.verdict == "held"


@pytest.mark.parametrize("visits", [4, 20])
def test_too_few_impressions_tell_nothing(visits: int) -> None:
    for check in checks(TITLES, DESCRIPTIONS, visits):
        assert check.verdict == "unknown"
        assert "too few to tell" in check.line


def test_without_lists_there_are_no_checks() -> None:
    assert checks(TITLES, DESCRIPTIONS, 0) == []
