"""Exposure: over a stream of lists a group is looked at as much as its limit says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined
from worker.events import RankedList
from worker.policies import ListLimit, Policy
from worker.ranking.join import Tables
from worker.ranking.limits import limits_of
from worker.ranking.metrics import exposure_parity
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap

LISTS, PLACES = 600, 10
READERS: dict[str, Callable[[int], float]] = {
    "by the logarithm": lambda rank: 1 / np.log2(rank + 1),
    "by the rank": lambda rank: 1 / rank,
    "all alike": lambda rank: 1.0,
    "the first three": lambda rank: float(rank <= 3),
    "the first": lambda rank: float(rank == 1),
}
WANTED = [candidate(f"large{n}", title="running shoes", seller="large") for n in range(12)]
OTHERS = [candidate(f"small{n}", title="lamp", seller="small") for n in range(12)]
SMALL: dict[str, Any] = {"limit_id": "small", "field": "seller", "value": "small"}
LARGE: dict[str, Any] = {"limit_id": "large", "field": "seller", "value": "large"}


def stream(limit: ListLimit, count: int = LISTS) -> list[RankedList]:
    """Lists of one search that comes again and again, under queries of other ids."""
    policy = Policy(policy_id="p", limits=(limit,), diversity=0.0)
    tables, model = Tables(policies={"p": policy}), Overlap()
    pool = [*WANTED, *OTHERS]
    searches = [
        joined(event(pool, query_id=f"q{number}", k=PLACES, policy="p"), tables)
        for number in range(count)
    ]
    return list(rerank(searches, model))


def seen(lists: Sequence[RankedList], reader: Callable[[int], float]) -> np.ndarray[Any, Any]:
    """Of each list, the share of a reader's attention that small sellers have."""
    weights = np.array([reader(rank) for rank in range(1, PLACES + 1)])
    small = [[item.item_id.startswith("small") for item in one.items] for one in lists]
    return np.asarray(np.array(small) @ weights / weights.sum())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("share", [0.25, 0.37])
def test_whoever_reads_a_group_has_its_share_of_the_exposure(share: float, reader: str) -> None:
    """The least of what nobody wants, and the most of what everybody does: both are its share."""
    least = stream(ListLimit(**SMALL, exposure_at_least=share))
    most = stream(ListLimit(**LARGE, exposure_at_most=1 - share))
    for lists in (least, most):
        shares = seen(lists, READERS[reader])
        error = max(float(shares.std()) / LISTS**0.5, 1e-3)
        assert abs(shares.mean() - share) <= 4 * error
        assert all(one.limits_relaxed == () for one in lists)


def test_a_share_that_is_rounded_down_everywhere_gives_less() -> None:
    even = stream(ListLimit(**SMALL, share_at_least=0.25), 1)
    assert seen(even, READERS["by the logarithm"])[0] < 0.2


def parity(lists: Sequence[RankedList]) -> float:
    """Of small and large sellers, over all lists."""
    pool = [*WANTED, *OTHERS]
    ranks = [{item.item_id: item.rank for item in one.items} for one in lists]
    places = [each.get(item.item_id) for each in ranks for item in pool]
    return exposure_parity([item.seller for item in pool] * len(lists), places)


def test_half_of_the_exposure_is_parity() -> None:
    assert parity(stream(ListLimit(**SMALL, exposure_at_least=0.5))) > 0.95
    assert parity(stream(ListLimit(**SMALL, at_most=PLACES), 1)) < 0.1


@given(query=st.text(min_size=1, max_size=8), share=st.floats(0, 1), places=st.integers(1, 24))
def test_each_list_is_within_one_of_its_share_at_every_place(
    query: str, share: float, places: int
) -> None:
    both = ListLimit(**SMALL, exposure_at_least=share, exposure_at_most=share, places=places)
    policy = Policy(policy_id="p", limits=(both,))
    search = joined(
        event([*WANTED, *OTHERS], query_id=query, policy="p"), Tables(policies={"p": policy})
    )
    limit = limits_of(search, [entry.item for entry in search.entries])[0]
    exact = share * np.arange(1, places + 1)
    assert limit.at_most is not None
    assert np.abs(np.asarray(limit.at_most) - exact).max() <= 1.0
    least = limit.at_least if limit.at_least is not None else [0] * places
    assert list(least) == list(limit.at_most)


def test_the_lot_is_of_the_query_so_that_redelivery_gives_the_same_list() -> None:
    limit = ListLimit(**SMALL, exposure_at_least=0.37)
    assert stream(limit, 20) == stream(limit, 20)
    assert len({tuple(seen([one], READERS["all alike"])) for one in stream(limit, 20)}) == 2
