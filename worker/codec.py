"""Bytes <-> events: the only file that knows the wire.

Every `decode_*` takes bytes and gives a valid event or raises `BadMessage`, which says which field,
which value and what was expected. Nothing else escapes, whatever the bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from worker import policies
from worker.errors import BadMessage, Invalid, TooLarge, Undecodable
from worker.events import (
    Behaviour,
    Candidate,
    EventAttributes,
    Experiment,
    HistoryEntry,
    Item,
    ListRule,
    Match,
    ObjectRef,
    Position,
    Profile,
    RankedList,
    SearchEvent,
)
from worker.policies import Ads, ListLimit, Policy, Tail

WHERE: Final = re.compile(r" - at `(?P<path>[^`]+)`$")
WORD: Final = re.compile(r"\w")
STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
MISSING: Final = re.compile(r"Object missing required field `(?P<field>[^`]+)`")

PLAINER: Final = {
    r"^Number out of range": "a number within range",
    r"^Invalid enum value .*": "one of the values that its schema names",
    r"^Invalid RFC3339.*": "an RFC 3339 time",
}
"""msgspec's words for what was found, as what was expected."""

T = TypeVar("T", bound=Struct)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a message may be."""

    record_bytes: int = 1_048_576
    candidates: int = 1_000


def decode_search_event(raw: bytes, limits: Limits) -> SearchEvent:
    """A search event; what no field is named for is in its and its candidates' `extras`."""
    tree = parse(raw, limits)
    candidates = tree.get("candidates") if isinstance(tree, dict) else None
    if isinstance(candidates, list):
        if len(candidates) > limits.candidates:
            expected = f"at most {limits.candidates} candidates (PRISMRANK_MAX_CANDIDATES)"
            raise TooLarge("$.candidates", expected, len(candidates))
        for candidate in candidates:
            _tidy(candidate, Candidate)
    return convert(tree, SearchEvent)


def decode_item(raw: bytes, limits: Limits) -> Item:
    """A value of the catalogue."""
    return convert(parse(raw, limits), Item)


def decode_behaviour(raw: bytes, limits: Limits) -> Behaviour:
    """A UBI event, as it is."""
    return convert(parse(raw, limits), Behaviour)


def decode_rule(raw: bytes, limits: Limits) -> ListRule:
    """A list rule that can be applied: what its action needs is there."""
    rule = convert(parse(raw, limits), ListRule)
    if rule.action == "cap" and rule.limit is None:
        raise Invalid("$.limit", "how many items the first page may show")
    if rule.action == "pin" and not rule.item_ids:
        raise Invalid("$.item_ids", "the items that are to be pinned")
    if rule.action == "boost" and rule.factor is None:
        raise Invalid("$.factor", "a factor above 0, on the odds of relevance")
    if not (rule.item_ids or rule.field or rule.match.category):
        raise Invalid("$", "item_ids, field and value, or match.category: which items it is about")
    if rule.field and rule.field not in Item.__struct_fields__:
        raise Invalid("$.field", "a field of an item", rule.field)
    if rule.field and rule.value is None and rule.action != "cap":
        raise Invalid("$.value", f"the value of {rule.field} that is meant")
    if rule.match.query is not None and not WORD.search(rule.match.query):
        raise Invalid("$.match.query", "at least one word; leave it out for all", rule.match.query)
    return rule


def decode_policy(raw: bytes, limits: Limits, methods: frozenset[str]) -> Policy:
    """A policy whose every dial is known; `methods` are the names of the diversifiers."""
    policy = convert(parse(raw, limits), Policy)
    policies.check(policy, methods)
    return policy


def decode_profile(raw: bytes) -> Profile:
    """A profile as the worker itself wrote it, of whatever size."""
    return convert(parse(raw, Limits(record_bytes=len(raw))), Profile)


def decode_ranked_list(raw: bytes, limits: Limits) -> RankedList:
    """A ranked list, for those who read what the worker wrote."""
    return convert(parse(raw, limits), RankedList)


def encode(message: Struct) -> bytes:
    """The bytes of a message: UTF-8 JSON, one object."""
    return _ENCODER.encode(message)


def list_id(answer: RankedList) -> str:
    """The digest of an answer without its id and its times: equal answers have equal ids."""
    timeless = msgspec.structs.replace(
        answer, list_id="", timestamp=None, timing_ms=type(answer.timing_ms)()
    )
    return hashlib.sha256(_ENCODER.encode(timeless)).hexdigest()[:32]


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()
_NAMES: Final[dict[type[Struct], frozenset[str]]] = {
    struct: frozenset(struct.__struct_encode_fields__) - {"extras"}
    for struct in (SearchEvent, Candidate, Item, Behaviour)
}
_INNER: Final[dict[type[Struct], dict[str, type[Struct]]]] = {
    SearchEvent: {"history": HistoryEntry, "experiment": Experiment},
    Behaviour: {"event_attributes": EventAttributes},
    EventAttributes: {"object": ObjectRef, "position": Position},
    ListRule: {"match": Match},
    Policy: {"limits": ListLimit, "ads": Ads, "tail": Tail},
}
"""The structs within structs, in which null means absent too."""


def parse(raw: bytes, limits: Limits) -> Any:
    """The JSON value in `raw`, finite and valid UTF-8 throughout."""
    if len(raw) > limits.record_bytes:
        expected = f"a record of at most {limits.record_bytes} bytes (PRISMRANK_MAX_RECORD_BYTES)"
        raise TooLarge("$", expected, len(raw))
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _fault(raw, error) from error


def _fault(raw: bytes, error: Exception) -> BadMessage:
    """The slow road, for bad bytes alone: find the field that msgspec could not name."""
    try:
        tree = json.loads(raw.decode("utf-8", "surrogateescape"))
        for path, value in _leaves(tree):
            if isinstance(value, float) and not math.isfinite(value):
                return Invalid(path, "a finite number", value)
            if isinstance(value, str) and not _is_unicode(value):
                return Undecodable(path, "valid UTF-8", value)
    except RecursionError:
        return Undecodable("$", "JSON that is not nested beyond reason", raw[:40])
    except ValueError as reason:
        return Undecodable("$", f"one JSON object ({reason})", raw[:40])
    return Undecodable("$", f"one JSON object ({error})", raw[:40])


def _leaves(tree: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Every key and value that is no container, with its path."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield path, key
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, tree


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _tidy(tree: Any, struct: type[Struct]) -> None:
    """A field that is null is absent; what `struct` does not name goes where it keeps extras."""
    if not isinstance(tree, dict):
        return
    if None in tree.values():
        for name in [name for name, value in tree.items() if value is None]:
            if name in _optional(struct):
                del tree[name]
    if struct in _NAMES and (unknown := tree.keys() - _NAMES[struct]):
        tree["extras"] = {name: tree.pop(name) for name in sorted(unknown)}
    for name, inner in _INNER.get(struct, {}).items():
        value = tree.get(name)
        for one in value if isinstance(value, list) else (value,):
            _tidy(one, inner)


@functools.cache
def _optional(struct: type[Struct]) -> frozenset[str]:
    """The fields that a message may leave out."""
    fields = msgspec.structs.fields(struct)
    return frozenset(field.encode_name for field in fields if not field.required)


def convert(tree: Any, struct: type[T]) -> T:
    _tidy(tree, struct)
    try:
        return msgspec.convert(tree, struct)
    except msgspec.ValidationError as error:
        raise _invalid(tree, str(error)) from error


def _invalid(tree: Any, message: str) -> Invalid:
    """msgspec's message as ours: the path, what was expected there, and the value found."""
    where = WHERE.search(message)
    path = where["path"] if where else "$"
    if missing := MISSING.match(message):
        return Invalid(f"{path}.{missing['field']}", "a value: the field is required")
    expected = message[: where.start()] if where else message
    expected = re.sub(r", got .*$", "", expected).removeprefix("Expected ")
    for theirs, ours in PLAINER.items():
        expected = re.sub(theirs, ours, expected)
    return Invalid(path, expected, _at(tree, path))


def _at(tree: Any, path: str) -> Any:
    """The value at msgspec's path, as far as the path leads."""
    for name, index in STEP.findall(path):
        try:
            tree = tree[name] if name else tree[int(index)]
        except (KeyError, IndexError, TypeError):
            break
    return tree
