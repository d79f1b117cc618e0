"""What rules and policies limit: which group each candidate belongs to, and how many may stand.

The caps of rules come first, by their priority; then the policy's limits as it lists them; then its
caps. In this order they are kept: what the candidates do not allow is given up from the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import exp, lgamma, log, log1p
from typing import Final

import msgspec

from worker.events import Candidate, Json, ListRule
from worker.policies import Group, ListLimit
from worker.ranking import rules
from worker.ranking.diversify.limits import Limit
from worker.ranking.join import JoinedSearch
from worker.ranking.lot import lot

ALL: Final = "all that are meant"
ROUNDING: Final = 1e-12


def limits_of(
    search: JoinedSearch, items: Sequence[Candidate], count: int | None = None
) -> tuple[Limit, ...]:
    """The limits on candidates, numbered as they come, the most important first.

    `count` is how long their list would be if it were not cut; by default as long as there are
    items.
    """
    count = len(items) if count is None else count
    page = min(search.event.k or count, count)
    caps = [rule for rule in search.rules if rule.action == "cap"]
    query = search.event.query_id
    return (
        *(_of_rule(rule, items, page) for rule in caps),
        *(_of_policy(limit, items, page, count, query) for limit in search.limits),
    )


def caps_applied(search: JoinedSearch, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The cap rules that are about some of the candidates; theirs are the first of the limits."""
    caps = [rule for rule in search.rules if rule.action == "cap"]
    return tuple(one.name for one, _ in zip(limits, caps, strict=False) if one.groups)


def _of_rule(rule: ListRule, items: Sequence[Candidate], page: int) -> Limit:
    about = set(rules.targets(rule, items))
    each = rule.field if rule.value is None else None
    keys = [ALL] * len(items) if each is None else map(_key, values_of(items, each))
    meant = [key if row in about else None for row, key in enumerate(keys)]
    return Limit(rule.rule_id, _numbered(meant), at_most=[rule.limit or 0] * page)


def _of_policy(
    limit: ListLimit, items: Sequence[Candidate], page: int, count: int, query_id: str
) -> Limit:
    places = min(limit.places or page, count)
    exposure = (limit.exposure_at_most, limit.exposure_at_least)
    drawn = lot(query_id, "limit", limit.limit_id) if exposure != (None, None) else 0.0
    return Limit(
        limit.limit_id,
        _numbered(groups_of(limit, items)),
        at_most=_strictest(min, _at_most(limit, places, drawn)),
        at_least=_strictest(max, _at_least(limit, places, drawn)),
    )


def _strictest(of: Callable[..., int], tables: Iterable[Sequence[int]]) -> Sequence[int] | None:
    """What holds at each place where several tables do."""
    given = list(tables)
    return [*map(of, *given)] if len(given) > 1 else next(iter(given), None)


def _at_most(limit: ListLimit, places: int, drawn: float) -> Iterator[Sequence[int]]:
    """How many of a group the first 1, 2, … places may show."""
    if limit.at_most is not None:
        yield [limit.at_most] * places
    if limit.share_at_most is not None:
        yield [_part(limit.share_at_most, places)] * places
    if limit.exposure_at_most is not None:
        yield _rising(limit.exposure_at_most, places, drawn)


def _at_least(limit: ListLimit, places: int, drawn: float) -> Iterator[Sequence[int]]:
    """How many of the group they must show."""
    if limit.at_least is not None:
        yield [0] * (places - 1) + [limit.at_least] * min(places, 1)
    if limit.share_at_least is not None and limit.significance is not None:
        yield [
            fair(place, limit.share_at_least, limit.significance) for place in range(1, places + 1)
        ]
    elif limit.share_at_least is not None:
        yield _rising(limit.share_at_least, places)
    if limit.exposure_at_least is not None:
        yield _rising(limit.exposure_at_least, places, drawn)


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


def _rising(share: float, places: int, drawn: float = 0.0) -> list[int]:
    """That share of the first 1, 2, … places, in whole items.

    With a number that is drawn uniformly from [0, 1) it is rounded by lot, so that over many lists
    the first 1, 2, … places have `share * places` in the mean, no more and no less. Whatever a
    reader's attention is, if it only falls from place to place, it is a sum of such first places
    (Abel's summation), and the group has its share of that exposure (Singh & Joachims, KDD 2018,
    section 3.2, whose lists are drawn as well; one draw for all places as in systematic sampling,
    Madow 1949).
    """
    return [_part(share, place, drawn) for place in range(1, places + 1)]


def _part(share: float, places: int, drawn: float = 0.0) -> int:
    """A last bit of rounding does not cost an item."""
    return math.floor(share * places + drawn + 1e-9)


def values_of(items: Sequence[Candidate], field: str) -> list[Json]:
    """What candidates have in a field, an attribute or a feature; None where it is nothing."""
    kind, _, name = field.partition(".")
    found: list[Json] = [getattr(item, kind) for item in items]
    return [each.get(name) for each in found] if name else found


def groups_of(meant: Group, items: Sequence[Candidate]) -> list[object]:
    """What names the group of each candidate; None where it belongs to none that is meant."""
    values = values_of(items, meant.field)
    if meant.low is not None or meant.high is not None:
        low = -math.inf if meant.low is None else meant.low
        high = math.inf if meant.high is None else meant.high
        numbers = [
            each if isinstance(each, int | float) and not isinstance(each, bool) else math.nan
            for each in values
        ]
        return [ALL if low <= each < high else None for each in numbers]
    if meant.value is None:
        return [_key(each) for each in values]
    wanted = _key(meant.value)
    return [ALL if _key(each) == wanted else None for each in values]


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
