"""What the demo counts, on lists made up on the spot."""

from datetime import UTC, datetime

import pytest

from worker.demo.tally import Tally, mean, quality
from worker.events import Item, RankedItem, RankedList, Why
from worker.shop.catalogue import generate
from worker.shop.visits import Shop, Visit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHOP = Shop(generate(items=200), users=5)
ITEMS = {
    name: Item(item_id=name, brand=brand, category=category, group_id=group)
    for name, brand, category, group in [
        ("a", "A", "shoes", "1"),
        ("b", "A", "shoes", "1"),
        ("c", "B", "bags", "2"),
    ]
}


def asked(tally: Tally, n: int, now: float) -> Visit:
    visit = SHOP.visit(n, NOW)
    tally.send(visit, now)
    return visit


def answer(visit: Visit, diversity: float = 0.3, degraded: bool = False) -> RankedList:
    """The candidates in the engine's order, as a list."""
    items = tuple(
        RankedItem(
            item_id=candidate.item_id,
            rank=rank,
            relevance=0.5,
            gain=0.5,
            category=None,
            engine_rank=rank,
            engine_score=candidate.score,
            sponsored=None,
            ad_id=None,
            base_rank=rank,
            shown_probability=1.0,
            why=Why(relevance=0.5, diversity=0.0),
        )
        for rank, candidate in enumerate(visit.event.candidates, start=1)
    )
    return RankedList(
        query_id=visit.event.query_id,
        list_id="l",
        user_id=visit.user.user_id,
        client_id=None,
        user_query=visit.event.user_query,
        timestamp=NOW,
        model=None,
        policy="default",
        diversity=diversity,
        experiment=None,
        degraded=degraded,
        reason="deadline" if degraded else None,
        candidate_count=len(items),
        items=items,
    )


def test_a_search_is_lost_until_a_list_or_a_dead_letter_answers_it() -> None:
    tally = Tally(SHOP, planned=3)
    visits = [asked(tally, n, now=0.0) for n in range(3)]
    assert tally.lost == 3
    tally.answer(answer(visits[0]), now=1.0)
    tally.dead.add(visits[1].event.query_id)
    assert tally.lost == 1


def test_a_second_list_is_a_duplicate_and_is_not_judged_again() -> None:
    tally = Tally(SHOP, planned=1)
    visit = asked(tally, 0, now=0.0)
    assert tally.answer(answer(visit), now=1.0) is not None
    assert tally.answer(answer(visit), now=2.0) is None
    assert (len(tally.answers), tally.duplicates, len(tally.seconds)) == (1, 1, 1)


def test_a_list_that_nobody_asked_for_is_left_aside() -> None:
    tally = Tally(SHOP, planned=1)
    assert tally.answer(answer(SHOP.visit(7, NOW)), now=1.0) is None
    assert (len(tally.answers), tally.lost) == (0, 0)


def test_an_outage_is_told_apart_from_latency() -> None:
    tally = Tally(SHOP, planned=3)
    first, second = asked(tally, 0, now=0.0), asked(tally, 1, now=1.0)
    tally.answer(answer(first), now=0.5)
    tally.kill(now=2.0)
    third = asked(tally, 2, now=3.0)
    tally.answer(answer(second), now=6.0)
    tally.answer(answer(third), now=6.1)
    assert tally.seconds == [0.5]
    assert tally.outages == [4.0]


def test_a_degraded_list_is_counted_and_says_nothing_of_the_dial() -> None:
    tally = Tally(SHOP, planned=1)
    tally.answer(answer(asked(tally, 0, now=0.0), degraded=True), now=1.0)
    assert tally.degraded == 1
    assert tally.curve() == []


def test_the_engines_order_is_as_good_as_itself() -> None:
    tally = Tally(SHOP, planned=2)
    for n, dial in enumerate((0.0, 0.7)):
        tally.answer(answer(asked(tally, n, now=0.0), diversity=dial), now=1.0)
    assert [dial for dial, *_ in tally.curve()] == [0.0, 0.7]
    for _, _, before, after in tally.curve():
        assert before == after


@pytest.mark.parametrize(
    ("order", "brands", "categories", "products"),
    [("abc", 2, 2, 2), ("ab", 1, 1, 1), ("ca", 2, 2, 2)],
)
def test_kinds_are_counted_in_the_list(
    order: str, brands: int, categories: int, products: int
) -> None:
    found = quality(list(order), {"a": 1.0, "b": 1.0, "c": 1.0}, ITEMS)
    assert (found.brands, found.categories, found.products) == (brands, categories, products)


def test_the_ideal_order_has_an_ndcg_of_one_and_repetition_costs_alpha_ndcg() -> None:
    truth = {"a": 1.0, "b": 1.0, "c": 1.0}
    repeats, varies = quality(list("abc"), truth, ITEMS), quality(list("acb"), truth, ITEMS)
    assert repeats.ndcg == varies.ndcg == 1.0
    assert repeats.alpha_ndcg < varies.alpha_ndcg
    assert mean([repeats, repeats]) == repeats
