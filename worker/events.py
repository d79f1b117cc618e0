"""What travels: every message of the wire as a frozen struct. `schemas/` is generated from here.

`codec` is the only way from bytes to these types and back. A field that is absent and a field that
is null mean the same. Fields that a struct does not name are kept in its `extras`, where it has
them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct
from msgspec import field as struct_field

Json: TypeAlias = Any  # a value of the shop's own, carried and never interpreted
Id: TypeAlias = Annotated[str, Meta(min_length=1, description="an identifier, not empty")]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Timestamp: TypeAlias = Annotated[
    datetime, Meta(description="RFC 3339; without an offset it is UTC")
]
Reason: TypeAlias = Literal["deadline", "model_error"]
MOST_ITEMS: Final = 100_000  # that a limit may speak of
Action: TypeAlias = Literal["pin", "block", "bury", "boost", "cap"]


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing for sale: a value of `items`, and what a candidate says of itself."""

    item_id: Id
    title: str | None = None
    description: str | None = None
    category: str | None = None
    brand: str | None = None
    seller: str | None = None
    price: float | None = None
    group_id: str | None = None
    in_stock: bool | None = None
    attributes: dict[str, Json] = {}
    extras: dict[str, Json] = {}


class Candidate(Item, frozen=True, kw_only=True, omit_defaults=True):
    """An item proposed for a query: what it carries wins over the catalogue."""

    score: float | None = None
    features: dict[str, float] = {}
    bid: float | None = None
    sponsored: bool | None = None
    ad_id: str | None = None


class Experiment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The arm of the shop's own A/B test, echoed in the answer."""

    id: str
    arm: str | None = None


class HistoryEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a user did with an item; a profile is a few of them."""

    item_id: Id
    action_name: str = "click"
    timestamp: Timestamp | None = None


class SearchEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A query and its candidates, asking for an order: a UBI query, plus candidates."""

    query_id: Id
    user_query: str
    user_id: str | None = None
    client_id: str | None = None
    application: str | None = None
    locale: str | None = None
    timestamp: Timestamp | None = None
    candidates: tuple[Candidate, ...] = ()
    k: Annotated[int, Meta(ge=1)] | None = None
    offset: Annotated[int, Meta(ge=0)] | None = None
    diversity: Share | None = None
    deadline_ms: Annotated[float, Meta(ge=0)] | None = None
    policy: str | None = None
    experiment: Experiment | None = None
    personalise: bool | None = None
    history: tuple[HistoryEntry, ...] | None = None
    query_attributes: dict[str, Json] = {}
    extras: dict[str, Json] = {}


class Why(Struct, frozen=True, kw_only=True):
    """What put an item where it stands: the two terms of its gain, a rule, a limit."""

    relevance: float
    diversity: float
    rule: str | None = None
    repeats: Annotated[
        str | None,
        Meta(description="of the items above, before exploration, that which it resembles most"),
    ] = None
    limit: Annotated[
        str | None, Meta(description="held back an item that would have gained more here")
    ] = None
    offer: Annotated[
        float | None,
        Meta(description="bid x relevance that won a sponsored slot; degraded: the bid"),
    ] = None


class RankedItem(Struct, frozen=True, kw_only=True):
    """One place of a ranked list. `relevance` is null where no model gave one."""

    item_id: str
    rank: int
    relevance: float | None
    gain: float | None
    category: str | None
    engine_rank: int
    engine_score: float | None
    sponsored: bool | None
    ad_id: str | None
    base_rank: Annotated[
        int,
        Meta(description="the rank before any lot; of what was below the list, beyond its last"),
    ]
    shown_probability: Annotated[
        float, Meta(description="the chance that the lots show the item at `rank`")
    ]
    why: Why


class TimingMs(Struct, frozen=True, kw_only=True):
    """Where an answer's time went, in milliseconds."""

    queue: float = 0.0
    score: float = 0.0
    rank: float = 0.0


class RankedList(Struct, frozen=True, kw_only=True):
    """The answer. Equal inputs give equal answers, apart from `timestamp` and `timing_ms`."""

    query_id: str
    list_id: str
    user_id: str | None
    client_id: str | None
    user_query: str
    read_as: Annotated[
        str | None, Meta(description="the query as it was meant, where a word of it is misspelt")
    ] = None
    timestamp: datetime | None
    model: str | None
    policy: str
    diversity: float
    experiment: Experiment | None
    degraded: bool
    reason: Reason | None
    candidate_count: int
    pair_count: Annotated[int, Meta(description="candidates that a pair model read")] = 0
    pair_share: Annotated[
        float, Meta(description="how far its word counts: 1 among items like those it learned from")
    ] = 0.0
    items: tuple[RankedItem, ...]
    unknown_items: tuple[str, ...] = ()
    repeated_items: tuple[str, ...] = ()
    tail_items: Annotated[
        tuple[str, ...], Meta(description="items of the page that the long tail's lot could move")
    ] = ()
    rules_applied: tuple[str, ...] = ()
    limits_relaxed: Annotated[
        tuple[str, ...],
        Meta(description="limits and caps that the candidates did not allow, most important first"),
    ] = ()
    timing_ms: TimingMs = TimingMs()


class ObjectRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """UBI `event_attributes.object`: what was acted on."""

    object_id: str | int | None = None
    object_id_field: str | None = None


class Position(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """UBI `event_attributes.position`: where on the page."""

    ordinal: float | None = None


class EventAttributes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """UBI `event_attributes`, with the `list_id` that a page echoes."""

    object: ObjectRef | None = None
    position: Position | None = None
    list_id: str | None = None


class Behaviour(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a user did: a UBI 1.3.0 event, taken as it is."""

    action_name: Id
    application: str | None = None
    query_id: str | None = None
    session_id: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    user_query: str | None = None
    timestamp: Timestamp | None = None
    message_type: str | None = None
    message: str | None = None
    event_attributes: EventAttributes = EventAttributes()
    extras: dict[str, Json] = {}


class Match(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a rule speaks: its query in the event's, and the category of the items it is about."""

    query: str | None = None
    mode: Literal["exact", "phrase", "any"] = "exact"
    category: str | None = None


class ListRule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A merchandiser's hand on the list."""

    rule_id: Id
    action: Action
    match: Match = Match()
    item_ids: tuple[Id, ...] = ()
    field: str | None = None
    value: Json = None
    position: Annotated[int, Meta(ge=1)] | None = None
    factor: Annotated[float, Meta(gt=0)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | None = None
    starts: Timestamp | None = struct_field(default=None, name="from")
    ends: Timestamp | None = struct_field(default=None, name="to")
    priority: int = 0
    author: str | None = None
    note: str | None = None


class Profile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of a user: the newest behaviour, newest first (`ranking.profiles`)."""

    entries: tuple[HistoryEntry, ...] = ()
