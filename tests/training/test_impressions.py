"""What was shown and what followed: nothing counts twice, nothing is lost without a name."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate
from tests.training.pages import NOON, at, did, grades, joined, only, place, ranked, search
from training.labels import LabelSettings
from worker.events import Behaviour, EventAttributes, HistoryEntry, Item, Profile
from worker.ranking.profiles import fold

GRADE_CASES = [
    ("nothing", [], 0.0),
    ("a click", [("click", 10)], 0.5),
    ("a click that was left at once", [("click", 10), ("leave", 12)], 0.5),
    ("a click with a long stay", [("click", 10), ("leave", 41)], 0.7),
    ("an impression ends no stay", [("click", 10), ("impression", 12), ("leave", 41)], 0.7),
    ("the cart", [("click", 10), ("add_to_cart", 15)], 0.8),
    ("the highest counts", [("purchase", 60), ("click", 10), ("add_to_cart", 15)], 1.0),
    ("an action without a grade", [("hover", 10)], 0.0),
]


@pytest.mark.parametrize(
    ("done", "grade"), [case[1:] for case in GRADE_CASES], ids=[case[0] for case in GRADE_CASES]
)
def test_a_grade_is_the_strongest_sign(done: list[tuple[str, float]], grade: float) -> None:
    one = only(joined([did(action, "b", seconds) for action, seconds in done]))
    assert grades(one)["b"] == grade
    assert {shown.item.item_id for shown in one.shown if shown.clicked} == (
        {"b"} if grade else set()
    )


def test_grades_are_settings() -> None:
    one = only(joined([did("like", "a"), did("click", "b")], grades={"like": 0.3}))
    assert grades(one) == {"a": 0.3, "b": 0.0, "c": 0.0, "d": 0.0}


def test_a_list_that_nobody_clicked_is_kept() -> None:
    found = joined([])
    assert grades(only(found)) == dict.fromkeys("abcd", 0.0)
    assert found.tally.lists_unclicked == found.tally.lists_kept == 1


def test_a_degraded_list_is_kept_and_says_so() -> None:
    found = joined([], [ranked(degraded=True, reason="deadline", model=None)])
    assert only(found).degraded
    assert found.tally.lists_degraded == 1


def test_an_item_is_what_the_search_says_of_it_over_the_catalogue() -> None:
    asked = search().candidates
    bare = (candidate("a", title=None), candidate("b", title="of the search"), *asked[2:])
    known = [
        Item(item_id="a", title="of the catalogue", brand="Acme"),
        Item(item_id="b", title="hidden", brand="Birch"),
    ]
    one = only(joined([], searches=[search(candidates=bare)], items=known))
    texts = {shown.item.item_id: (shown.item.title, shown.item.brand) for shown in one.shown}
    assert texts["a"] == ("of the catalogue", "Acme")
    assert texts["b"] == ("of the search", "Birch")


SHOWN_CASES = [
    ("the whole list where its page reports nothing", [], {}, "abcd"),
    ("what the page reports", [("impression", "a"), ("impression", "c")], {}, "ac"),
    ("and what was acted on", [("impression", "a"), ("click", "d")], {}, "ad"),
    ("so many places, if set", [], {"unreported_places": 2}, "ab"),
    ("down to the last one acted on", [("click", "c")], {"unreported_places": 2}, "abc"),
]


@pytest.mark.parametrize(
    ("done", "settings", "shown"),
    [case[1:] for case in SHOWN_CASES],
    ids=[case[0] for case in SHOWN_CASES],
)
def test_what_was_shown(done: list[tuple[str, str]], settings: dict[str, Any], shown: str) -> None:
    one = only(joined([did(*each) for each in done], **settings))
    assert "".join(each.item.item_id for each in one.shown) == shown
    assert [each.position for each in one.shown] == ["abcd".index(each) + 1 for each in shown]


def test_a_behaviour_joins_the_list_it_names() -> None:
    pages = [ranked(1), ranked(1, list_id="l-9", timestamp=at(5))]
    first, second = joined([did("click", "a", 10)], pages).lists
    assert grades(first)["a"] > 0
    assert grades(second)["a"] == 0


def test_a_behaviour_that_names_no_list_joins_the_latest_one_of_its_query_before_it() -> None:
    pages = [ranked(1, list_id=f"l-{n}", timestamp=at(n)) for n in (1, 5, 20)]
    lists = joined([did("click", "a", 10, list_id=None)], pages).lists
    assert [grades(one)["a"] > 0 for one in lists] == [False, True, False]


def test_a_late_behaviour_joins_when_it_comes() -> None:
    late = did("purchase", "a", 3_600)
    assert grades(only(joined([])))["a"] == 0.0
    assert grades(only(joined([late])))["a"] == 1.0


@pytest.mark.parametrize(
    ("seconds", "counts"), [(0.5, True), (1, True), (3_601, True), (3_602, False)]
)
def test_a_behaviour_counts_within_the_window_alone(seconds: float, counts: bool) -> None:
    found = joined([did("click", "a", seconds)], window_hours=1)
    assert (grades(only(found))["a"] > 0) == counts
    assert found.tally.behaviours_outside_window == (not counts)


def test_of_several_searches_a_list_answers_the_newest_before_it() -> None:
    asked = [
        search(timestamp=at(seconds), candidates=[candidate(i, title=title) for i in "abcd"])
        for seconds, title in ((-5, "old"), (0, "meant"), (9, "later"))
    ]
    for _ in range(5):
        random.Random(0).shuffle(asked)
        assert {shown.item.title for shown in only(joined([], searches=asked)).shown} == {"meant"}


LEFT_OUT_CASES = [
    ("twice", [did("click", "a"), did("click", "a")], "behaviours_twice"),
    ("no time", [did("click", "a", timestamp=None)], "behaviours_undated"),
    ("nobody", [did("click", "a", user_id=None)], "behaviours_of_nobody"),
    ("no such list", [did("click", "a", list_id="l-7")], "behaviours_unattributed"),
    ("no such query", [did("click", "a", number=7, list_id=None)], "behaviours_unattributed"),
    ("not on the list", [did("click", "z")], "behaviours_off_list"),
    (
        "about nothing",
        [did("click", "a", event_attributes=EventAttributes(list_id="l-1"))],
        "behaviours_off_list",
    ),
]


@pytest.mark.parametrize(
    ("done", "counted"),
    [case[1:] for case in LEFT_OUT_CASES],
    ids=[case[0] for case in LEFT_OUT_CASES],
)
def test_what_is_left_out_is_counted(done: list[Behaviour], counted: str) -> None:
    tally = joined(done).tally
    assert getattr(tally, counted) == 1
    assert tally.behaviours_joined == len(done) - 1


def test_lists_that_are_left_out_are_counted() -> None:
    pages = [ranked(), ranked(), ranked(2), ranked(3, timestamp=None), ranked(4, "xyz")]
    asked = [search(1), search(3, timestamp=None), search(4)]
    tally = joined([], pages, asked).tally
    assert (tally.lists, tally.lists_kept, tally.lists_twice) == (5, 1, 1)
    assert (tally.lists_without_search, tally.lists_undated) == (2, 1)


def test_who_acts_faster_than_people_do_is_left_out_with_all_their_lists() -> None:
    pages = [ranked(), ranked(2, user_id="machine")]
    done = [did("click", "a", 10 + n / 10, 2, user_id="machine") for n in range(31)]
    found = joined([did("click", "a"), *done], pages, [search(1), search(2, user_id="machine")])
    assert only(found).user == "u"
    assert (found.tally.bots, found.tally.lists_of_bots, found.tally.behaviours_of_bots) == (
        1,
        1,
        31,
    )


def test_who_clicks_nearly_everything_is_left_out() -> None:
    many = range(1, 11)
    pages = [ranked(n) for n in many]
    done = [did("click", i, 100 * n, n) for n in many for i in "abcd"]
    assert joined(done, pages, [search(n) for n in many]).lists == ()
    few = [did("click", i, 100 * n, n) for n in many for i in "ab"]
    assert len(joined(few, pages, [search(n) for n in many]).lists) == 10


def test_a_bot_on_the_list_of_another_counts_for_nothing() -> None:
    done = [did("click", "a", 10 + n / 10, user_id="machine") for n in range(31)]
    found = joined([*done, did("click", "b")])
    assert grades(only(found)) == {"a": 0.0, "b": 0.5, "c": 0.0, "d": 0.0}


def test_history_is_the_workers_own_fold_of_all_that_was_strictly_before() -> None:
    before = [did("click", i, n, 9, user_id="u") for n, i in enumerate("xyzxy", start=-9)]
    others = [did("click", "w", -3, 9, user_id="v"), did("click", "v", 1), did("click", "a", 2)]
    profile = Profile()
    for behaviour in before:
        profile = fold(profile, behaviour)
    assert only(joined([*others, *reversed(before)])).history == profile.entries


def test_a_page_whose_clock_is_slow_does_not_click_before_it_was_answered() -> None:
    (one,) = joined([did("click", "c", seconds=-5)]).lists
    assert [each.item.item_id for each in one.shown if each.clicked] == ["c"]
    assert one.history == ()


def test_an_events_own_history_wins_and_who_wants_none_has_none() -> None:
    own = (HistoryEntry(item_id="x"),)
    before = [did("click", "y", -9, 9)]
    assert only(joined(before, searches=[search(history=own)])).history == own
    assert only(joined(before, searches=[search(personalise=False)])).history == ()


def test_probability_and_place_are_those_that_the_list_says() -> None:
    swapped = [
        place("b", 1, base_rank=2, shown_probability=0.25),
        place("a", 2, base_rank=1, shown_probability=0.25),
    ]
    one = only(joined([], [ranked(1, swapped)]))
    assert [(each.position, each.shown_probability) for each in one.shown] == [(1, 0.25), (2, 0.25)]


def test_a_grade_beyond_one_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"grades"):
        msgspec.convert({"grades": {"click": 1.5}}, LabelSettings)


PAGES = [ranked(n, timestamp=at(n)) for n in range(1, 5)]
SEARCHES = [search(n, timestamp=NOON - timedelta(seconds=5)) for n in range(1, 5)]
behaviours = st.lists(
    st.builds(
        did,
        st.sampled_from(["impression", "click", "add_to_cart", "purchase", "leave", "hover"]),
        st.sampled_from("abcdz"),
        st.integers(-5, 90),
        st.integers(1, 6),
        list_id=st.sampled_from([None, "l-1", "l-2", "l-8"]),
        user_id=st.sampled_from(["u", "v", None]),
    ),
    max_size=40,
)


@given(behaviours, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(done: list[Behaviour], chance: random.Random) -> None:
    mixed = list(done), list(PAGES), list(SEARCHES)
    for each in mixed:
        chance.shuffle(each)
    assert joined(*mixed) == joined(done, PAGES, SEARCHES)


@given(behaviours, st.randoms(use_true_random=False))
def test_what_is_delivered_again_adds_nothing(done: list[Behaviour], chance: random.Random) -> None:
    again = [*done, *chance.choices(done, k=len(done))] if done else []
    found = joined(again, [*PAGES, *PAGES], [*SEARCHES, *SEARCHES])
    assert found.lists == joined(done, PAGES, SEARCHES).lists


@given(behaviours)
def test_everything_that_was_read_is_accounted_for(done: list[Behaviour]) -> None:
    tally = joined(done, [*PAGES, PAGES[0], ranked(7)], SEARCHES).tally
    left_out = ("twice", "undated", "of_nobody", "of_bots", "unattributed", "outside_window")
    assert tally.behaviours == len(done)
    assert tally.behaviours == tally.behaviours_joined + tally.behaviours_off_list + sum(
        getattr(tally, f"behaviours_{why}") for why in left_out
    )
    assert tally.lists == tally.lists_kept + sum(
        getattr(tally, f"lists_{why}") for why in ("twice", "undated", "without_search", "of_bots")
    )
