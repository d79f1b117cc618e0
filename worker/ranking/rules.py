"""List rules: which speak for a query, and what they make of its candidates.

Conflicts go by priority (the higher first), then by rule_id: an item that one rule has pinned,
blocked or buried is left alone by the next, and a place that is taken passes a pin on to the next
free one. Boosts add up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from worker.events import Candidate, ListRule, SearchEvent
from worker.ranking.profiles import utc

UNSPACED: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han
RUN: Final = re.compile(rf"([{UNSPACED}]+)|[^\W{UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Placement:
    """What the rules ask of n candidates, by their index."""

    pinned: dict[int, int]  # place (0 is the first) -> candidate
    blocked: frozenset[int]
    buried: frozenset[int]
    boosts: tuple[float, ...]  # [n] added to the logit of relevance: log of the factors
    rule_of: dict[int, str]  # candidate -> the rule that is named as its reason
    applied: tuple[str, ...]


def speaking(rules: Iterable[ListRule], event: SearchEvent) -> tuple[ListRule, ...]:
    """The rules whose query and time fit the event, strongest first."""
    fitting = (rule for rule in rules if _fits_time(rule, event) and _fits_query(rule, event))
    return tuple(sorted(fitting, key=lambda rule: (-rule.priority, rule.rule_id)))


def place(rules: Sequence[ListRule], items: Sequence[Candidate]) -> Placement:
    """What `rules` (strongest first) make of `items`."""
    pinned: dict[int, int] = {}
    blocked: set[int] = set()
    buried: set[int] = set()
    boosts = [0.0] * len(items)
    rule_of: dict[int, str] = {}
    applied: dict[str, None] = {}
    index_of = {item.item_id: index for index, item in enumerate(items)} if rules else {}
    settled: set[int] = set()
    for rule in rules:
        if rule.action == "cap":  # a limit on the list, not a place for an item: ranking/limits.py
            continue
        for index in _named(rule, items, index_of):
            if rule.action == "boost":
                boosts[index] += math.log(rule.factor or 1.0)
            elif index in settled:
                continue
            else:
                settled.add(index)
            if rule.action == "pin":
                pinned[_free_place(rule, pinned)] = index
            elif rule.action == "block":
                blocked.add(index)
            elif rule.action == "bury":
                buried.add(index)
            rule_of.setdefault(index, rule.rule_id)
            applied[rule.rule_id] = None
    return Placement(
        pinned, frozenset(blocked), frozenset(buried), tuple(boosts), rule_of, tuple(applied)
    )


def _fits_time(rule: ListRule, event: SearchEvent) -> bool:
    """A rule with a window speaks only where the event says when it was."""
    if rule.starts is None and rule.ends is None:
        return True
    if event.timestamp is None:
        return False
    now = utc(event.timestamp)
    return not (
        (rule.starts is not None and now < utc(rule.starts))
        or (rule.ends is not None and now >= utc(rule.ends))
    )


def _fits_query(rule: ListRule, event: SearchEvent) -> bool:
    """exact: the same words; phrase: its words in a row; any: one of its words."""
    if rule.match.query is None:
        return True
    wanted, given = words(rule.match.query), words(event.user_query)
    if rule.match.mode == "exact":
        return wanted == given
    if rule.match.mode == "any":
        return not set(wanted).isdisjoint(given)
    return any(given[i : i + len(wanted)] == wanted for i in range(len(given) - len(wanted) + 1))


def words(text: str) -> list[str]:
    """The words of a text, in lower case.

    Chinese and Japanese put nothing between words; there each two neighbouring characters count as
    one, which retrieves about as well as real words do (Kwok 1997, "Comparing representations in
    Chinese information retrieval", SIGIR).

    >>> words("Acme 防水 trail2")
    ['acme', '防水', 'trail2']
    >>> words("国产手机")
    ['国产', '产手', '手机']
    """
    found: list[str] = []
    for run in RUN.finditer(text.lower()):
        part = run[0]
        if run[1] and len(part) > 2:
            found += [part[i : i + 2] for i in range(len(part) - 1)]
        else:
            found.append(part)
    return found


def targets(rule: ListRule, items: Sequence[Candidate]) -> Iterable[int]:
    """The candidates that a rule is about, in the order in which it names them."""
    return _named(rule, items, {item.item_id: index for index, item in enumerate(items)})


def _named(rule: ListRule, items: Sequence[Candidate], index_of: dict[str, int]) -> Iterable[int]:
    indices: Iterable[int] = range(len(items))
    if rule.item_ids:
        indices = [index_of[item_id] for item_id in rule.item_ids if item_id in index_of]
    return [index for index in indices if _is_about(rule, items[index])]


def _is_about(rule: ListRule, item: Candidate) -> bool:
    if rule.match.category is not None and item.category != rule.match.category:
        return False
    return rule.field is None or rule.value is None or getattr(item, rule.field) == rule.value


def _free_place(rule: ListRule, pinned: dict[int, int]) -> int:
    position = (rule.position or 1) - 1
    while position in pinned:
        position += 1
    return position
