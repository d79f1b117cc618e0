"""Fairness at the gate: what is measured, beside fairlearn; what is refused, in which words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fairlearn.metrics import (  # type: ignore[import-untyped]  # ships no types
    MetricFrame,
    demographic_parity_difference,
)
from hypothesis import given
from hypothesis import strategies as st

from export.session import open_session
from tests.factories import candidate, event
from tests.training.test_trial import ReadsDescriptions, trial
from training.assess import side
from training.equity import Fairness, Groups
from training.evaluate import evaluate
from training.fairness import Lists, Pools, pools, ways
from training.gate import FAIR, Check, GateSettings, decide, judged
from training.judgments import GradedQuery
from training.parity import Two, measures, parity_checks, tallies
from training.report import as_json, fairness
from training.trial import Side
from worker.ranking.metrics import exposure
from worker.scoring.overlap import Overlap

BRANDS = Fairness(groups=(Groups(field="brand"),), fewest=1)
K = 3


def query(number: int, brands: str, grades: list[float] | None = None) -> GradedQuery:
    """A query of an item of each brand, a letter each."""
    items = [candidate(f"{number}-{n}", brand=brand) for n, brand in enumerate(brands)]
    return GradedQuery(event(items, query_id=f"q{number}"), tuple(grades or [1.0] * len(brands)))


def in_order(queries: list[GradedQuery], first: str) -> Lists:
    """Lists that show the items of one brand before all others."""
    return [
        [
            item.item_id
            for item in sorted(one.event.candidates, key=lambda item: item.brand != first)
        ]
        for one in queries
    ]


@st.composite
def shown(draw: st.DrawFn) -> tuple[Pools, Lists]:
    """Queries of any brands and grades, and lists that show some of their items."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries = []
    for number in range(draw(st.integers(1, 6))):
        size = int(chance.integers(1, 6))
        brands = "".join(chance.choice(list("abc"), size))
        queries.append(query(number, brands, chance.integers(0, 2, size).astype(float).tolist()))
    lists = [
        chance.permutation([item.item_id for item in one.event.candidates]).tolist()
        for one in queries
    ]
    return pools(queries, 1, BRANDS.groups[0]), lists


def told(found: Pools, lists: Lists) -> dict[str, float]:
    totals = tallies(found, lists, K).sum(axis=0, keepdims=True)
    return dict(zip(FAIR, measures(totals)[0].tolist(), strict=True))


@given(shown())
def test_what_is_measured_is_what_the_reports_tables_show(one: tuple[Pools, Lists]) -> None:
    found, lists = one
    values = found.spread([lists], K).values
    gate = told(found, lists)
    for name, sign in zip(FAIR, (1.0, -1.0, -1.0), strict=True):
        value = values[name]
        assert gate[name] == pytest.approx(np.nan if value is None else sign * value, nan_ok=True)


@given(shown())
def test_it_is_what_fairlearn_says(one: tuple[Pools, Lists]) -> None:
    found, lists = one
    places = found.places(lists)
    is_shown = [place is not None and place <= K for place in places]
    gate = told(found, lists)
    if len(set(found.groups)) > 1:
        frame = MetricFrame(
            metrics=lambda _, seen: float(np.mean(seen)),
            y_true=found.grades,
            y_pred=[exposure(place, K) for place in places],
            sensitive_features=found.groups,
        )
        assert gate["exposure_parity"] == pytest.approx(frame.ratio())
        difference = demographic_parity_difference(
            found.grades, is_shown, sensitive_features=found.groups
        )
        assert gate["equal_coverage"] == pytest.approx(-difference)
    wanted = [row for row, group in enumerate(found.relevant) if group is not None]
    if len({found.relevant[row] for row in wanted}) > 1:
        difference = demographic_parity_difference(
            [1] * len(wanted),
            [is_shown[row] for row in wanted],
            sensitive_features=[found.relevant[row] for row in wanted],
        )
        assert gate["equal_opportunity"] == pytest.approx(-difference)


def checks(old: str, new: str, count: int = 30, **dials: Any) -> dict[str, Check]:
    """Champion and challenger show the items of one brand first; "" none's."""
    queries = [query(number, ("aabb", "bbaa")[number % 2]) for number in range(count)]
    two = Two(in_order(queries, old), in_order(queries, new), 2, 0)
    settings = GateSettings(**{"least_queries": 5, **dials})
    (found,) = ways(queries, BRANDS)
    return {check.measure: check for check in parity_checks(found, two, "held-out", "", settings)}


def test_lists_that_are_alike_change_nothing() -> None:
    for check in checks("a", "a").values():
        assert (check.change, check.low, check.high, check.verdict) == (0.0, 0.0, 0.0, "held")


def test_by_hand_a_brand_that_is_never_shown_has_no_parity() -> None:
    found = checks("", "a", margins={"exposure_parity": 0.05})
    assert {name: (one.champion, one.challenger) for name, one in found.items()} == {
        "exposure_parity": (1.0, 0.0),
        "equal_opportunity": (0.0, -1.0),
        "equal_coverage": (0.0, -1.0),
    }
    assert found["exposure_parity"].verdict == "worse"
    assert found["equal_coverage"].verdict == "held", "no margin names it: shown, not guarded"
    assert "worse and not guarded" in found["equal_coverage"].line


def test_the_gate_refuses_an_unfair_challenger_in_one_sentence() -> None:
    found = checks("", "a", margins={"exposure_parity": 0.05})
    decision = decide(list(found.values()), GateSettings())
    assert not decision.promote
    assert decision.reason.startswith(
        "refused: exposure_parity on held-out by brand worse: 1.0000 -> 0.0000 (-1.0000, 95 % "
        "between -1.0000 and "
    )
    assert decision.reason.endswith(
        "), may lose 0.05; the smallest mean exposure of a group over the largest"
    )


def test_a_challenger_that_is_fairer_is_better_and_may_be_asked_for() -> None:
    asked = GateSettings(asked=("exposure_parity",), least_queries=5)
    found = checks("a", "", asked=asked.asked)
    assert found["exposure_parity"].verdict == "better"
    assert decide(list(found.values()), asked).promote


def test_a_floor_holds_however_little_the_champion_has() -> None:
    found = checks("a", "a", floors={"exposure_parity": 0.8, "equal_coverage": -1.0})
    parity = found["exposure_parity"]
    assert parity.verdict == "worse"
    assert parity.line.startswith(
        "exposure_parity on held-out by brand below what is needed: 0.0000 -> 0.0000"
    )
    assert ", 0.8 is needed" in parity.line
    assert found["equal_coverage"].verdict == "held", "minus 1 is all there is to lose"


def test_few_queries_tell_nothing() -> None:
    found = checks("", "a", count=6, least_queries=7, margins={"exposure_parity": 0.0})
    assert {check.verdict for check in found.values()} == {"unknown"}
    assert "6 of 6 queries tell of it, 7 are needed" in found["exposure_parity"].line


def test_a_floor_is_asked_of_each_way_to_group() -> None:
    asked = GateSettings(asked=("exposure_parity",), floors={"exposure_parity": 0.8})
    known_by_brand = judged(
        Check(
            measure="exposure_parity",
            on="dev by brand",
            by="brand",
            champion=0.8,
            challenger=0.9,
            change=0.1,
            low=0.05,
            high=0.15,
        ),
        asked,
    )
    by_price = Check(measure="exposure_parity", on="dev by price", by="price", floor=0.8)
    assert decide([known_by_brand], asked).promote
    decision = decide([known_by_brand, by_price], asked)
    assert decision.reason == (
        "refused: exposure_parity on dev by price: nothing was measured, 0.8 is needed"
    )


@pytest.mark.parametrize("measure", ["exposure_parity", "relevance"], ids=["few", "no check"])
def test_a_floor_that_nothing_tells_of_is_not_held(measure: str) -> None:
    """Relevance became better, and whether the challenger has what it must have is not known."""
    asked = GateSettings(floors={measure: 0.1}, least_queries=7)
    found = [*checks("a", "a", count=6, floors=asked.floors, least_queries=7).values()]
    better = Check(measure="diversity", on="dev", champion=0.5, challenger=0.6, change=0.1)
    better = judged(msgspec.structs.replace(better, low=0.05, high=0.15), asked)
    decision = decide([*found, better], asked)
    assert not decision.promote
    assert re.match(rf"refused: {measure} on .*, 0\.1 is needed", decision.reason)
    assert decide([better], GateSettings()).promote


def test_without_two_groups_that_are_large_enough_nothing_is_known() -> None:
    queries = [query(number, "aaab", [0.0, 0.0, 0.0, 1.0]) for number in range(10)]
    two = Two(in_order(queries, "a"), in_order(queries, "b"), 2, 0)
    for fewest, unknown in ((11, set(FAIR)), (10, {"equal_opportunity"})):
        (found,) = ways(queries, msgspec.structs.replace(BRANDS, fewest=fewest))
        made = list(parity_checks(found, two, "held-out", "", GateSettings(least_queries=1)))
        assert {one.measure for one in made if one.verdict == "unknown"} == unknown


@pytest.fixture(scope="module")
def real(zero_shot: Path) -> Side:
    return side(open_session(zero_shot, device="cpu"))


def test_each_way_that_is_named_is_checked_with_relevance_beside_it(real: Side) -> None:
    def planted(number: int) -> GradedQuery:
        items = [
            candidate(
                f"{number}-{place}",
                title="red shoe" if place % 2 else "wool hat",
                description="red shoe",
                brand=("Acme", "Birch")[place % 2],
                price=float(place),
            )
            for place in range(20)
        ]
        return GradedQuery(event(items, query_id=f"q{number}", user_query="red shoe"), (1.0,) * 20)

    groups = (Groups(field="brand"), Groups(field="price", high=10))
    judges = replace(trial(ReadsDescriptions(), Overlap(), real), fairness=Fairness(groups=groups))
    queries = [planted(number) for number in range(4)]
    found = [each for each in judges.quality("planted", queries) if each.measure in FAIR]
    assert [(each.measure, each.on) for each in found] == [
        (name, f"planted by {way}") for way in ("brand", "price to 10") for name in FAIR
    ]
    brand, price = (next(e for e in found if w in e.on) for w in ("brand", "price"))
    assert brand.challenger == 0.0, "the titles of one brand alone have the query's words"
    assert price.challenger is not None
    assert price.challenger > 0.5
    assert brand.note.endswith("relevance beside it +0.0000")


def test_a_report_shows_every_order_with_its_ndcg_beside() -> None:
    queries = [query(number, "aabb", [1.0, 0.0, 1.0, 0.0]) for number in range(3)]
    row, *_ = evaluate(queries, Overlap(), ["mmr"], [0.0])
    (brands,), shown = ways(queries, BRANDS), [[in_order(queries, "a")], [in_order(queries, "")]]
    spreads = tuple(brands.spread(lists, 2) for lists in shown)
    header, *_, uneven, even = fairness("dev", [replace(row, catalogue=spreads)]).splitlines()
    assert header.startswith("**dev**, between groups")
    assert "| random |  | 2 of brand | 0.000 | 1.000 | 1.000 | " in uneven
    assert "| random |  | 2 of brand | " in even
    assert as_json([replace(row, catalogue=spreads)])[0]["further_groups"] == [spreads[1].plain()]
    assert fairness("dev", [replace(row, catalogue=())]) == ""
