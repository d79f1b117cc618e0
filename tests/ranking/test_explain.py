"""What put an item where it stands, in fields and in words."""

from __future__ import annotations

import msgspec

from tests.factories import candidate, event, joined, ranked_item, rule
from worker.events import RankedList, Why
from worker.policies import Policy
from worker.ranking.explain import sentence, table
from worker.ranking.join import Tables
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

SHOES = [
    candidate("a", title="running shoes red", brand="Acme"),
    candidate("b", title="running shoes red", brand="Acme"),
    candidate("c", title="running shoes", brand="Birch", sponsored=True),
    candidate("d", title="a red hat", brand="Birch"),
]


def ranked(tables: Tables | None = None, **fields: object) -> RankedList:
    return rerank([joined(event(SHOES, **fields), tables, method="mmr")], Overlap())[0]


def test_an_item_names_the_one_above_that_it_repeats() -> None:
    found = {item.item_id: item for item in ranked(diversity=1.0).items}
    later = max(found["a"].rank, found["b"].rank)
    copy = next(item for item in found.values() if item.rank == later)
    assert copy.why.diversity < 0.0
    assert copy.why.repeats == ({"a", "b"} - {copy.item_id}).pop()
    assert f"for what it repeats of {copy.why.repeats}" in sentence(copy)


def test_an_item_that_brings_what_the_list_lacked_says_so() -> None:
    lacked = ranked_item("a", 2, why=Why(relevance=0.4, diversity=0.25))
    assert sentence(lacked) == "relevance 0.40, and 0.25 for what the list lacked"


def test_what_repeats_nothing_at_a_cost_names_nobody() -> None:
    assert {item.why.repeats for item in ranked(diversity=0.0).items} == {None}


def test_rules_limits_and_exploration_are_told() -> None:
    tables = Tables(
        rules={"top": rule("top", "pin", "d", position=1)},
        policies={"p": Policy(policy_id="p", caps={"brand": 1}, explore=1.0)},
    )
    told = table(ranked(tables, policy="p", k=4, diversity=0.0))
    assert "rule top" in told
    assert "by exploration" in told
    assert "sponsored" in told
    assert "rules that spoke: top" in told
    assert "limits that the candidates did not allow: caps.brand" in told


def test_a_query_that_was_read_otherwise_is_told_as_both() -> None:
    found = msgspec.structs.replace(ranked(), read_as="running shoes")
    assert " 'running shoes'  dial" in table(found)
    assert " read as " in table(found)
    assert " read as " not in table(ranked())


def test_a_limit_that_held_back_a_better_item_is_told() -> None:
    tables = Tables(policies={"p": Policy(policy_id="p", caps={"brand": 1})})
    found = ranked(tables, policy="p", k=2, diversity=0.0)
    assert [item.item_id for item in ranked(k=2, diversity=0.0).items] == ["c", "a"]
    assert [item.item_id for item in found.items] == ["c", "a"]
    assert found.items[1].why.limit is None
    three = ranked(tables, policy="p", k=3, diversity=0.0)
    assert three.limits_relaxed == ("caps.brand",)
    acme = Tables(rules={"one": rule("one", "cap", field="brand", value="Acme", limit=1)})
    held = ranked(acme, k=3, diversity=0.0).items[2]
    assert (held.item_id, held.why.limit) == ("d", "one")
    assert "limit one held back a better one" in sentence(held)


def test_the_fallback_order_is_told() -> None:
    weak = fall_back(joined(event(SHOES)), Overlap(), "deadline")
    assert "the engine's order" in table(weak)
    assert "degraded: deadline" in table(weak)


def test_an_id_forges_no_line() -> None:
    forged = candidate("a\n1  b  (1)  relevance 1.00\x1b[2J", title="running shoes")
    told = table(rerank([joined(event([forged]))], Overlap())[0])
    assert len(told.splitlines()) == 2
    assert "\x1b" not in told
