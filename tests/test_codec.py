"""The wire: one table of good and bad messages, and the rules of each field."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined, random_search
from tests.generate import SCHEMAS, schemas
from worker import codec
from worker.errors import BadMessage, Invalid, TooLarge, Undecodable
from worker.events import (
    Candidate,
    EventAttributes,
    Experiment,
    HistoryEntry,
    ObjectRef,
    Position,
    SearchEvent,
)
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap

LIMITS = codec.Limits()
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

GOOD: list[tuple[str, str, SearchEvent]] = [
    ("the least", '{"query_id":"q","user_query":""}', SearchEvent(query_id="q", user_query="")),
    (
        "a candidate by its id",
        '{"query_id":"q","user_query":"shoes","candidates":[{"item_id":"a"}]}',
        SearchEvent(query_id="q", user_query="shoes", candidates=(Candidate(item_id="a"),)),
    ),
    (
        "a candidate that carries everything",
        '{"query_id":"q","user_query":"shoes","candidates":[{"item_id":"a","title":"Trail shoe",'
        '"description":"…","category":"shoes","brand":"Acme","seller":"s","price":79.0,'
        '"group_id":"g","in_stock":true,"attributes":{"colour":"blue"},"score":12.7,'
        '"features":{"ctr":0.031},"bid":0.4,"sponsored":true,"ad_id":"ad-5"}]}',
        SearchEvent(
            query_id="q",
            user_query="shoes",
            candidates=(
                Candidate(
                    item_id="a",
                    title="Trail shoe",
                    description="…",
                    category="shoes",
                    brand="Acme",
                    seller="s",
                    price=79.0,
                    group_id="g",
                    in_stock=True,
                    attributes={"colour": "blue"},
                    score=12.7,
                    features={"ctr": 0.031},
                    bid=0.4,
                    sponsored=True,
                    ad_id="ad-5",
                ),
            ),
        ),
    ),
    (
        "every dial",
        '{"query_id":"q","user_query":"x","user_id":"u","client_id":"c","application":"web",'
        '"locale":"en","timestamp":"2026-11-24T12:00:00Z","k":20,"offset":0,"diversity":0.3,'
        '"deadline_ms":150.0,"policy":"default","experiment":{"id":"e","arm":"b"},'
        '"personalise":true,"history":[{"item_id":"h","action_name":"purchase"}],'
        '"query_attributes":{"page":1}}',
        SearchEvent(
            query_id="q",
            user_query="x",
            user_id="u",
            client_id="c",
            application="web",
            locale="en",
            timestamp=NOON,
            k=20,
            offset=0,
            diversity=0.3,
            deadline_ms=150.0,
            policy="default",
            experiment=Experiment(id="e", arm="b"),
            personalise=True,
            history=(HistoryEntry(item_id="h", action_name="purchase"),),
            query_attributes={"page": 1},
        ),
    ),
    (
        "unknown fields are kept",
        '{"query_id":"q","user_query":"x","candidates":[{"item_id":"a","extras":{"size":9}}],'
        '"extras":{"page":"home"}}',
        SearchEvent(
            query_id="q",
            user_query="x",
            candidates=(Candidate(item_id="a", extras={"extras": {"size": 9}}),),
            extras={"extras": {"page": "home"}},
        ),
    ),
]


def search(**fields: object) -> bytes:
    """A small event with some fields set."""
    return json.dumps({"query_id": "q", "user_query": "x", **fields}).encode()


BAD: list[tuple[str, bytes, type[BadMessage], str]] = [
    ("no bytes", b"", Undecodable, "$"),
    ("not UTF-8 at all", b"\xff\xfe\x00", Undecodable, "$"),
    ("not UTF-8 in a field", b'{"query_id":"\xff","user_query":""}', Undecodable, "$.query_id"),
    ("half a surrogate", b'{"query_id":"\\ud800","user_query":""}', Undecodable, "$.query_id"),
    ("not JSON", b"query=shoes", Undecodable, "$"),
    ("cut off", b'{"query_id":"q"', Undecodable, "$"),
    ("two objects", b"{} {}", Undecodable, "$"),
    ("nested beyond reason", b"[" * 100_000, Undecodable, "$"),
    ("a list", b"[]", Invalid, "$"),
    ("null", b"null", Invalid, "$"),
    ("no query_id", b'{"user_query":""}', Invalid, "$.query_id"),
    ("an empty query_id", search(query_id=""), Invalid, "$.query_id"),
    ("a query_id that is no string", search(query_id=7), Invalid, "$.query_id"),
    ("no user_query", b'{"query_id":"q"}', Invalid, "$.user_query"),
    ("a null user_query", search(user_query=None), Invalid, "$.user_query"),
    ("no item_id", search(candidates=[{"item_id": "a"}, {}]), Invalid, "$.candidates[1].item_id"),
    ("an empty item_id", search(candidates=[{"item_id": ""}]), Invalid, "$.candidates[0].item_id"),
    ("candidates that are no list", search(candidates={}), Invalid, "$.candidates"),
    ("a candidate that is none", search(candidates=["a"]), Invalid, "$.candidates[0]"),
    (
        "a score that is NaN",
        b'{"query_id":"q","user_query":"","candidates":[{"item_id":"a","score":NaN}]}',
        Invalid,
        "$.candidates[0].score",
    ),
    (
        "a score beyond all bounds",
        b'{"query_id":"q","user_query":"","candidates":[{"item_id":"a","score":1e999}]}',
        Invalid,
        "$.candidates[0].score",
    ),
    (
        "a price in words",
        search(candidates=[{"item_id": "a", "price": "9.99"}]),
        Invalid,
        "$.candidates[0].price",
    ),
    (
        "a feature that is no number",
        search(candidates=[{"item_id": "a", "features": {"ctr": "high"}}]),
        Invalid,
        "$.candidates[0].features[...]",
    ),
    ("k of 0", search(k=0), Invalid, "$.k"),
    ("k that is no integer", search(k=1.5), Invalid, "$.k"),
    ("a negative offset", search(offset=-1), Invalid, "$.offset"),
    ("a dial above 1", search(diversity=1.01), Invalid, "$.diversity"),
    ("a dial below 0", search(diversity=-0.1), Invalid, "$.diversity"),
    ("a negative deadline", search(deadline_ms=-1), Invalid, "$.deadline_ms"),
    ("a time that is none", search(timestamp="yesterday"), Invalid, "$.timestamp"),
    (
        "too many candidates",
        search(candidates=[{"item_id": str(i)} for i in range(1_001)]),
        TooLarge,
        "$.candidates",
    ),
    ("too large a record", search(user_query="x" * 1_048_576), TooLarge, "$"),
]


@pytest.mark.parametrize(("raw", "expected"), [g[1:] for g in GOOD], ids=[g[0] for g in GOOD])
def test_a_good_message_is_read_as_the_event_that_it_is(raw: str, expected: SearchEvent) -> None:
    assert codec.decode_search_event(raw.encode(), LIMITS) == expected


@pytest.mark.parametrize("expected", [g[2] for g in GOOD[:-1]], ids=[g[0] for g in GOOD[:-1]])
def test_a_good_event_is_written_and_read_back(expected: SearchEvent) -> None:
    assert codec.decode_search_event(codec.encode(expected), LIMITS) == expected


@pytest.mark.parametrize(("raw", "kind", "path"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_message_names_the_field_at_fault(
    raw: bytes, kind: type[BadMessage], path: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.decode_search_event(raw, LIMITS)
    assert type(caught.value) is kind
    assert caught.value.path == path
    assert caught.value.expected
    assert str(caught.value).startswith(path)


def test_the_message_tells_the_value_and_what_was_expected() -> None:
    with pytest.raises(Invalid, match=r"^\$\.diversity: expected `float` <= 1\.0, got 1\.7$"):
        codec.decode_search_event(search(diversity=1.7), LIMITS)


def test_a_field_that_is_null_is_a_field_that_is_absent() -> None:
    nulls = search(
        candidates=None, k=None, diversity=None, timestamp=None, policy=None, history=None
    )
    assert codec.decode_search_event(nulls, LIMITS) == codec.decode_search_event(search(), LIMITS)


def test_null_means_absent_in_every_struct_within_a_struct() -> None:
    raw = search(
        query_attributes=None,
        experiment={"id": "e", "arm": None},
        history=[{"item_id": "h", "action_name": None}],
        candidates=[{"item_id": "a", "attributes": None, "features": None}],
        page=None,
    )
    read = codec.decode_search_event(raw, LIMITS)
    assert read.candidates == (Candidate(item_id="a"),)
    assert read.history == (HistoryEntry(item_id="h"),)
    assert read.extras == {"page": None}
    bare = codec.decode_behaviour(b'{"action_name":"click","event_attributes":null}', LIMITS)
    assert bare.event_attributes == EventAttributes()


@pytest.mark.parametrize("depth", [900, 940, 960, 980, 990, 996, 999, 5_000])
def test_json_at_the_edge_of_the_recursion_limit_is_a_bad_message(depth: int) -> None:
    raw = b'{"item_id":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(BadMessage):
        codec.decode_item(raw, LIMITS)


def test_unknown_fields_are_kept_aside_at_both_levels() -> None:
    raw = search(page="home", candidates=[{"item_id": "a", "warehouse": 3}])
    read = codec.decode_search_event(raw, LIMITS)
    assert read.extras == {"page": "home"}
    assert read.candidates[0].extras == {"warehouse": 3}


def path_of(decode: Callable[[bytes, codec.Limits], object], raw: bytes) -> str:
    """The path that a BadMessage names, "$" where there is none; anything else escapes."""
    try:
        decode(raw, LIMITS)
    except BadMessage as error:
        return error.path
    return "$"


DECODERS = (codec.decode_search_event, codec.decode_item, codec.decode_behaviour)


@given(raw=st.binary(max_size=200), decode=st.sampled_from(DECODERS))
def test_whatever_the_bytes_only_a_bad_message_escapes(
    raw: bytes, decode: Callable[[bytes, codec.Limits], object]
) -> None:
    assert path_of(decode, raw).startswith("$")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(SearchEvent.__struct_fields__)), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_the_json_only_a_bad_message_escapes(tree: object) -> None:
    raw = json.dumps(tree).encode("utf-8", "surrogatepass")
    assert path_of(codec.decode_search_event, raw).startswith("$")


def test_a_ranked_list_is_written_and_read_back() -> None:
    answer = rerank([joined(random_search(1, 5))], Overlap())[0]
    assert codec.decode_ranked_list(codec.encode(answer), LIMITS) == answer


def test_a_ubi_event_is_taken_as_it_is() -> None:
    raw = (
        b'{"application":"Chorus","action_name":"click","query_id":"q","session_id":"s",'
        b'"client_id":"c","timestamp":"2025-03-03T16:47:48.834Z","message_type":"CLICK",'
        b'"message":"clicked","user_query":"earbuds","event_attributes":{"object":'
        b'{"object_id":"B06XWPHG53","object_id_field":"asin","object_detail":{"price":9}},'
        b'"position":{"ordinal":17,"xy":{"x":1,"y":2}},"list_id":"l-1","dwell_ms":4000},'
        b'"page":"/search"}'
    )
    read = codec.decode_behaviour(raw, LIMITS)
    assert read.action_name == "click"
    assert read.event_attributes == EventAttributes(
        object=ObjectRef(object_id="B06XWPHG53", object_id_field="asin"),
        position=Position(ordinal=17),
        list_id="l-1",
    )
    assert read.extras == {"page": "/search"}


RULES: list[tuple[str, dict[str, object], str]] = [
    ("an unknown action", {"action": "hide", "item_ids": ["a"]}, "$.action"),
    ("a cap without a number", {"action": "cap", "field": "brand"}, "$.limit"),
    ("a cap on everything", {"action": "cap", "limit": 2}, "$"),
    ("a pin of nothing", {"action": "pin", "match": {"category": "shoes"}}, "$.item_ids"),
    ("a boost without a factor", {"action": "boost", "item_ids": ["a"]}, "$.factor"),
    ("a boost by 0", {"action": "boost", "item_ids": ["a"], "factor": 0}, "$.factor"),
    ("a block of everything", {"action": "block"}, "$"),
    ("a field without the value that is meant", {"action": "block", "field": "price"}, "$.value"),
    (
        "a query without a word",
        {"action": "block", "item_ids": ["a"], "match": {"query": "👟"}},
        "$.match.query",
    ),
    ("a field that no item has", {"action": "block", "field": "size", "value": 9}, "$.field"),
]


@pytest.mark.parametrize(("fields", "path"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_a_rule_that_cannot_be_applied_is_refused(fields: dict[str, object], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        codec.decode_rule(json.dumps({"rule_id": "r", **fields}).encode(), LIMITS)
    assert caught.value.path == path


def test_the_schemas_in_the_package_are_those_of_the_structs() -> None:
    found = {path.name: path.read_bytes() for path in Path(SCHEMAS).glob("*.json")}
    assert found == schemas(), "run `make docs`"


def test_an_event_keeps_to_its_schema() -> None:
    schema = msgspec.json.decode(schemas()["SearchEvent.json"])
    fields = schema["$defs"]["SearchEvent"]["properties"].keys()
    written = msgspec.json.decode(codec.encode(event([candidate()], k=3)))
    assert written.keys() <= fields
