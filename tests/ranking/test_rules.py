"""List rules: when they speak, what they do, and who wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined, random_search, rule
from worker.events import Candidate, ListRule, Match, RankedList
from worker.ranking.join import Tables
from worker.ranking.rerank import fall_back, rerank
from worker.ranking.rules import speaking
from worker.scoring.overlap import Overlap

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

QUERIES = [
    ("running shoes", "exact", "Running  SHOES", True),
    ("running shoes", "exact", "blue running shoes", False),
    ("running shoes", "phrase", "blue running shoes sale", True),
    ("running shoes", "phrase", "running blue shoes", False),
    ("running shoes", "any", "blue shoes", True),
    ("running shoes", "any", "blue boots", False),
    (None, "exact", "anything", True),
    ("国产手机", "exact", "国产手机！", True),
    ("手机", "exact", "国产手机", False),
    ("手机", "phrase", "国产手机排行", True),
    ("手壳", "phrase", "国产手机壳", False),
    ("运动鞋", "any", "运动手表", True),
    ("运动鞋", "any", "华为手机", False),
]


@pytest.mark.parametrize(("wanted", "mode", "query", "speaks"), QUERIES)
def test_a_rule_speaks_for_its_queries(
    wanted: str | None, mode: str, query: str, speaks: bool
) -> None:
    one = rule("r", "block", "a", match=Match(query=wanted, mode=mode))  # type: ignore[arg-type]
    assert bool(speaking([one], event(user_query=query))) is speaks


TIMES = [
    ("within", NOON - HOUR, NOON + HOUR, NOON, True),
    ("before", NOON + HOUR, None, NOON, False),
    ("at its start", NOON, None, NOON, True),
    ("at its end", None, NOON, NOON, False),
    ("an event without a time", NOON - HOUR, None, None, False),
    ("no window", None, None, None, True),
    ("times without an offset are UTC", NOON - HOUR, NOON + HOUR, NOON.replace(tzinfo=None), True),
]


@pytest.mark.parametrize(
    ("starts", "ends", "now", "speaks"), [t[1:] for t in TIMES], ids=[t[0] for t in TIMES]
)
def test_a_rule_speaks_in_its_time(
    starts: datetime | None, ends: datetime | None, now: datetime | None, speaks: bool
) -> None:
    one = rule("r", "block", "a", starts=starts, ends=ends)
    assert bool(speaking([one], event(timestamp=now))) is speaks


def ranked(*rules: ListRule, dial: float = 0.0, **fields: object) -> RankedList:
    """Six items of equal titles, so that the engine's score orders them: a b c d e f."""
    items = [
        candidate(name, title="shoe", score=9.0 - i, category="shoes", brand=f"brand {i % 2}")
        for i, name in enumerate("abcdef")
    ]
    tables = Tables(rules={one.rule_id: one for one in rules})
    return rerank([joined(event(items, diversity=dial, **fields), tables)], Overlap())[0]


def ids(answer: RankedList) -> str:
    return "".join(item.item_id for item in answer.items)


ACTIONS = [
    ("nothing", [], "abcdef", ()),
    ("a pin", [rule("r", "pin", "d", position=2)], "adbcef", ("r",)),
    ("pins in a row", [rule("r", "pin", "e", "d", position=1)], "edabcf", ("r",)),
    ("a pin beyond the end", [rule("r", "pin", "a", position=99)], "bcdefa", ("r",)),
    ("a pin of what is not there", [rule("r", "pin", "z", position=1)], "abcdef", ()),
    ("a block", [rule("r", "block", "a", "c")], "bdef", ("r",)),
    ("a block by field", [rule("r", "block", field="brand", value="brand 0")], "bdf", ("r",)),
    ("a bury", [rule("r", "bury", "a")], "bcdefa", ("r",)),
    ("a boost", [rule("r", "boost", "f", factor=50.0)], "fabcde", ("r",)),
    ("a boost below 1", [rule("r", "boost", "a", factor=0.5)], "bcdefa", ("r",)),
    (
        "a place that is taken passes the weaker pin on",
        [rule("r1", "pin", "f", position=1), rule("r2", "pin", "e", position=1)],
        "feabcd",
        ("r1", "r2"),
    ),
    (
        "priority goes before rule_id",
        [rule("r1", "pin", "f", position=1), rule("r2", "pin", "e", position=1, priority=5)],
        "efabcd",
        ("r2", "r1"),
    ),
    (
        "the stronger of pin and block",
        [rule("r1", "block", "f"), rule("r2", "pin", "f", position=1, priority=1)],
        "fabcde",
        ("r2",),
    ),
    (
        "the stronger of block and pin",
        [rule("r1", "block", "f", priority=1), rule("r2", "pin", "f", position=1)],
        "abcde",
        ("r1",),
    ),
]


@pytest.mark.parametrize(
    ("rules", "expected", "applied"), [a[1:] for a in ACTIONS], ids=[a[0] for a in ACTIONS]
)
def test_what_rules_do(rules: list[ListRule], expected: str, applied: tuple[str, ...]) -> None:
    answer = ranked(*rules)
    assert ids(answer) == expected
    assert answer.rules_applied == applied


def test_the_rule_is_named_where_it_acted() -> None:
    answer = ranked(rule("sale", "pin", "d", position=2))
    assert [item.why.rule for item in answer.items] == [None, "sale", None, None, None, None]


def test_everything_blocked_is_an_empty_list() -> None:
    assert ids(ranked(rule("r", "block", match=Match(category="shoes")))) == ""


@given(
    st.integers(0, 1_000),
    st.dictionaries(st.integers(1, 12), st.integers(0, 11), max_size=4).filter(
        lambda pins: len(set(pins.values())) == len(pins)
    ),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_pins_hold_and_nothing_is_lost(seed: int, pins: dict[int, int], dial: float) -> None:
    rules = {
        f"r{place}": rule(f"r{place}", "pin", f"i{item}", position=place)
        for place, item in pins.items()
    }
    search = joined(random_search(seed, 12, diversity=dial), Tables(rules=rules))
    answer = rerank([search], Overlap())[0]
    assert sorted(item.item_id for item in answer.items) == sorted(f"i{n}" for n in range(12))
    for place, item in pins.items():
        assert answer.items[place - 1].item_id == f"i{item}"


def test_a_block_holds_for_an_item_whose_title_nobody_knows() -> None:
    recall = rule("recall", "block", "nameless")
    search = event([candidate("a"), Candidate(item_id="nameless")])
    for answer in (
        rerank([joined(search, Tables(rules={"recall": recall}))], Overlap())[0],
        fall_back(joined(search, Tables(rules={"recall": recall})), Overlap(), "deadline"),
    ):
        assert ids(answer) == "a"
        assert answer.rules_applied == ("recall",)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule("r", "boost", "f", factor=1e6)], "fabcde"),
        (
            [rule("r1", "boost", "f", factor=1e300), rule("r2", "boost", "f", factor=1e300)],
            "fabcde",
        ),
        ([rule("r", "pin", "f", position=1)], "fabcde"),
        ([rule("r", "block", "a")], "bcdef"),
        ([rule("r", "bury", "a")], "bcdefa"),
        ([rule("r", "boost", "b", factor=2.0)], "bacdef"),
    ],
)
def test_rules_apply_in_the_fallback_order_too(rules: list[ListRule], expected: str) -> None:
    items = [candidate(name, score=9.0 - i) for i, name in enumerate("abcdef")]
    tables = Tables(rules={one.rule_id: one for one in rules})
    answer = fall_back(joined(event(items), tables), Overlap(), "deadline")
    assert ids(answer) == expected
    assert answer.rules_applied == tuple(one.rule_id for one in rules)
