"""Tastes and needs that change from period to period, and only as far as they are told to."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.events import Item
from worker.shop.catalogue import generate
from worker.shop.drift import Drift
from worker.shop.intents import match
from worker.shop.users import User
from worker.shop.visits import Shop

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = generate(items=600)
DRIFT = Drift(moved=0.2, trending=0.3, trends=4)
STILL = Shop(CATALOGUE, users=200)
SHOP = Shop(CATALOGUE, users=200, drift=DRIFT)
VISITS = 400


def queries(shop: Shop, period: int) -> set[str]:
    return {shop.visit(n, NOW, period).intent.query for n in range(VISITS)}


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_first_period_is_as_without_drift(n: int) -> None:
    assert SHOP.visit(n, NOW) == SHOP.visit(n, NOW, period=0) == STILL.visit(n, NOW)


@given(st.integers(0, 200), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_without_drift_every_period_is_the_first(n: int, period: int) -> None:
    assert STILL.visit(n, NOW, period) == STILL.visit(n, NOW)


def test_a_seed_gives_one_future() -> None:
    again, other = (Shop(CATALOGUE, seed=seed, users=200, drift=DRIFT) for seed in (0, 1))
    # In whatever order the periods are looked at.
    assert again.users_in(3) == SHOP.users_in(3)
    assert again.users_in(1) == SHOP.users_in(1)
    assert other.users_in(3) != SHOP.users_in(3)
    assert again.visit(7, NOW, 2) == SHOP.visit(7, NOW, 2)


@pytest.mark.parametrize("period", [1, 2, 5])
def test_a_share_of_users_comes_to_like_other_things(period: int) -> None:
    before, after = SHOP.users_in(period - 1), SHOP.users_in(period)
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert sum(changed) / len(changed) == pytest.approx(DRIFT.moved, abs=0.08)


def test_people_stay_who_they_are_and_what_they_can_pay() -> None:
    def identity(user: User) -> tuple[str, float]:
        return user.user_id, user.price_level

    assert list(map(identity, SHOP.users_in(4))) == list(map(identity, SHOP.users))


def test_what_was_liked_is_liked_less_after_a_move() -> None:
    old, new = SHOP.users, SHOP.users_in(1)
    shop_taste = SHOP.market.taste
    for before, after in zip(old, new, strict=True):
        if before != after and before.brands.isdisjoint(after.brands):
            loved = next(item for item in CATALOGUE.values() if item.brand in before.brands)
            assert shop_taste(after, loved) < shop_taste(before, loved)
            return
    pytest.fail("nobody moved to other brands")


def test_every_later_period_asks_for_something_that_nobody_asked_before() -> None:
    shop = Shop(CATALOGUE, users=200, drift=replace(DRIFT, moved=0.0))
    known = queries(shop, 0)
    for period in (1, 2):
        trends = queries(shop, period) - queries(STILL, period)
        followed = [shop.visit(n, NOW, period).intent.query in trends for n in range(VISITS)]
        assert 0 < len(trends) <= DRIFT.trends
        assert not trends & known
        assert sum(followed) / VISITS == pytest.approx(DRIFT.trending, abs=0.08)
        known |= trends


def test_a_trend_can_be_served() -> None:
    for n in range(VISITS):
        intent = SHOP.visit(n, NOW, 1).intent
        assert any(match(intent, item) == 1.0 for item in CATALOGUE.values())


BARE = {
    "no categories": [Item(item_id=f"i-{n}", title=f"fresh green tea {n}") for n in range(30)],
    "no attributes": [Item(item_id=f"i-{n}", title="tea", category="tea") for n in range(30)],
}


@pytest.mark.parametrize("items", BARE.values(), ids=BARE.keys())
def test_any_catalogue_can_drift(items: list[Item]) -> None:
    drift = Drift(moved=1.0, trending=1.0)
    shop = Shop({item.item_id: item for item in items}, users=3, drift=drift)
    assert all(shop.visit(n, NOW, 2).event.candidates for n in range(10))
