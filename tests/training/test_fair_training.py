"""A brand that was logged unfairly, end to end: trained, exported, ranked, judged by the gate."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from export.session import open_session
from tests.factories import WORDS, candidate, event
from tests.training import tiny
from training import pipeline
from training.assess import Bench, assess, side
from training.equity import Fairness, Groups
from training.evaluate import DEPTH, judge, served
from training.fairness import pools
from training.gate import decide
from training.judgments import GradedQuery
from training.rounds import Round
from training.trial import Side

BIRCH = "77777777"  # a word that only this brand's titles have
SIZE = 16  # of which DEPTH are shown
GROUPS = (Groups(field="brand"),)


def queries(count: int, unfair: bool, seed: int = 0) -> list[GradedQuery]:
    """Half of what a query proposes is relevant, half is Birch's, and neither tells of the other;
    logged unfairly, four of five of Birch's that are do not look so."""
    chance = Random(seed)
    found = []
    for number in range(count):
        kinds = [(mark, birch) for mark in (0, 1) for birch in (0, 1)] * (SIZE // 4)
        chance.shuffle(kinds)
        items, grades = [], []
        for place, (mark, birch) in enumerate(kinds):
            words = [*chance.sample(WORDS, 2), *[tiny.MARK] * mark, *[BIRCH] * birch]
            brand = "Birch" if birch else "Acme"
            items.append(candidate(f"{seed}-{number}-{place}", title=" ".join(words), brand=brand))
            lost = unfair and birch and chance.random() < 0.8
            grades.append(float(mark and not lost))
        text = " ".join(chance.sample(WORDS, 2)) + f" {number}"
        search = event(items, query_id=f"{seed}-q{number}", user_query=text)
        found.append(GradedQuery(search, tuple(grades)))
    return found


@pytest.fixture(scope="module")
def trained(
    tiny_base: Path, zero_shot: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Side]:
    """A model learned from the unfair log by each recipe, as a worker would serve it."""
    base, made = side(open_session(zero_shot, device="cpu")), {}
    asked: dict[str, dict[str, Any]] = {
        "plain": {},
        "exposure": {"exposure": 30.0},
        "reweighed": {"reweigh": True},
    }
    for name, dials in asked.items():
        root = tmp_path_factory.mktemp(name)
        config = tiny.config(root, tiny_base)
        fairness = Fairness(groups=GROUPS, **dials)
        recipe = msgspec.structs.replace(config.recipe, fairness=fairness, max_list=SIZE)
        config = msgspec.structs.replace(config, recipe=recipe)
        lesson = pipeline.lesson_of(config, queries(48, unfair=True))
        session = pipeline.taught(config, Round(root / "round"), lesson, base.model, None, print)
        made[name] = side(session)
    return made


def parity(one: Side, judged_on: list[GradedQuery]) -> float:
    run = served(judge(judged_on, one.model), one.model, "facets", 0.0)
    found = pools(judged_on, way=GROUPS[0]).spread(run.lists, DEPTH).values["exposure_parity"]
    assert found is not None
    return found


def test_the_loss_and_the_weights_give_the_brand_its_exposure_back(
    trained: dict[str, Side],
) -> None:
    judged_on = queries(20, unfair=False, seed=1)
    found = {name: parity(one, judged_on) for name, one in trained.items()}
    assert found["plain"] < 0.7
    assert min(found["exposure"], found["reweighed"]) > found["plain"] + 0.1


def test_the_gate_refuses_the_unfair_one_in_one_sentence(
    trained: dict[str, Side], tiny_base: Path, tmp_path: Path
) -> None:
    config = tiny.config(tmp_path, tiny_base)
    margins = {"exposure_parity": 0.05}
    gate = msgspec.structs.replace(tiny.GATE, margins=margins)
    recipe = msgspec.structs.replace(config.recipe, fairness=Fairness(groups=GROUPS))
    config = msgspec.structs.replace(config, gate=gate, recipe=recipe)
    fair = trained["exposure"]
    sets = {"dev": queries(20, unfair=False, seed=1)}
    found = assess(trained["plain"].session, Bench(fair, fair, config), sets, print)
    decision = decide(found.checks, gate)
    assert not decision.promote
    assert decision.reason.startswith("refused: exposure_parity on dev by brand worse: ")
