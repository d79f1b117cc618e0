"""What a search team sets: policies, named sets of dials and of what a list must keep to."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec import field as struct_field

from worker.errors import Invalid
from worker.events import MOST_ITEMS, Id, Json, Share

TEXTS: Final = ("category", "brand", "seller", "group_id")
LIMITED: Final = (*TEXTS, "price", "in_stock", "sponsored", "bid", "score")
"""The fields of a candidate that a limit may speak of, besides attributes and features."""
MOST: Final = ("at_most", "share_at_most", "exposure_at_most")
LEAST: Final = ("at_least", "share_at_least", "exposure_at_least")


class Group(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of the candidates, by what they carry."""

    field: Annotated[
        str, Meta(description="a field of a candidate, attributes.NAME or features.NAME")
    ]
    value: Annotated[
        Json, Meta(description="items whose field is this; absent, in a limit: each value is one")
    ] = None
    low: Annotated[
        float | None, Meta(description="items whose number is this or more, instead of `value`")
    ] = struct_field(default=None, name="from")
    high: Annotated[
        float | None, Meta(description="items whose number is below this, instead of `value`")
    ] = struct_field(default=None, name="to")


class ListLimit(Group, frozen=True, kw_only=True, omit_defaults=True):
    """How many items of a group the first places of a list show, at most and at least."""

    limit_id: Id
    at_most: Annotated[int, Meta(ge=0, le=MOST_ITEMS)] | None = None
    at_least: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | None = None
    share_at_most: Annotated[
        Share | None, Meta(description="of the first `places`, rounded down")
    ] = None
    share_at_least: Annotated[
        Share | None, Meta(description="of the first place, the first two, …, each rounded down")
    ] = None
    significance: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(
            description="with share_at_least: as few are allowed as a lottery of that share would "
            "have by chance, but for this probability (FA*IR)"
        ),
    ] = None
    exposure_at_most: Annotated[
        Share | None,
        Meta(
            description="most share of the attention, in the mean over many searches; each list "
            "rounds it at random"
        ),
    ] = None
    exposure_at_least: Annotated[
        Share | None,
        Meta(
            description="least share of the attention, in the mean over many searches; each list "
            "rounds it at random"
        ),
    ] = None
    places: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | None,
        Meta(description="from the top of the list; absent: those of the first page"),
    ] = None


class Tail(Group, frozen=True, kw_only=True, omit_defaults=True):
    """A place of the first page that now and then goes to one of a group that it does not show."""

    rank: Annotated[int, Meta(ge=1, le=MOST_ITEMS, description="of the place, from 1")]
    probability: Annotated[float, Meta(ge=0.001, le=1, description="that one of the group has it")]
    relevance_at_least: Annotated[
        Share, Meta(description="P(relevant) below which an item is not drawn")
    ] = 0.0


class Ads(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An auction for sponsored places. Those that win none stand below all that is not buried."""

    slots: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=MOST_ITEMS)], ...],
        Meta(
            min_length=1,
            max_length=1_000,
            description="ranks, from 1, where a sponsored item may stand",
        ),
    ]
    relevance_at_least: Annotated[
        Share, Meta(description="P(relevant) below which an item wins no slot")
    ] = 0.0
    share_at_most: Annotated[
        Share | None, Meta(description="of the places of a page, rounded down: .1 of 8 is none")
    ] = None


class Policy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named set of dials. A dial that is absent is left to the settings."""

    policy_id: Id
    diversity: Share | None = None
    method: str | None = None
    engine_weight: Share | None = None
    limits: Annotated[
        tuple[ListLimit, ...],
        Meta(max_length=40, description="the most important first: it is kept longest"),
    ] = ()
    caps: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=MOST_ITEMS)]],
        Meta(
            max_length=20,
            description="field -> items of one value on the first page; after all limits",
        ),
    ] = {}
    ads: Ads | None = None
    deadline_ms: Annotated[float, Meta(ge=0)] | None = None
    explore: Share | None = None
    tail: Tail | None = None
    alias: str | None = None


def check(policy: Policy, methods: frozenset[str]) -> None:
    """Raise Invalid at the first thing that cannot be applied; `methods` are the diversifiers."""
    if policy.method is not None and policy.method not in methods:
        raise Invalid("$.method", "one of " + ", ".join(sorted(methods)), policy.method)
    if policy.alias:
        raise Invalid("$.alias", "nothing: not applied yet", policy.alias)
    for field in policy.caps:
        _check_field("$.caps", field)
    names: set[str] = set()
    for place, limit in enumerate(policy.limits):
        _check_limit(f"$.limits[{place}]", limit)
        if limit.limit_id in names:
            expected = "a name of its own, for lists to call it by"
            raise Invalid(f"$.limits[{place}].limit_id", expected, limit.limit_id)
        names.add(limit.limit_id)
    for name in sorted(names & {f"caps.{field}" for field in policy.caps}):
        raise Invalid("$.limits", "no name that a cap has", name)
    if policy.tail is not None:
        check_group("$.tail", policy.tail)
        if _names_no_group(policy.tail):
            raise Invalid("$.tail", "value, or from and to: whose place it may be")
    if policy.ads is not None and len(set(policy.ads.slots)) < len(policy.ads.slots):
        raise Invalid("$.ads.slots", "each rank once", policy.ads.slots)


def _check_limit(path: str, limit: ListLimit) -> None:
    check_group(path, limit)
    least = {name: getattr(limit, name) for name in LEAST}
    most = {name: getattr(limit, name) for name in MOST}
    if all(each is None for each in (*least.values(), *most.values())):
        raise Invalid(path, "one of " + ", ".join((*MOST, *LEAST)))
    if _names_no_group(limit) and (any(least.values()) or limit.exposure_at_most is not None):
        raise Invalid(path, "value, or from and to: which group must be shown, or has the exposure")
    bound = min((n for n in (limit.at_most, limit.places) if n is not None), default=None)
    if bound is not None and limit.at_least is not None and limit.at_least > bound:
        raise Invalid(f"{path}.at_least", f"no more than {bound}", limit.at_least)
    for name in LEAST[1:]:
        for other in MOST[1:]:
            if most[other] is not None and (least[name] or 0.0) > most[other]:
                raise Invalid(f"{path}.{name}", f"no more than {other}: {most[other]}", least[name])
    if limit.at_most == 0 and any(least.values()):
        raise Invalid(f"{path}.at_most", "1 or more, where some must be shown", limit.at_most)
    if limit.significance is not None and limit.share_at_least is None:
        raise Invalid(f"{path}.significance", "share_at_least beside it", limit.significance)


def _names_no_group(group: Group) -> bool:
    return group.value is None and group.low is None and group.high is None


def check_group(path: str, group: Group) -> None:
    """Raise Invalid, naming `path`, where the group cannot be told from what candidates carry."""
    _check_field(f"{path}.field", group.field)
    ranged = group.low is not None or group.high is not None
    if ranged and group.value is not None:
        raise Invalid(f"{path}.value", "a value, or from and to, and not both", group.value)
    if ranged and group.field in TEXTS:
        raise Invalid(f"{path}.field", "a field of numbers, beside from and to", group.field)
    if group.low is not None and group.high is not None and group.low >= group.high:
        raise Invalid(f"{path}.to", f"above from, which is {group.low:g}", group.high)


def _check_field(path: str, field: str) -> None:
    kind, dot, name = field.partition(".")
    if (kind, dot) in (("attributes", "."), ("features", ".")) and name:
        return
    if field not in LIMITED:
        expected = f"one of {', '.join(LIMITED)}, attributes.NAME, features.NAME"
        raise Invalid(path, expected, field)
