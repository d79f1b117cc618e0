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


class Group(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of the candidates, by what they carry."""

    field: Annotated[
        str, Meta(description="a field of a candidate, attributes.NAME or features.NAME")
    ]
    value: Annotated[Json, Meta(description="the group; absent: each value is one")] = None
    low: Annotated[float | None, Meta(description="or the items whose number is so much")] = (
        struct_field(default=None, name="from")
    )
    high: Annotated[float | None, Meta(description="or more, and less than this")] = struct_field(
        default=None, name="to"
    )


class ListLimit(Group, frozen=True, kw_only=True, omit_defaults=True):
    """How many items of a group the first places of a list show, at most and at least."""

    limit_id: Id
    at_most: Annotated[int, Meta(ge=0, le=MOST_ITEMS)] | None = None
    at_least: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | None = None
    share_at_most: Annotated[Share | None, Meta(description="of the places")] = None
    share_at_least: Annotated[
        Share | None, Meta(description="of the first place, of the first two, and so on")
    ] = None
    significance: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(description="at least what a fair draw has, but for such a chance: FA*IR"),
    ] = None
    exposure_at_most: Annotated[
        Share | None, Meta(description="of what a stream of lists is looked at, whole in the mean")
    ] = None
    exposure_at_least: Annotated[Share | None, Meta(description="the same, at least")] = None
    places: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_ITEMS)] | None,
        Meta(description="of the list; absent: those of the first page"),
    ] = None


class Tail(Group, frozen=True, kw_only=True, omit_defaults=True):
    """A place that now and then goes to one of a group that is not on the first page, by lot."""

    rank: Annotated[int, Meta(ge=1, le=MOST_ITEMS)]
    chance: Annotated[float, Meta(gt=0, le=1)]
    floor: Annotated[Share, Meta(description="the least P(relevant) of one that may win")] = 0.0


class Ads(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An auction for sponsored places. Those that win none stand below all other candidates."""

    slots: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=MOST_ITEMS)], ...],
        Meta(min_length=1, description="the ranks that they may take"),
    ]
    floor: Annotated[Share, Meta(description="the least P(relevant) of one that may win")] = 0.0
    share_at_most: Annotated[Share | None, Meta(description="of a page")] = None


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
    if policy.tail is not None:
        _check_group("$.tail", policy.tail)
    for place, limit in enumerate(policy.limits):
        _check_limit(f"$.limits[{place}]", limit)
        if limit.limit_id in names:
            expected = "a name of its own, for lists to call it by"
            raise Invalid(f"$.limits[{place}].limit_id", expected, limit.limit_id)
        names.add(limit.limit_id)


def _check_limit(path: str, limit: ListLimit) -> None:
    _check_group(path, limit)
    least = (limit.at_least, limit.share_at_least, limit.exposure_at_least)
    asked = (*least, limit.at_most, limit.share_at_most, limit.exposure_at_most)
    if all(each is None for each in asked):
        raise Invalid(path, "at_most or at_least, of items, as a share or of the exposure")
    most = min((n for n in (limit.at_most, limit.places) if n is not None), default=None)
    if most is not None and limit.at_least is not None and limit.at_least > most:
        raise Invalid(f"{path}.at_least", f"no more than {most}", limit.at_least)
    whole = limit.value is None and limit.low is None and limit.high is None
    if whole and any(least):
        raise Invalid(path, "value, or from and to: which group must be shown at least")
    for kind in ("share", "exposure"):
        low, high = getattr(limit, f"{kind}_at_least"), getattr(limit, f"{kind}_at_most")
        if low is not None and high is not None and low > high:
            raise Invalid(f"{path}.{kind}_at_least", f"no more than {high:g}", low)
    if limit.significance is not None and limit.share_at_least is None:
        raise Invalid(f"{path}.significance", "share_at_least beside it", limit.significance)


def _check_group(path: str, group: Group) -> None:
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
