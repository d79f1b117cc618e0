"""What comes with clicks: times, copies and machines; and nothing of it unless it is asked for."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.events import Behaviour, SearchEvent
from worker.shop.catalogue import generate
from worker.shop.clicks import ClickModel
from worker.shop.habits import Habits, Page, react
from worker.shop.visits import Shop

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = generate(items=400)
CLICKS = ClickModel(noise=0.1)

relevances = st.lists(st.floats(0, 1), min_size=1, max_size=30)
seeds = st.integers(0, 10_000).map(str)


def page(places: int) -> Page:
    search = SearchEvent(query_id="q", user_query="shoes", user_id="u", client_id="c")
    return Page(search, [f"i-{n}" for n in range(places)], "l", NOW)


def told(done: Behaviour) -> tuple[str, int]:
    """The action and the place of a behaviour."""
    position = done.event_attributes.position
    assert position is not None
    assert position.ordinal is not None
    return done.action_name, int(position.ordinal)


@given(relevances, seeds)
@settings(deadline=None)
def test_taking_time_adds_leaves_and_changes_no_click(worth: list[float], seed: str) -> None:
    plain = react(page(len(worth)), worth, CLICKS, Habits(), seed)
    timed = react(page(len(worth)), worth, CLICKS, Habits(dwell=True), seed)
    assert [told(done) for done in timed if done.action_name != "leave"] == list(map(told, plain))
    assert [place for action, place in map(told, timed) if action == "leave"] == [
        place for action, place in map(told, timed) if action == "click"
    ]


@given(relevances, seeds, st.booleans(), st.booleans())
@settings(deadline=None)
def test_behaviours_come_in_the_order_of_time(
    worth: list[float], seed: str, dwell: bool, bot: bool
) -> None:
    done = react(page(len(worth)), worth, CLICKS, Habits(dwell=dwell), seed, bot)
    times = [behaviour.timestamp for behaviour in done if behaviour.timestamp]
    assert times == sorted(times)
    assert all(time >= NOW for time in times)


def test_people_stay_longer_at_what_is_relevant() -> None:
    stays: defaultdict[float, list[float]] = defaultdict(list)
    worth = [1.0, 0.0]
    for n in range(2_000):
        clicked: dict[int, datetime] = {}
        for done in react(page(2), worth, CLICKS, Habits(dwell=True), str(n)):
            action, place = told(done)
            assert done.timestamp is not None
            if action == "click":
                clicked[place] = done.timestamp
            elif action == "leave":
                stay = (done.timestamp - clicked[place]).total_seconds()
                stays[worth[place - 1]].append(stay)
    assert fmean(stays[0.0]) < 10.0 < 30.0 < fmean(stays[1.0])


def test_a_machine_clicks_everything_in_a_second() -> None:
    done = react(page(20), [0.0] * 20, CLICKS, Habits(), "0", bot=True)
    assert [told(one) for one in done] == [("click", place) for place in range(1, 21)]
    assert done[-1].timestamp is not None
    assert (done[-1].timestamp - NOW).total_seconds() <= 1.0


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_copies_come_as_often_as_asked_and_are_equal(chance: float) -> None:
    habits, worth = Habits(duplicates=chance), [1.0] * 5
    copies = clicks = 0
    for n in range(600):
        counted = Counter(
            (*told(done), done.timestamp) for done in react(page(5), worth, CLICKS, habits, str(n))
        )
        assert set(counted.values()) <= {1, 2}
        clicks += len(counted)
        copies += sum(counted.values()) - len(counted)
    assert copies / clicks == pytest.approx(chance, abs=0.04)


def test_bots_make_their_share_of_visits_and_leave_the_others_alone() -> None:
    plain, mixed = (Shop(CATALOGUE, users=20, habits=Habits(bots=share)) for share in (0.0, 0.25))
    bots = 0
    for n in range(800):
        visit = mixed.visit(n, NOW)
        bots += visit.user.bot
        if not visit.user.bot:
            assert visit == plain.visit(n, NOW)
        else:
            shown = [item.item_id for item in visit.event.candidates[:3]]
            assert len(mixed.react(visit, shown, None, NOW)) == 3
    assert bots / 800 == pytest.approx(0.25, abs=0.05)
    assert not any(plain.visit(n, NOW).user.bot for n in range(800))


def test_a_page_reports_what_it_showed_and_where() -> None:
    assert list(map(told, page(3).impressions())) == [("impression", place) for place in (1, 2, 3)]
    assert all(done.client_id == "c" for done in page(3).impressions())


def test_the_truth_of_examination_is_told() -> None:
    assert ClickModel(eta=1.0).examinations(4) == (1.0, 1 / 2, 1 / 3, 1 / 4)
