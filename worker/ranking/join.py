"""Hop 2: a search event with everything that the tables know of it. After this only values move.

Fields that a candidate carries win over the catalogue's. A repeated item keeps its first place. An
item without a title anywhere is unknown: it goes last, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from worker.errors import Invalid
from worker.events import Candidate, HistoryEntry, Item, ListRule, SearchEvent
from worker.policies import Ads, ListLimit, Policy, Tail
from worker.ranking import profiles, rules

TEXT_FIELDS: Final = ("title", "description", "category", "brand")
PLAIN_FIELDS: Final = tuple(
    name for name in Item.__struct_fields__ if name not in ("item_id", "attributes", "extras")
)


def remembers_nobody(_user: str) -> tuple[HistoryEntry, ...]:
    """The profiles of a worker that keeps none."""
    return ()


@dataclass(frozen=True, slots=True)
class Tables:
    """What the worker knows besides the event. Read on the event loop only."""

    catalogue: Mapping[str, Item] = field(default_factory=dict)
    rules: Mapping[str, ListRule] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    history: Callable[[str], tuple[HistoryEntry, ...]] = remembers_nobody
    categories: tuple[str, ...] = ()  # names of the catalogue's categories, sorted


@dataclass(frozen=True, slots=True)
class Dials:
    """What is in force for one list."""

    diversity: float = 0.2
    method: str = "facets"
    engine_weight: float = 0.0
    deadline_ms: float | None = None
    profile_weight: float = 0.5
    max_text_chars: int = 2_000
    personalise: bool = True
    pair_candidates: int = 64  # how many candidates a pair model reads, at most
    explore: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate, joined with the catalogue."""

    item: Candidate
    engine_rank: int  # 1 is the event's first


@dataclass(frozen=True, slots=True)
class JoinedSearch:
    """A search that needs nothing more from outside."""

    event: SearchEvent
    entries: tuple[Entry, ...]
    unknown: tuple[Entry, ...]
    repeated: tuple[str, ...]
    history: tuple[tuple[Item, float], ...]  # items that the user acted on, and their weights
    rules: tuple[ListRule, ...]  # those that speak for this query now, strongest first
    policy_id: str
    dials: Dials
    categories: tuple[str, ...]
    truncated: int  # texts that were cut
    limits: tuple[ListLimit, ...] = ()  # of the policy, the most important first
    ads: Ads | None = None
    tail: Tail | None = None
    asked: str | None = None  # the query as a model reads it; None: as it is written

    @property
    def query(self) -> str:
        """What a model reads."""
        return self.event.user_query if self.asked is None else self.asked

    @property
    def depth(self) -> int | None:
        """How many places are asked for, from the first; None for all."""
        return None if self.event.k is None else (self.event.offset or 0) + self.event.k


def join(
    event: SearchEvent, tables: Tables, dials: Dials, diversity: float | None = None
) -> JoinedSearch:
    """Join one event. `diversity` is a command line's flag: it goes before every other dial.

    Raises Invalid where the event names a policy that is not there.
    """
    policy = _policy(event, tables)
    event, cut = _cut_query(event, dials.max_text_chars)
    entries: list[Entry] = []
    unknown: list[Entry] = []
    repeated: dict[str, None] = {}
    seen: set[str] = set()
    for rank, candidate in enumerate(event.candidates, start=1):
        if candidate.item_id in seen:
            repeated[candidate.item_id] = None
            continue
        seen.add(candidate.item_id)
        item = _merged(candidate, tables.catalogue.get(candidate.item_id))
        item, cuts = _cut_texts(item, dials.max_text_chars)
        cut += cuts
        known = item.title is not None and item.title.strip() != ""
        (entries if known else unknown).append(Entry(item, rank))
    return JoinedSearch(
        event=event,
        entries=tuple(entries),
        unknown=tuple(unknown),
        repeated=tuple(repeated),
        history=_history(event, tables) if dials.personalise else (),
        rules=rules.speaking(tables.rules.values(), event),
        policy_id=event.policy or "default",
        dials=_in_force(event, policy, dials, diversity),
        categories=_categories(entries, tables),
        truncated=cut,
        limits=_limits(policy),
        ads=None if policy is None else policy.ads,
        tail=None if policy is None else policy.tail,
    )


def _policy(event: SearchEvent, tables: Tables) -> Policy | None:
    policy = tables.policies.get(event.policy or "default")
    if policy is None and event.policy not in (None, "default"):
        known = ", ".join(sorted({"default", *tables.policies}))
        raise Invalid(
            "$.policy", f"one of the policies ({known[:200]})", event.policy, stage="join"
        )
    return policy


def _in_force(
    event: SearchEvent, policy: Policy | None, dials: Dials, diversity: float | None
) -> Dials:
    """Precedence: command-line flag, event, policy, setting."""
    policy = policy or Policy(policy_id="default")
    return replace(
        dials,
        diversity=_first(diversity, event.diversity, policy.diversity, dials.diversity),
        method=policy.method or dials.method,
        engine_weight=_first(policy.engine_weight, dials.engine_weight),
        deadline_ms=next(
            (ms for ms in (event.deadline_ms, policy.deadline_ms) if ms is not None),
            dials.deadline_ms,
        ),
        explore=_first(policy.explore, dials.explore),
    )


def _limits(policy: Policy | None) -> tuple[ListLimit, ...]:
    """The policy's limits, and then its caps: short for a limit on each value of a field."""
    if policy is None:
        return ()
    caps = sorted(policy.caps.items())
    return (
        *policy.limits,
        *(ListLimit(limit_id=f"caps.{name}", field=name, at_most=most) for name, most in caps),
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _merged(candidate: Candidate, item: Item | None) -> Candidate:
    """What the candidate does not carry comes from the catalogue."""
    if item is None:
        return candidate
    missing = {
        name: value
        for name in PLAIN_FIELDS
        if getattr(candidate, name) is None and (value := getattr(item, name)) is not None
    }
    if item.attributes:
        missing["attributes"] = item.attributes | candidate.attributes
    return msgspec.structs.replace(candidate, **missing) if missing else candidate


def _cut_texts(item: Candidate, longest: int) -> tuple[Candidate, int]:
    long = {
        name: text[:longest]
        for name in TEXT_FIELDS
        if (text := getattr(item, name)) is not None and len(text) > longest
    }
    return (msgspec.structs.replace(item, **long) if long else item), len(long)


def _cut_query(event: SearchEvent, longest: int) -> tuple[SearchEvent, int]:
    if len(event.user_query) <= longest:
        return event, 0
    return msgspec.structs.replace(event, user_query=event.user_query[:longest]), 1


def _history(event: SearchEvent, tables: Tables) -> tuple[tuple[Item, float], ...]:
    """What the user acted on: the event's own history wins over the profile."""
    user = event.user_id or event.client_id
    if event.personalise is False:
        return ()
    entries = event.history
    if entries is None:
        entries = tables.history(user) if user else ()
    return tuple(
        (item, weight)
        for item_id, weight in sorted(profiles.weights(entries, event.timestamp).items())
        if (item := tables.catalogue.get(item_id)) is not None and item.title
    )


def _categories(entries: list[Entry], tables: Tables) -> tuple[str, ...]:
    """The names that an item without a category may belong to; none where all have theirs."""
    named = {entry.item.category for entry in entries}
    if None not in named:
        return ()
    return tuple(sorted({name for name in named if name} | set(tables.categories)))
