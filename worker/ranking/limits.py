"""What rules and policies limit: which group each candidate belongs to, and how many may stand.

The caps of rules come first, by their priority; then the policy's limits as it lists them; then its
caps. In this order they are kept: what the candidates do not allow is given up from the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import exp, lgamma, log, log1p
from typing import Final

import msgspec

from worker.events import Candidate, Json, ListLimit, ListRule
from worker.ranking import rules
from worker.ranking.diversify.limits import Limit
from worker.ranking.join import JoinedSearch

ALL: Final = "all that are meant"
ROUNDING: Final = 1e-12


def limits_of(search: JoinedSearch, items: Sequence[Candidate]) -> tuple[Limit, ...]:
    """The limits on candidates, numbered as they come, the most important first."""
    page = min(search.event.k or len(items), len(items))
    caps = [rule for rule in search.rules if rule.action == "cap"]
    return (
        *(_of_rule(rule, items, page) for rule in caps),
        *(_of_policy(limit, items, page) for limit in search.limits),
    )


def caps_applied(search: JoinedSearch, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The cap rules that are about some of the candidates; theirs are the first of the limits."""
    caps = [rule for rule in search.rules if rule.action == "cap"]
    return tuple(one.name for one, _ in zip(limits, caps, strict=False) if one.groups)


def _of_rule(rule: ListRule, items: Sequence[Candidate], page: int) -> Limit:
    about = set(rules.targets(rule, items))
    each = rule.field if rule.value is None else None
    values = [
        (ALL if each is None else _key(value_of(item, each))) if row in about else None
        for row, item in enumerate(items)
    ]
    return Limit(rule.rule_id, _numbered(values), at_most=[rule.limit or 0] * page)


def _of_policy(limit: ListLimit, items: Sequence[Candidate], page: int) -> Limit:
    places = min(limit.places or page, len(items))
    group = _numbered([_group(limit, item) for item in items])
    at_most = [
        each for each in (limit.at_most, _share(limit.share_at_most, places)) if each is not None
    ]
    at_least = list(_at_least(limit, places))
    return Limit(
        limit.limit_id,
        group,
        at_most=[min(at_most)] * places if at_most else None,
        at_least=at_least if any(at_least) else None,
    )


def _at_least(limit: ListLimit, places: int) -> Iterator[int]:
    """How many of the group the first 1, 2, … places must show."""
    for place in range(1, places + 1):
        least = limit.at_least or 0 if place == places else 0
        if limit.share_at_least is not None and limit.significance is not None:
            least = max(least, fair(place, limit.share_at_least, limit.significance))
        elif limit.share_at_least is not None:
            least = max(least, _share(limit.share_at_least, place) or 0)
        yield least


@lru_cache(maxsize=1 << 14)
def fair(places: int, share: float, significance: float) -> int:
    """The least that a draw by lot of `share` has, but for a chance of `significance` to have less.

    FA*IR's table (Zehlike et al., CIKM 2017, section 3.2): the quantile of the binomial
    distribution.

    >>> [fair(places, 0.5, 0.1) for places in range(1, 13)]
    [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4]
    """
    if not 0.0 < share < 1.0:
        return round(share) * places
    total = 0.0
    for count in range(places + 1):
        ways = lgamma(places + 1) - lgamma(count + 1) - lgamma(places - count + 1)
        total += exp(ways + count * log(share) + (places - count) * log1p(-share))
        if total >= significance * (1.0 - ROUNDING):
            return count
    return places


def _share(share: float | None, places: int) -> int | None:
    """That share of so many places, in whole items; a last bit of rounding does not cost one."""
    return None if share is None else math.floor(share * places + 1e-9)


def value_of(item: Candidate, field: str) -> Json:
    """What a candidate has in a field, an attribute or a feature; None where it has nothing."""
    kind, _, name = field.partition(".")
    found: Json = getattr(item, kind)
    return found.get(name) if isinstance(found, dict) else found


def _group(limit: ListLimit, item: Candidate) -> object:
    value = value_of(item, limit.field)
    if limit.low is not None or limit.high is not None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        low, high = limit.low, limit.high
        inside = (low is None or value >= low) and (high is None or value < high)
        return ALL if inside else None
    if limit.value is not None:
        return ALL if _key(value) == _key(limit.value) else None
    return _key(value)


def _key(value: Json) -> object:
    """What is one value: 1 and 1.0 are, 1 and true are not; nothing and an empty text are none."""
    if value is None or value == "":
        return None
    if isinstance(value, bool | str):
        return type(value), value
    if isinstance(value, int | float):
        return float, value + 0
    return msgspec.json.encode(value, order="deterministic")


def _numbered(keys: Sequence[object]) -> list[int]:
    """The number of each key, in the order of their first; -1 for None."""
    numbers: dict[object, int] = {}
    return [-1 if key is None else numbers.setdefault(key, len(numbers)) for key in keys]
