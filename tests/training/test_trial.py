"""Champion against challenger: what each number is, by hand, and what a planted difference does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from export.bundle import Segment, Template
from export.session import open_session
from tests.factories import candidate, event, random_search
from training.assess import side
from training.gate import FAIR, GateSettings
from training.judgments import GradedQuery
from training.trial import Side, Trial, alternating_ratio, brier, hits
from worker.ranking.metrics import ndcg
from worker.ranking.model import Model
from worker.scoring.overlap import Overlap

ROUNDED = 1e-4  # how relevance is emitted
QUERIES = [
    GradedQuery(
        random_search(seed, 12, query_id=f"q{seed}", user_query="red running shoe"),
        tuple(np.random.default_rng(seed).integers(4, size=12) / 3),
    )
    for seed in range(30)
]


class ReadsDescriptions(Overlap):
    """The same ranker, of the descriptions alone."""

    template = Template(item=(Segment(field="description"),))


def planted(number: int) -> GradedQuery:
    """The query stands in the titles of what is wrong, and in the descriptions of the right."""
    grades = tuple(float((place + number) % 4 == 0) for place in range(12))
    items = [
        candidate(
            f"{number}-{place}",
            title="wool hat" if grade else "red shoe",
            description="red shoe" if grade else "wool hat",
            brand=f"brand {place}",
        )
        for place, grade in enumerate(grades)
    ]
    return GradedQuery(event(items, query_id=f"q{number}", user_query="red shoe"), grades)


PLANTED = [planted(number) for number in range(20)]


@pytest.fixture(scope="module")
def real(zero_shot: Path) -> Side:
    return side(open_session(zero_shot, device="cpu"))


def trial(champion: Model, challenger: Model, real: Side) -> Trial:
    """A trial of two models; `real` lends the session that neither needs."""
    return Trial(
        champion=Side(champion, real.session),
        challenger=Side(challenger, real.session),
        settings=GateSettings(least_queries=1),
        method="facets",
        diversity=0.0,
        seed=0,
    )


def test_the_brier_score_is_the_mean_squared_error_of_what_is_claimed() -> None:
    search = event(
        [
            candidate("a", title="red shoe"),
            candidate("b", title="red"),
            candidate("c", title="hat"),
        ],
        user_query="red shoe",
    )
    claimed = 1 / (1 + np.exp(-np.array([1.0, 1 / np.sqrt(2), 0.0])))
    grades = np.array([1.0, 1 / 3, 0.0])
    (found,) = brier([GradedQuery(search, tuple(grades))], Overlap())
    assert found == pytest.approx(np.mean((claimed - grades) ** 2), abs=ROUNDED)


def test_an_item_without_a_title_is_claimed_to_be_worth_nothing() -> None:
    search = event([candidate("a", title=None)], user_query="red shoe")
    assert brier([GradedQuery(search, (1.0,))], Overlap()) == [1.0]
    assert np.isnan(brier([GradedQuery(event(), ())], Overlap())).all()


def test_categories_are_told_from_the_text_and_not_from_the_label() -> None:
    def query(*items: tuple[str, str | None]) -> GradedQuery:
        candidates = [
            candidate(str(place), title=title, category=category)
            for place, (title, category) in enumerate(items)
        ]
        return GradedQuery(event(candidates), tuple(0.0 for _ in items))

    found = hits(
        [
            query(("a red shoe", "shoe"), ("a wool hat", "hat")),
            query(("a wool hat", "shoe"), ("a wool hat", "hat"), ("a shoe", "cable")),
            query(("a shoe", None), ("a shoe", "cable")),
        ],
        Overlap(),
        ("shoe", "hat"),
    )
    np.testing.assert_array_equal(found, [1.0, 0.5, np.nan])


@pytest.mark.parametrize(("work", "low", "high"), [(1, 0.25, 4.0), (16, 4.0, 64.0)])
def test_the_clock_tells_how_many_times_longer_one_takes(
    work: int, low: float, high: float
) -> None:
    ratio = alternating_ratio(lambda: sum(range(20_000 * work)), lambda: sum(range(20_000)))
    assert low < ratio < high


def test_a_model_beside_itself_is_neither_better_nor_worse(real: Side) -> None:
    checks = trial(Overlap(), Overlap(), real).quality("labels", QUERIES)
    measures = [check.measure for check in checks]
    assert measures == ["relevance", "diversity", "calibration", *FAIR]
    for check in checks:
        assert (check.change, check.low, check.high) == (0.0, 0.0, 0.0)
        assert check.verdict == "held"


def test_a_planted_gain_is_found_and_so_is_the_loss_that_it_is_from_the_other_side(
    real: Side,
) -> None:
    titles, descriptions = Overlap(), ReadsDescriptions()
    gain, *_ = trial(titles, descriptions, real).quality("planted", PLANTED)
    loss, *_ = trial(descriptions, titles, real).quality("planted", PLANTED)
    assert (gain.verdict, loss.verdict) == ("better", "worse")
    assert gain.challenger == loss.champion == 1.0
    assert gain.change == pytest.approx(-(loss.change or 0.0))


def test_relevance_is_the_mean_ndcg_of_the_lists(real: Side) -> None:
    check, *_ = trial(Overlap(), ReadsDescriptions(), real).quality("planted", PLANTED[:1])
    grades = list(PLANTED[0].grades)
    worst = sorted(grades)
    assert check.challenger == ndcg(sorted(grades, reverse=True), grades, 10)
    assert check.champion == pytest.approx(ndcg(worst, grades, 10))


def test_a_golden_query_that_names_a_policy_is_judged_without_it(real: Side) -> None:
    named = [replace(one, event=structs.replace(one.event, policy="summer")) for one in PLANTED]
    judges = trial(Overlap(), ReadsDescriptions(), real)
    assert judges.quality("planted", named) == judges.quality("planted", PLANTED)


def test_what_few_queries_speak_of_is_shown_and_not_known(real: Side) -> None:
    judges = trial(Overlap(), ReadsDescriptions(), real)
    few = replace(judges, settings=GateSettings(least_queries=len(PLANTED) + 1))
    check, *_ = few.quality("planted", PLANTED)
    assert check.verdict == "unknown"
    assert check.change is not None
    count = len(PLANTED)
    assert f"{count} of {count} queries tell of it, {count + 1} are needed" in check.line


def test_what_no_query_speaks_of_is_not_known(real: Side) -> None:
    plain = [GradedQuery(event([candidate("a"), candidate("b")]), (1.0, 0.0))]
    checks = trial(Overlap(), Overlap(), real).quality("plain", plain)
    unknown = {check.measure: check.note for check in checks if check.verdict == "unknown"}
    assert unknown == {
        "diversity": "no query says anything of it",
        **dict.fromkeys(FAIR, "there are no two groups large enough to compare"),
    }
    assert trial(Overlap(), Overlap(), real).quality("nothing", []) == []


def test_a_bundle_replays_its_goldens_and_keeps_its_own_pace(real: Side) -> None:
    one = trial(real.model, real.model, real)
    assert one.goldens().verdict == "held"
    check = one.latency(["red shoe", "wool hat"] * 16, [("red shoe", "wool hat")] * 16)
    assert check.on == "the encoder graph"
    assert check.challenger is not None
    assert 0.25 < check.challenger < 4.0  # about 1, on a machine that does other things too
