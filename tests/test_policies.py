"""Policies: what cannot be applied is refused by the field that is at fault."""

from __future__ import annotations

import json

import pytest

from worker import codec
from worker.errors import Invalid

LIMITS = codec.Limits()


def limited(**limit: object) -> dict[str, object]:
    return {"limits": [{"limit_id": "one", **limit}]}


TAIL = {"rank": 3, "probability": 0.1, "field": "features.sales", "value": 0}
POLICIES: list[tuple[str, dict[str, object], str]] = [
    ("an unknown method", {"method": "magic"}, "$.method"),
    ("a dial above 1", {"diversity": 2}, "$.diversity"),
    ("a cap on no field", {"caps": {"brnd": 2}}, "$.caps"),
    ("a cap below 0", {"caps": {"brand": -1}}, "$.caps[...]"),
    (
        "a limit without its name",
        {"limits": [{"field": "brand", "at_most": 1}]},
        "$.limits[0].limit_id",
    ),
    ("a limit on no field", limited(field="attributes.", at_most=1), "$.limits[0].field"),
    ("a limit that asks nothing", limited(field="brand"), "$.limits[0]"),
    ("a quota of nobody in particular", limited(field="brand", at_least=1), "$.limits[0]"),
    (
        "a value and a range",
        limited(field="price", value=3, **{"from": 1}, at_most=1),
        "$.limits[0].value",
    ),
    (
        "a significance of nothing",
        limited(field="brand", value="a", at_most=1, significance=0.1),
        "$.limits[0].significance",
    ),
    (
        "a range from its end",
        limited(field="price", at_most=1, **{"from": 50, "to": 20}),
        "$.limits[0].to",
    ),
    (
        "a range of words",
        limited(field="brand", at_most=1, **{"from": 1}),
        "$.limits[0].field",
    ),
    (
        "at least more than at most",
        limited(field="brand", value="a", at_least=3, at_most=1),
        "$.limits[0].at_least",
    ),
    (
        "at least more than there are places",
        limited(field="brand", value="a", at_least=6, places=5),
        "$.limits[0].at_least",
    ),
    (
        "two limits of one name",
        {"limits": [{"limit_id": "x", "field": "brand", "at_most": n} for n in (1, 2)]},
        "$.limits[1].limit_id",
    ),
    ("too many", limited(field="brand", at_most=10**19), "$.limits[0].at_most"),
    ("too many limits", {"limits": [limited(field="brand", at_most=1)] * 41}, "$.limits"),
    ("a share above 1", limited(field="brand", share_at_most=1.5), "$.limits[0].share_at_most"),
    ("an alias of its own, which is not followed yet", {"alias": "challenger"}, "$.alias"),
    ("a share of exploration above 1", {"explore": 1.5}, "$.explore"),
    (
        "exposure of nobody in particular",
        limited(field="brand", exposure_at_most=0.3),
        "$.limits[0]",
    ),
    (
        "a share that may not be had",
        limited(field="brand", value="a", share_at_least=0.5, exposure_at_most=0.3),
        "$.limits[0].share_at_least",
    ),
    (
        "none, and some",
        limited(field="brand", value="a", at_most=0, exposure_at_least=0.3),
        "$.limits[0].at_most",
    ),
    ("a tail of nobody in particular", {"tail": {**TAIL, "value": None}}, "$.tail"),
    ("a tail on no field", {"tail": {**TAIL, "field": "features."}}, "$.tail.field"),
    ("a tail that never comes", {"tail": {**TAIL, "probability": 1e-300}}, "$.tail.probability"),
    ("a tail above the top", {"tail": {**TAIL, "rank": 0}}, "$.tail.rank"),
    ("an auction of nothing", {"ads": {"slots": []}}, "$.ads.slots"),
    ("a slot twice", {"ads": {"slots": [1, 1]}}, "$.ads.slots"),
    ("a slot above the top", {"ads": {"slots": [0]}}, "$.ads.slots[0]"),
    (
        "a relevance above 1",
        {"ads": {"slots": [1], "relevance_at_least": 2}},
        "$.ads.relevance_at_least",
    ),
]


@pytest.mark.parametrize(
    ("fields", "path"), [p[1:] for p in POLICIES], ids=[p[0] for p in POLICIES]
)
def test_a_policy_that_cannot_be_applied_is_refused(fields: dict[str, object], path: str) -> None:
    raw = json.dumps({"policy_id": "p", **fields}).encode()
    with pytest.raises(Invalid) as caught:
        codec.decode_policy(raw, LIMITS, frozenset({"mmr"}))
    assert caught.value.path == path


def test_a_policy_may_ask_for_exploration() -> None:
    raw = b'{"policy_id":"p","explore":0.1}'
    assert codec.decode_policy(raw, LIMITS, frozenset()).explore == 0.1


def test_a_policy_may_ask_for_all_that_there_is() -> None:
    asked = limited(field="brand", value="a", exposure_at_least=0.1, exposure_at_most=0.3)
    raw = json.dumps({"policy_id": "p", "tail": TAIL, "ads": {"slots": [1, 4]}, **asked}).encode()
    policy = codec.decode_policy(raw, LIMITS, frozenset())
    assert policy.ads is not None
    assert policy.tail is not None
    assert (policy.ads.slots, policy.tail.rank) == ((1, 4), 3)
