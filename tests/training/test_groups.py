"""Groups of items: told apart as a policy's limits do, named for reports, numbered for losses."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate
from training.equity import Fairness, Groups
from training.groups import REST, called, names_of, numbered
from training.recipe import Recipe
from worker.policies import Group
from worker.ranking.limits import groups_of

SHELF = [
    candidate("a", brand="Acme", price=5.0, in_stock=True, attributes={"colour": "red"}),
    candidate("b", brand=" ACME", price=20.0, in_stock=False, features={"days": 3.0}),
    candidate("c", brand="Birch", features={"days": 400.0}, attributes={"colour": ["red", "blue"]}),
    candidate("d", brand="other", category="hats"),
    candidate("e", brand=""),
]


@pytest.mark.parametrize(
    ("way", "name", "names"),
    [
        ({"field": "brand"}, "brand", ["acme", "acme", "birch", None, None]),
        ({"field": "brand", "value": "Birch"}, "brand Birch", [REST, REST, "brand Birch", REST, 0]),
        ({"field": "price", "to": 20}, "price to 20", ["price to 20", REST, None, None, None]),
        (
            {"field": "features.days", "from": 2, "to": 90},
            "features.days from 2 to 90",
            [None, "features.days from 2 to 90", REST, None, None],
        ),
        ({"field": "in_stock"}, "in_stock", ["true", "false", None, None, None]),
        (
            {"field": "attributes.colour"},
            "attributes.colour",
            ["red", None, '["red","blue"]', None, None],
        ),
    ],
)
def test_items_are_told_apart_by_what_they_carry(
    way: dict[str, Any], name: str, names: list[str | None]
) -> None:
    group = msgspec.convert(way, Groups)
    assert called(group) == name
    assert names_of(group, SHELF) == [each or None for each in names]


@given(st.lists(st.floats(0, 100) | st.none(), max_size=20), st.floats(1, 99))
def test_who_is_meant_is_who_a_policy_means(prices: list[float | None], limit: float) -> None:
    items = [candidate(str(place), price=price) for place, price in enumerate(prices)]
    for group in (Group(field="price", high=limit), Group(field="price", value=limit)):
        meant = [key is not None for key in groups_of(group, items)]
        assert [name == called(group) for name in names_of(group, items)] == meant


def test_numbers_are_of_all_lists_together_and_leave_out_small_groups_and_none() -> None:
    fairness = Fairness(groups=(Groups(field="brand"), Groups(field="price", high=20)), fewest=2)
    first, second = numbered([SHELF[1:], SHELF[:1]], fairness)
    np.testing.assert_array_equal(first, [[0, -1], [-1, -1], [-1, -1], [-1, -1]])
    np.testing.assert_array_equal(second, [[0, -1]])


@pytest.mark.parametrize(
    ("dials", "says"),
    [
        ({"exposure": 0.5}, r"exposure 0\.5: expected groups beside it"),
        ({"opportunity": 1.0}, r"opportunity 1\.0: expected groups"),
        ({"reweigh": True}, r"reweigh True: expected groups"),
        ({"groups": [{"field": "brnd"}]}, r"groups\[0\]\.field: expected one of category, brand"),
        ({"groups": [{"field": "price", "valeu": 3}]}, "unknown field `valeu`"),
        ({"groups": [{"field": "price", "from": 3, "to": 2}]}, r"groups\[0\]\.to: expected above"),
    ],
)
def test_what_cannot_be_compared_is_refused(dials: dict[str, Any], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert({"fairness": dials}, Recipe)
