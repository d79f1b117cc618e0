"""On the simulated shop, whose truth is known, a profile makes lists better."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.session import open_session
from worker.events import Profile, SearchEvent
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, Tables, join
from worker.ranking.metrics import ndcg
from worker.ranking.profiles import fold
from worker.ranking.rerank import rerank
from worker.shop.catalogue import generate
from worker.shop.visits import Shop, Visit

NOW = datetime(2026, 11, 24, tzinfo=UTC)
VISITS = 150


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(generate(items=1_500), users=50)


@pytest.fixture(scope="module")
def model(minilm_bundle: Path) -> Bundled:
    return Bundled(open_session(minilm_bundle, device="cpu"))


@pytest.fixture(scope="module")
def tables(shop: Shop) -> Tables:
    """The catalogue, and profiles folded from what each user did before."""
    profiles = {
        user.user_id: reduce(fold, shop.past(user, NOW), Profile()).entries for user in shop.users
    }
    return Tables(catalogue=shop.catalogue, history=lambda user: profiles.get(user, ()))


def quality(shop: Shop, visit: Visit, event: SearchEvent, tables: Tables, model: Bundled) -> float:
    """nDCG@10 of the list against the truth of this user."""
    ranked = rerank([join(event, tables, Dials(diversity=0.0))], model)[0]
    truth = {one.item_id: shop.relevance(visit, one.item_id) for one in event.candidates}
    shown = [truth[item.item_id] for item in ranked.items[:10]]
    return ndcg(shown, list(truth.values()))


def interval(differences: np.ndarray) -> tuple[float, float]:
    """A 95 % bootstrap interval of the mean (Efron 1979, percentiles)."""
    chance = np.random.default_rng(0)
    drawn = chance.choice(differences, size=(2_000, len(differences))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("query", ["as asked", "empty"])
def test_a_profile_raises_ndcg_and_can_be_turned_off(
    shop: Shop, tables: Tables, model: Bundled, query: str
) -> None:
    differences = []
    for number in range(VISITS):
        visit = shop.visit(number, NOW) if query == "as asked" else shop.browse(number, NOW)
        event = visit.event
        without = msgspec.structs.replace(event, personalise=False)
        differences.append(
            quality(shop, visit, event, tables, model)
            - quality(shop, visit, without, tables, model)
        )
    low, high = interval(np.array(differences))
    print(f"{query}: nDCG@10 {np.mean(differences):+.3f} [{low:+.3f}, {high:+.3f}]")
    assert low > 0.0


def test_without_personalisation_a_history_changes_nothing(
    shop: Shop, tables: Tables, model: Bundled
) -> None:
    event = msgspec.structs.replace(shop.visit(1, NOW).event, personalise=False)
    known = rerank([join(event, tables, Dials())], model)[0]
    unknown = rerank([join(event, Tables(catalogue=shop.catalogue), Dials())], model)[0]
    assert known == unknown
