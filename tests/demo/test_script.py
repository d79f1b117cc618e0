"""What is asked in which order."""

from hypothesis import given
from hypothesis import strategies as st

from worker.demo.script import DIALS, Script, script


@given(st.integers(1, 2_000), st.booleans())
def test_every_search_that_was_asked_for_is_played(events: int, learns: bool) -> None:
    assert script(events, learns).events == events


@given(st.integers(1, 2_000))
def test_what_comes_after_the_round_was_asked_before_it(events: int) -> None:
    played = script(events, learns=True)
    for before, after in played.pairs():
        assert before < played.before
        assert played.before + played.during <= after < events
        assert played.search(before) == played.search(after)


def test_each_need_is_asked_at_every_dial() -> None:
    played = Script(before=3 * len(DIALS))
    searches = [played.search(n) for n in range(played.before)]
    assert len(set(searches)) == played.before
    assert len({number for number, _ in searches}) == 3


def test_without_a_round_nothing_is_asked_twice() -> None:
    played = script(60, learns=False)
    assert (played.before, played.pairs()) == (60, [])
