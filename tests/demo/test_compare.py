"""Before and after, on lists made up on the spot."""

import msgspec
import pytest

from tests.demo.test_tally import NOW, SHOP, answer
from worker.demo.compare import compare, interval
from worker.demo.tally import Tally
from worker.shop.visits import Visit


def ask(tally: Tally, n: int, query_id: str) -> Visit:
    visit = SHOP.visit(n, NOW)
    event = msgspec.structs.replace(visit.event, query_id=query_id)
    named = Visit(visit.user, visit.intent, event)
    tally.send(named, now=0.0)
    return named


def played(needs: int, best_first: bool = True) -> tuple[Tally, list[tuple[str, str]]]:
    """Each need answered by "old" in the engine's order, and by "new" in that of the truth."""
    tally = Tally(SHOP, planned=2 * needs)
    pairs = [(f"before-{n}", f"after-{n}") for n in range(needs)]
    for n, (before, after) in enumerate(pairs):
        listed = answer(ask(tally, n, before))
        tally.answer(msgspec.structs.replace(listed, model="old"), now=1.0)
        again = ask(tally, n, after)
        listed = answer(again)
        order = sorted(
            listed.items, key=lambda item: SHOP.relevance(again, item.item_id), reverse=best_first
        )
        tally.answer(msgspec.structs.replace(listed, model="new", items=tuple(order)), now=1.0)
    return tally, pairs


def test_the_order_of_the_truth_is_better_than_the_engine_s_on_the_same_needs() -> None:
    tally, pairs = played(needs=8)
    change = compare(tally, pairs, "old", "new")
    assert change is not None
    assert (change.needs, change.lists) == (8, 8)
    assert change.after.ndcg == pytest.approx(1.0)
    assert change.ndcg == pytest.approx(change.after.ndcg - change.before.ndcg)
    assert 0.0 < change.low <= change.ndcg <= change.high


def test_the_worst_order_is_worse() -> None:
    tally, pairs = played(needs=8, best_first=False)
    change = compare(tally, pairs, "old", "new")
    assert change is not None
    assert change.high < 0.0


def test_a_need_that_the_old_model_answered_again_is_left_out() -> None:
    tally, pairs = played(needs=3)
    visit = ask(tally, 0, "late")
    tally.answer(msgspec.structs.replace(answer(visit), model="old"), now=1.0)
    change = compare(tally, [*pairs[1:], (pairs[0][0], "late")], "old", "new")
    assert change is not None
    assert change.lists == 2


def test_one_need_at_several_dials_counts_once() -> None:
    tally, pairs = played(needs=2)
    more, again = ask(tally, 0, "dial-before"), ask(tally, 0, "dial-after")
    for visit, model in ((more, "old"), (again, "new")):
        tally.answer(msgspec.structs.replace(answer(visit), model=model), now=1.0)
    change = compare(tally, [*pairs, ("dial-before", "dial-after")], "old", "new")
    assert change is not None
    assert (change.needs, change.lists) == (2, 3)


def test_nothing_in_common_is_no_comparison() -> None:
    tally, pairs = played(needs=2)
    assert compare(tally, pairs, "old", "another") is None
    assert compare(tally, [], "old", "new") is None


def test_values_that_are_all_alike_leave_no_doubt() -> None:
    assert interval([0.25, 0.25, 0.25]) == (0.25, 0.25)
