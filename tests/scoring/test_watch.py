"""The guards: what each of them sees, says in one line, and lets pass."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from tests.factories import candidate, event, joined, ranked_item
from worker.events import RankedList
from worker.policies import Group
from worker.ranking.rerank import rerank
from worker.scoring.outcomes import WAIT_SECONDS, Arm, Outcomes
from worker.scoring.overlap import Overlap
from worker.scoring.watch import Watch, agreement

ARMS: tuple[Arm, Arm] = ("champion", "challenger")
DIGEST = "ab12cd34" * 8
ACME = Group(field="brand", value="Acme")
SEARCH = joined(
    event([candidate(f"i{n}", brand="Acme" if n % 4 == 0 else "Birch") for n in range(40)])
)


(MADE,) = rerank((SEARCH,), Overlap())


def listed(*numbers: int) -> RankedList:
    """A list of these candidates of SEARCH."""
    items = tuple(ranked_item(f"i{n}", rank) for rank, n in enumerate(numbers, start=1))
    return msgspec.structs.replace(MADE, items=items)


def relevant(relevance: float | None) -> RankedList:
    """The champion's list, each of its items as relevant as this."""
    items = tuple(msgspec.structs.replace(i, relevance=relevance) for i in CHAMPIONS.items)
    return msgspec.structs.replace(CHAMPIONS, items=items)


CHAMPIONS = listed(*range(10))  # three of Acme among ten
Chance = np.random.Generator


def slow(watch: Watch, chance: Chance, factor: float = 2.4) -> None:
    """Both arms score a batch of a new query."""
    noise = np.exp(0.3 * chance.normal(size=2))
    watch.timed("champion", 1, 1, 0.02 * noise[0])
    watch.timed("challenger", 1, 1, factor * 0.02 * noise[1])


def slow_to_read(watch: Watch, chance: Chance) -> None:
    """Both read a text, while nobody waits."""
    watch.probed(0.05 * np.exp(0.3 * chance.normal()), 0.02)


def failing(watch: Watch, chance: Chance, share: float = 0.1) -> None:
    """One in ten of the challenger's lists is none."""
    watch.answered("champion", failed=False)
    watch.answered("challenger", failed=bool(chance.random() < share))


def failing_silently(watch: Watch, chance: Chance) -> None:
    """One in ten of what the champion had scored is too much for the challenger."""
    watch.silent(failed=bool(chance.random() < 0.1))


def unlike(watch: Watch, chance: Chance) -> None:
    """The challenger's order is chance."""
    drawn = chance.choice(40, 10, replace=False).tolist()
    watch.compared(listed(*drawn), CHAMPIONS, SEARCH)


def unfair(watch: Watch, chance: Chance, kept: int = 1) -> None:
    """Of three items of a brand one is left; the rest of the list stays."""
    others = [n for n in (*range(10), 11, 13) if n % 4]
    watch.compared(listed(*(0, 4, 8)[:kept], *others[: 10 - kept]), CHAMPIONS, SEARCH)


def unclicked(watch: Watch, chance: Chance, ours: float = 0.15) -> None:
    """A user of each arm clicks, or not."""
    watch.clicked("champion", bool(chance.random() < 0.3))
    watch.clicked("challenger", bool(chance.random() < ours))


def drifted(watch: Watch, chance: Chance, moved: float = 0.3) -> None:
    """The same order, of items that the challenger finds more relevant."""
    level = 0.2 + 0.4 * chance.random()
    watch.compared(relevant(level + moved), relevant(level), SEARCH)


def drifted_down(watch: Watch, chance: Chance) -> None:
    """Of items that it finds less relevant."""
    level = 0.5 + 0.4 * chance.random()
    watch.compared(relevant(level - 0.3), relevant(level), SEARCH)


CAUGHT: list[tuple[Callable[[Watch, Chance], None], str, str]] = [
    (slow, "slow", r"its lists took 2\.\d times as long to score \(\d+(\.\d)? ms, where the "),
    (slow_to_read, "slow_silent", r"its lists took 2\.\d times as long to score"),
    (failing, "failing", r"\d+\.\d% of its lists failed or came too late \(the champion's: 0\.0%"),
    (failing_silently, "failing_silent", r"it could not score \d+\.\d% of what the champion had"),
    (unlike, "unlike", r"its lists have little to do with .* \d+% of .*, and 25% would by chance"),
    (unfair, "unfair", r"brand=Acme has 10% of the first 10 places, where .* gives it 30%"),
    (
        drifted,
        "drifted_up",
        r"it finds the first 10 places .* of \d+%, where the champion says \d+%",
    ),
    (drifted_down, "drifted_down", r"it finds the first 10 places relevant with a chance of \d+%,"),
    (unclicked, "unclicked", r"\d+\.\d% of its lists were clicked \(the champion's: \d+\.\d%\)"),
]


@pytest.mark.parametrize(("happen", "guard", "said"), CAUGHT, ids=[c[0].__name__ for c in CAUGHT])
def test_what_is_worse_is_caught_and_told_in_one_line(
    happen: Callable[[Watch, Chance], None], guard: str, said: str
) -> None:
    watch, chance = Watch(DIGEST, ACME, 0.1), np.random.default_rng(1)
    for _ in range(1_500):
        happen(watch, chance)
        if (verdict := watch.verdict()) is not None:
            break
    assert verdict is not None
    assert verdict.guard == guard
    whole = rf"challenger ab12cd34 was taken back: {said}.*, over \d+ comparisons"
    assert re.fullmatch(whole, verdict.sentence), verdict.sentence


PASSED: list[tuple[str, Callable[[Watch, Chance], None]]] = [
    ("as fast", lambda watch, chance: slow(watch, chance, 1.0)),
    ("a little slower than it", lambda watch, chance: slow(watch, chance, 1.2)),
    ("no failures", lambda watch, chance: failing(watch, chance, 0.0)),
    ("a failure in two hundred", lambda watch, chance: failing(watch, chance, 0.005)),
    (
        "six of ten places",
        lambda watch, _: watch.compared(listed(*range(4, 14)), CHAMPIONS, SEARCH),
    ),
    ("a group that keeps its places", lambda watch, chance: unfair(watch, chance, 3)),
    ("as much relevance, nearly", lambda watch, chance: drifted(watch, chance, 0.09)),
    (
        "lists without a relevance",
        lambda watch, _: watch.compared(relevant(None), relevant(0.5), SEARCH),
    ),
    ("as many clicks", lambda watch, chance: unclicked(watch, chance, 0.3)),
]


@pytest.mark.parametrize("happen", [p[1] for p in PASSED], ids=[p[0] for p in PASSED])
def test_what_is_no_worse_than_it_may_be_stays(happen: Callable[[Watch, Chance], None]) -> None:
    watch, chance = Watch(DIGEST, ACME, 0.1), np.random.default_rng(2)
    for _ in range(1_500):
        happen(watch, chance)
        assert watch.verdict() is None


def test_relevance_may_move_as_far_as_it_likes_where_nobody_watches_it() -> None:
    watch, chance = Watch(DIGEST), np.random.default_rng(4)
    for _ in range(500):
        drifted(watch, chance)
        drifted_down(watch, chance)
        assert watch.verdict() is None


def test_an_arm_of_few_users_is_not_slow_for_having_more_to_read() -> None:
    """One model in both arms: the champion's has read most items before, the challenger's none."""
    watch, chance = Watch(DIGEST), np.random.default_rng(3)
    for turn in range(3_000):
        arm = ARMS[turn % 10 == 0]
        texts = 1 + int(chance.poisson(30.0 if arm == "challenger" else 3.0))
        watch.timed(arm, 1, texts, 0.005 * texts * np.exp(0.2 * chance.normal()))
        assert watch.verdict() is None


def test_batches_that_read_nothing_tell_nothing_of_a_models_speed() -> None:
    watch = Watch(DIGEST)
    for _ in range(500):
        watch.timed("champion", 1, 0, 1e-5)
        watch.timed("challenger", 1, 0, 1.0)
    assert watch.verdict() is None


AGREEMENTS: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, float, int]]] = [
    (tuple(range(10)), tuple(range(10)), (10, 2.5, 10)),
    (tuple(range(10)), tuple(range(10, 20)), (0, 2.5, 10)),
    (tuple(range(20)), tuple(range(5, 25)), (5, 2.5, 10)),
    ((0, 1), (1, 2), (1, 0.1, 2)),
]


@pytest.mark.parametrize(("ours", "theirs", "found"), AGREEMENTS)
def test_agreement_of_the_first_places(
    ours: tuple[int, ...], theirs: tuple[int, ...], found: tuple[int, float, int]
) -> None:
    assert agreement(listed(*ours), listed(*theirs), 40) == found


def test_a_users_first_list_counts_once_its_time_is_over() -> None:
    outcomes = Outcomes()
    assert outcomes.first("u1")
    outcomes.listed("q1", "champion", now=0.0)
    assert outcomes.first("u2")
    outcomes.listed("q2", "challenger", now=10.0)
    assert not outcomes.first("u1")  # who has been seen
    for query_id in ("q2", "q2", "q3", "elsewhere"):
        outcomes.clicked(query_id)
    assert list(outcomes.closed(WAIT_SECONDS - 1.0)) == []
    assert list(outcomes.closed(WAIT_SECONDS)) == [("champion", False)]
    outcomes.clicked("q1")
    assert not outcomes.first("u1")  # delivered again
    assert list(outcomes.closed(9 * WAIT_SECONDS)) == [("challenger", True)]
