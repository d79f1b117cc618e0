"""The long tail's slot: who stands there is drawn, by a chance that the list tells."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.factories import candidate, event, joined, rule
from worker.events import Candidate, RankedList
from worker.policies import Ads, ListLimit, Policy, Tail
from worker.ranking.explain import sentence, table
from worker.ranking.join import Tables
from worker.ranking.rerank import fall_back, rerank
from worker.scoring.overlap import Overlap

TRIALS = 3_000
POOL = [
    *(candidate(f"known{n}", title="running shoes", features={"sales": 100}) for n in range(5)),
    *(candidate(f"new{n}", title="new running shoes", features={"sales": n}) for n in range(4)),
    candidate("lamp", title="lamp", features={"sales": 0}),
    candidate("ad", title="shoes", features={"sales": 0}, sponsored=True, bid=1.0),
]
SELDOM: dict[str, Any] = {"field": "features.sales", "high": 10.0}


def ranked(number: int, tail: Tail | None, k: int | None = 4, **more: Any) -> RankedList:
    """The list of a search under a query of its own."""
    fields = {name: more.pop(name) for name in ("offset",) if name in more}
    rules = more.pop("rules", {})
    policy = Policy(policy_id="p", tail=tail, diversity=0.0, **more)
    search = joined(
        event(POOL, query_id=f"q{number}", k=k, policy="p", **fields),
        Tables(policies={"p": policy}, rules=rules),
    )
    return rerank([search], Overlap())[0]


def ids(found: RankedList) -> list[str]:
    return [item.item_id for item in found.items]


PLAIN = ids(ranked(0, None))


def test_over_many_queries_items_stand_where_their_probability_says() -> None:
    tail = Tail(rank=3, probability=0.4, relevance_at_least=0.6, **SELDOM)
    seen: Counter[str] = Counter()
    stated: dict[str, float] = {}
    for number in range(TRIALS):
        found = ranked(number, tail)
        third = found.items[2]
        seen[third.item_id] += 1
        stated[third.item_id] = third.shown_probability
        assert [each for each in ids(found) if each != third.item_id] == [
            PLAIN[n] for n in (0, 1, 3)
        ]
        assert [found.items[n].shown_probability for n in (0, 1, 3)] == [1.0] * 3
        assert found.tail_items == (third.item_id,)
    assert stated == {PLAIN[2]: 0.6} | {f"new{n}": 0.1 for n in range(4)}
    for item_id, chance in stated.items():
        error = (chance * (1 - chance) / TRIALS) ** 0.5
        assert abs(seen[item_id] / TRIALS - chance) <= 4 * error


def test_the_pages_of_a_list_know_one_lot() -> None:
    tail = Tail(rank=2, probability=1.0, **SELDOM)
    for number in range(30):
        whole = ranked(number, tail, k=4, offset=0), ranked(number, tail, k=4, offset=4)
        pages = [*ids(whole[0]), *ids(whole[1])]
        assert len(set(pages)) == 8
        assert ids(whole[0])[1] != PLAIN[1]
        assert whole[0].items[1].base_rank > 4
        assert [item.base_rank for item in whole[1].items if item.rank != item.base_rank] in (
            [],
            [2],
        )


@pytest.mark.parametrize(
    ("tail", "more"),
    [
        (Tail(rank=5, probability=1.0, **SELDOM), {}),
        (Tail(rank=1, probability=1.0, relevance_at_least=0.99, **SELDOM), {}),
        (Tail(rank=1, probability=1.0, field="features.sales", low=1000.0), {}),
        (Tail(rank=1, probability=1.0, **SELDOM), {"k": None}),
        (Tail(rank=1, probability=1.0, **SELDOM), {"k": 50}),
        (
            Tail(rank=1, probability=1.0, **SELDOM),
            {"rules": {"pin": rule("pin", "pin", PLAIN[0], position=1)}},
        ),
        (
            Tail(rank=1, probability=1.0, **SELDOM),
            {"limits": (ListLimit(limit_id="none", at_most=0, **SELDOM),)},
        ),
    ],
    ids=[
        "beyond the page",
        "the floor",
        "nobody",
        "all is shown",
        "more than all",
        "a pin",
        "a limit",
    ],
)
def test_where_nobody_may_come_in_nothing_moves(tail: Tail, more: dict[str, Any]) -> None:
    for number in range(10):
        found = ranked(number, tail, **more)
        assert found.tail_items == ()
        assert all(item.shown_probability == 1.0 for item in found.items)
        assert all(item.base_rank == item.rank for item in found.items)


def test_advertisements_take_no_part() -> None:
    tail = Tail(rank=4, probability=1.0, field="sponsored", value=True)
    assert ranked(0, tail).tail_items == ()
    held = Tail(rank=1, probability=1.0, **SELDOM)
    assert ids(ranked(0, held, ads=Ads(slots=(1,)))) == ids(ranked(0, None, ads=Ads(slots=(1,))))


def test_swaps_of_neighbours_leave_the_slot_alone() -> None:
    tail = Tail(rank=2, probability=0.5, **SELDOM)
    for number in range(40):
        found = ranked(number, tail, explore=1.0)
        assert found.items[1].shown_probability in (0.5, pytest.approx(0.1, abs=1e-6))
        assert found.items[0].shown_probability == 1.0
        assert {item.base_rank for item in found.items[2:]} == {3, 4}


def test_with_limits_and_swaps_too_items_stand_where_their_probability_says() -> None:
    """A pair that some outcome of the lot forbids is open in none."""
    some = ListLimit(limit_id="some", field="features.sales", high=10.0, share_at_least=0.34)
    tail = Tail(rank=2, probability=0.5, **SELDOM)
    seen: Counter[tuple[str, int]] = Counter()
    stated: dict[tuple[str, int], set[float]] = {}
    for number in range(TRIALS):
        for item in ranked(number, tail, k=6, explore=1.0, limits=(some,)).items:
            seen[item.item_id, item.rank] += 1
            stated.setdefault((item.item_id, item.rank), set()).add(item.shown_probability)
    for (item_id, rank), chances in stated.items():
        (chance,) = chances
        error = (chance * (1 - chance) / TRIALS) ** 0.5
        assert abs(seen[item_id, rank] / TRIALS - chance) <= 4 * error


def test_buried_unknown_and_sponsored_items_take_no_part() -> None:
    everybody = Tail(rank=2, probability=1.0, field="features.sales", low=0.0)
    unknown = Candidate(item_id="unknown", features={"sales": 0.0})
    bury = rule("bury", "bury", "new0")
    policy = Policy(policy_id="p", tail=everybody, diversity=0.0)
    seen = set()
    for number in range(200):
        search = joined(
            event([*POOL, unknown], query_id=f"q{number}", k=4, policy="p"),
            Tables(policies={"p": policy}, rules={"bury": bury}),
        )
        seen.add(ids(rerank([search], Overlap())[0])[1])
    assert seen == {item.item_id for item in POOL} - {"new0", "ad"} - set(PLAIN)


def test_only_what_keeps_the_limits_is_drawn() -> None:
    two = ListLimit(limit_id="two", field="features.sales", high=2.0, at_most=0)
    tail = Tail(rank=2, probability=1.0, **SELDOM)
    assert {ids(ranked(number, tail, limits=(two,)))[1] for number in range(100)} == {
        "new2",
        "new3",
    }


def test_a_sponsored_item_is_not_moved() -> None:
    rules = {"b": rule("b", "boost", "ad", factor=100.0)}
    assert ids(ranked(0, None, rules=rules))[0] == "ad"
    assert ranked(0, Tail(rank=1, probability=1.0, **SELDOM), rules=rules).tail_items == ()


def test_a_drawn_item_says_so() -> None:
    found = ranked(0, Tail(rank=2, probability=1.0, **SELDOM)).items[1]
    assert sentence(found, drawn=True).endswith("drawn for the long tail, or for what it moved")
    assert "drawn for the long tail" in table(ranked(0, Tail(rank=2, probability=1.0, **SELDOM)))


def test_a_degraded_list_draws_nothing() -> None:
    policy = Policy(policy_id="p", tail=Tail(rank=1, probability=1.0, **SELDOM))
    search = joined(event(POOL, k=4, policy="p"), Tables(policies={"p": policy}))
    assert fall_back(search, Overlap(), "deadline").tail_items == ()
