"""Checks files before they meet a worker: events, items, rules, policies, behaviour, or settings.

What a line is, its fields say; a file that ends in `.env` holds settings. Every fault of a line is
told, not only the first.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from worker import codec, settings
from worker.errors import BadMessage, BadSetting, Invalid
from worker.events import Behaviour, Candidate, Item, ListRule, SearchEvent
from worker.policies import Ads, ListLimit, Policy, Tail
from worker.ranking.diversify import METHODS

INNER: Final[dict[type[msgspec.Struct], dict[str, type[msgspec.Struct]]]] = {
    SearchEvent: {"candidates": Candidate},
    Policy: {"limits": ListLimit, "ads": Ads, "tail": Tail},
}
"""The objects within a message, alone or in a list."""
KINDS: Final[dict[str, type[msgspec.Struct]]] = {
    "rule_id": ListRule,
    "policy_id": Policy,
    "action_name": Behaviour,
    "query_id": SearchEvent,
    "user_query": SearchEvent,
    "candidates": SearchEvent,
    "item_id": Item,
}
"""The field that tells what a line is, the most telling first."""
FIRST_STEP = re.compile(r"^\$\.(?P<field>[^.\[\]]+)")


class Fault(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """One thing that is wrong in a file."""

    file: str
    line: int
    kind: str
    path: str
    expected: str
    value: str

    def __str__(self) -> str:
        found = f", got {self.value}" if self.value else ""
        return f"{self.file}:{self.line}: {self.path}: expected {self.expected}{found}"


def faults(path: Path, limits: codec.Limits) -> Iterator[Fault]:
    """Every fault of a file; raises BadSetting where it cannot be read."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from error
    if path.suffix == ".env" or path.name == ".env":
        yield from _faults_of_settings(path, lines)
        return
    for number, raw in enumerate(lines, start=1):
        if raw.strip() or number < len(lines):
            for fault in faults_of_line(raw, limits):
                yield _fault(path, number, fault)


def faults_of_line(raw: bytes, limits: codec.Limits) -> Iterator[BadMessage]:
    """Every fault of one line."""
    try:
        tree = codec.parse(raw, limits)
    except BadMessage as error:
        yield error
        return
    names = tree.keys() if isinstance(tree, dict) else ()
    kind = next((struct for name, struct in KINDS.items() if name in names), None)
    if kind is None:
        yield Invalid("$", "an object with one of the fields " + ", ".join(KINDS), tree)
        return
    found = list(_faults_of_tree(tree, kind, "$"))
    candidates = tree.get("candidates") if kind is SearchEvent else None
    if candidates is not None and not isinstance(candidates, list):
        found.append(Invalid("$.candidates", "`array`", candidates))
    if isinstance(candidates, list):
        if len(candidates) > limits.candidates:
            found.append(Invalid("$.candidates", f"at most {limits.candidates}", len(candidates)))
        for index, candidate in enumerate(candidates):
            found += _faults_of_tree(candidate, Candidate, f"$.candidates[{index}]")
    yield from found or _faults_of_meaning(raw, kind, limits)


def _faults_of_tree(tree: Any, kind: type[msgspec.Struct], at: str) -> Iterator[Invalid]:
    """Convert; on a fault note it, drop the field, and try again."""
    tree = (
        {name: v for name, v in tree.items() if name != "candidates"}
        if isinstance(tree, dict)
        else tree
    )
    told: set[str] = set()
    while True:
        try:
            codec.convert(tree, kind)
            return
        except Invalid as error:
            step = FIRST_STEP.match(error.path)
            if error.path in told:
                return
            told.add(error.path)
            path = at + error.path.removeprefix("$")
            yield Invalid(path, error.expected) if error.value == "" else _moved(error, path)
            if step is None or tree.pop(step["field"], None) is None:
                return


def _moved(error: Invalid, path: str) -> Invalid:
    moved = Invalid(path, error.expected)
    moved.value = error.value
    return moved


def _faults_of_meaning(
    raw: bytes, kind: type[msgspec.Struct], limits: codec.Limits
) -> Iterator[BadMessage]:
    """What only the decoder of a rule or a policy knows."""
    try:
        if kind is ListRule:
            codec.decode_rule(raw, limits)
        elif kind is Policy:
            codec.decode_policy(raw, limits, frozenset(METHODS))
    except BadMessage as error:
        yield error


def notes(path: Path) -> Iterator[str]:
    """Fields that no message names: kept, and never a fault, but a typo looks just like one."""
    for number, kind, tree in _messages(path):
        yield from _near_misses(f"{path}:{number}", tree, kind)
        for field, within in INNER.get(kind, {}).items():
            inner = tree.get(field)
            for one in inner if isinstance(inner, list) else [inner]:
                yield from _near_misses(f"{path}:{number}", one, within)


def unknown_policies(paths: Sequence[Path]) -> Iterator[str]:
    """Events that ask for a policy which none of the files has, where one of them has any: a worker
    that knows no others would give them to the dead letters."""
    messages = [(path, *found) for path in paths for found in _messages(path)]
    known = {str(tree["policy_id"]) for _, _, kind, tree in messages if kind is Policy}
    for path, number, kind, tree in messages if known else ():
        asked = tree.get("policy") if kind is SearchEvent else None
        if isinstance(asked, str) and asked not in known:
            near = difflib.get_close_matches(asked, known, 1)
            hint = f"; was {near[0]} meant?" if near else ""
            yield f"{path}:{number}: policy {asked!r} is in none of these files{hint}"


def _messages(path: Path) -> Iterator[tuple[int, type[msgspec.Struct], dict[str, Any]]]:
    """(line, kind, fields) of what can be read as a message; nothing of settings."""
    if path.suffix == ".env" or path.name == ".env":
        return
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            tree = codec.parse(raw, codec.Limits())
        except BadMessage:
            continue
        kind = next(
            (k for name, k in KINDS.items() if isinstance(tree, dict) and name in tree), None
        )
        if kind is not None:
            yield number, kind, tree


def _near_misses(where: str, tree: Any, kind: type[msgspec.Struct]) -> Iterator[str]:
    known = kind.__struct_encode_fields__
    for name in tree if isinstance(tree, dict) else ():
        if name not in known and (near := difflib.get_close_matches(name, known, 1)):
            yield f"{where}: {name} is no field of {kind.__name__}; was {near[0]} meant?"


def _faults_of_settings(path: Path, lines: list[bytes]) -> Iterator[Fault]:
    """Lines of NAME=value, as an environment file has them; each setting is tried alone."""
    for number, raw in enumerate(lines, start=1):
        text = raw.decode("utf-8", "replace").strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, _, value = text.partition("=")
        try:
            settings.read({name: value.strip("'\""), f"{settings.PREFIX}HTTP_TOKEN": "any"})
        except BadSetting as error:
            reason = str(error).removeprefix(f"{name}: ").removeprefix("expected ")
            reason = reason.replace("no such setting", "the name of a setting")
            yield Fault(
                file=str(path), line=number, kind="BadSetting", path=name, expected=reason, value=""
            )


def _fault(path: Path, line: int, error: BadMessage) -> Fault:
    return Fault(
        file=str(path),
        line=line,
        kind=type(error).__name__,
        path=error.path,
        expected=error.expected,
        value=error.value,
    )
