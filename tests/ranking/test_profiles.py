"""Profiles: folding is idempotent and does not mind the order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events import Behaviour, EventAttributes, HistoryEntry, ObjectRef, Profile
from worker.ranking.profiles import REMEMBERED, entry_of, fold, weights

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def did(action: str, item_id: str | int | None, when: datetime | None = NOON) -> Behaviour:
    target = ObjectRef(object_id=item_id)
    return Behaviour(
        action_name=action, timestamp=when, event_attributes=EventAttributes(object=target)
    )


BEHAVIOURS = st.lists(
    st.builds(
        did,
        st.sampled_from(["click", "purchase", "impression"]),
        st.sampled_from("abcdef"),
        st.integers(0, 80).map(lambda hours: NOON - timedelta(hours=hours)),
    ),
    max_size=90,
)


@given(BEHAVIOURS, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_one_profile(
    behaviours: list[Behaviour], chance: Random
) -> None:
    again = behaviours + behaviours[: len(behaviours) // 2]
    chance.shuffle(again)
    assert reduce(fold, again, Profile()) == reduce(fold, behaviours, Profile())


@given(BEHAVIOURS)
def test_a_profile_is_bounded_and_newest_first(behaviours: list[Behaviour]) -> None:
    entries = reduce(fold, behaviours, Profile()).entries
    assert len(entries) <= REMEMBERED
    times = [entry.timestamp for entry in entries if entry.timestamp]
    assert times == sorted(times, reverse=True)


NOTHING = [
    ("no item", Behaviour(action_name="click")),
    ("an item without an id", did("click", None)),
    ("an action that tells nothing", did("impression", "a")),
]


@pytest.mark.parametrize("behaviour", [n[1] for n in NOTHING], ids=[n[0] for n in NOTHING])
def test_what_tells_nothing_is_not_remembered(behaviour: Behaviour) -> None:
    assert fold(Profile(), behaviour) == Profile()


def test_a_numeric_object_id_is_the_item_of_that_name() -> None:
    entry = entry_of(did("click", 17))
    assert entry is not None
    assert entry.item_id == "17"


WEIGHTS = [
    ("a click now", [("click", NOON)], NOON, 1.0),
    ("halved every week", [("click", NOON - WEEK)], NOON, 0.5),
    ("a purchase tells more", [("purchase", NOON)], NOON, 5.0),
    ("they add up", [("click", NOON), ("add_to_cart", NOON)], NOON, 4.0),
    ("the future counts in full", [("click", NOON + WEEK)], NOON, 1.0),
    ("without a now, from the newest", [("click", NOON), ("click", NOON - WEEK)], None, 1.5),
    ("without a time, in full", [("click", None)], NOON, 1.0),
]


@pytest.mark.parametrize(
    ("entries", "now", "expected"), [w[1:] for w in WEIGHTS], ids=[w[0] for w in WEIGHTS]
)
def test_weights(
    entries: list[tuple[str, datetime | None]], now: datetime | None, expected: float
) -> None:
    history = [HistoryEntry(item_id="a", action_name=act, timestamp=when) for act, when in entries]
    assert weights(history, now) == {"a": pytest.approx(expected)}
