"""Drift: called where something has changed by more than was set, and where nothing has, not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, ks_2samp

from training.drift import (
    FALSE_ALARM,
    TESTS,
    DriftSettings,
    Finding,
    Windows,
    findings,
    holm,
    largest,
    moved,
)
from training.windows import Seen, Window, named, scores
from worker.shop.catalogue import generate
from worker.shop.drift import Drift
from worker.shop.visits import Shop

USERS, LISTS, PLACES = 120, 480, 5
CATEGORIES = np.array(["boot", "coat", "hat", "shoe", "sock"])
SMALL = DriftSettings(lists=LISTS, least_lists=100)


def sized(sizes: Mapping[str, float]) -> DriftSettings:
    """SMALL with other sizes of what is called."""
    return msgspec.convert({**msgspec.to_builtins(SMALL), **sizes}, DriftSettings)


EAGER = sized(dict.fromkeys(TESTS, 0.0))  # whatever is more than chance is called


def window(seed: int, heat: float = 0.3, lists: int = LISTS, model: str = "m") -> list[Seen]:
    """Lists of people who each search, see and click in a way of their own, time and again."""
    chance = np.random.default_rng(seed)
    people = []
    for _ in range(USERS):
        mix = chance.dirichlet(np.ones(len(CATEGORIES)))
        people.append(
            (mix, chance.beta(4, 4), chance.beta(3, 7) + heat - 0.3, chance.integers(30, size=3))
        )
    found = []
    for user in chance.integers(USERS, size=lists):
        mix, level, eager, asks = people[user]
        found.append(
            Seen(
                user=f"{seed} {user}",
                query=f"w{chance.choice(asks)} shoes",
                model=model,
                categories=tuple(chance.choice(CATEGORIES, size=PLACES, p=mix)),
                relevances=tuple(np.round(chance.beta(20 * level, 20 * (1 - level), PLACES), 2)),
                clicked=tuple(chance.random(PLACES) < eager),
            )
        )
    return found


def still(seed: int) -> Windows:
    """The windows of one world."""
    known, before, now = (window(3 * seed + part) for part in range(3))
    return Windows(known=known, before=before, first=(), now=now)


def called(windows: Windows, chosen: DriftSettings = SMALL) -> set[str]:
    return {one.of for one in findings(windows, chosen) if one.called}


def test_where_nothing_has_changed_chance_calls_as_few_drifts_as_it_may() -> None:
    """Of a hundred worlds, though a test of single lists sees a drift in most of them. Where any
    change would be called, one in twenty may be (11 of 100: a chance of .01); by the sizes that are
    set, which only forgive, none is."""
    worlds = [still(seed) for seed in range(100)]
    eager = [world for world in worlds if called(world, EAGER)]
    assert len(eager) <= 10
    assert not any(called(world) for world in eager)

    def values(lists: Window) -> list[float]:
        return [value for one in lists for value in one.relevances if value is not None]

    single = [ks_2samp(values(world.before), values(world.now)).pvalue for world in worlds]
    assert sum(p < FALSE_ALARM for p in single) > 50


def test_where_nothing_has_changed_a_longer_window_is_no_drift() -> None:
    found = 0
    for seed in range(20):
        world = still(seed)
        short = replace(world, now=window(10_000 + seed, lists=200))
        found += bool(called(short, EAGER))
    assert found <= 3


def other(lists: Window, of: str) -> list[Seen]:
    """The same lists after a change of one thing."""
    if of == "queries":
        return [replace(one, query=f"z{n} shoes") if n % 2 else one for n, one in enumerate(lists)]
    if of == "words":
        return [replace(one, query=one.query.replace("shoes", "boots")) for one in lists]
    if of == "categories":
        return [replace(one, categories=("coat", *one.categories[1:-1], "coat")) for one in lists]
    if of == "scores":
        return [
            replace(one, relevances=tuple((r or 0) * 0.6 for r in one.relevances)) for one in lists
        ]
    return [replace(one, clicked=(True, *one.clicked[1:])) for one in lists]


@pytest.mark.parametrize("of", TESTS)
def test_what_has_changed_is_called_by_its_name(of: str) -> None:
    for seed in range(10):
        world = still(seed)
        found = called(replace(world, now=other(world.now, of)))
        assert of in found
        assert found <= {of, "queries", "words"} if of in ("queries", "words") else found == {of}


@pytest.mark.parametrize("of", TESTS)
def test_a_change_within_its_set_size_is_none_however_certain(of: str) -> None:
    world = still(1)
    changed = replace(world, now=other(world.now, of))
    (one,) = (each for each in findings(changed, SMALL) if each.of == of)
    for size, wanted in ((one.effect / 4, True), (min(1.0, one.effect), False)):
        chosen = sized({**dict.fromkeys(TESTS, 1.0), of: size})
        assert (of in called(changed, chosen)) == wanted


def test_a_line_says_what_changed_in_the_words_of_a_shop() -> None:
    world = still(2)
    now = other(world.now, "queries")
    lines = {one.of: one.line for one in findings(replace(world, now=now), SMALL)}
    known = {one.query for one in world.known}
    shares = [
        sum(one.query not in known for one in each) / len(each) for each in (now, world.before)
    ]
    assert lines["queries"] == (
        f"queries changed: {100 * shares[0]:.1f} % of the last 480 searches were never asked before"
        f" ({100 * shares[1]:.1f} % in the round's own data)"
    )
    assert set(lines) == set(TESTS)


def test_what_another_model_shows_is_no_drift() -> None:
    world = still(3)
    now = [replace(one, model="n") for one in other(other(world.now, "scores"), "clicks")]
    first = [replace(one, model="n") for one in other(other(window(99), "scores"), "clicks")]
    assert called(replace(world, now=now, first=())) == set()
    assert called(replace(world, now=now, first=first)) == set()
    again = replace(world, now=other(now, "categories"), first=first)
    assert called(again) == {"categories"}
    (line,) = (one.line for one in findings(again, SMALL) if one.called)
    assert "in the first lists of this model" in line


@pytest.mark.parametrize(
    "world",
    [
        Windows(known=(), before=(), first=(), now=()),
        replace(still(0), now=window(3, lists=99)),
        replace(still(0), now=[replace(one, user="the only one") for one in window(3)]),
    ],
    ids=["nothing", "too few lists", "too few users"],
)
def test_what_is_too_little_is_not_compared(world: Windows) -> None:
    assert findings(world, SMALL) == []


def test_what_nobody_has_asked_shown_or_scored_is_not_compared() -> None:
    def bare(lists: Window) -> list[Seen]:
        nothing = {"query": "", "categories": (), "relevances": (None,) * PLACES}
        return [replace(one, **nothing) for one in lists]  # type: ignore[arg-type]

    world = still(0)
    found = findings(
        replace(world, before=bare(world.before), now=bare(world.now), known=()), SMALL
    )
    assert [one.of for one in found] == ["clicks"]


def test_the_effects_are_those_of_the_library() -> None:
    before, now = window(0), window(1)
    a, b = scores(before, now)
    values = [
        [v for one in each for v in one.relevances if v is not None] for each in (before, now)
    ]
    exact = ks_2samp(*values).statistic
    assert exact - 0.02 <= largest(b.shares - a.shares) <= exact + 1e-12  # at a hundred levels
    a, b = named(lambda one: one.categories, before, now)
    table = np.array([each.counts.sum(axis=0)[:-1] for each in (a, b)])
    assert chi2_contingency(table).dof == len(CATEGORIES) - 1
    shares = table / table.sum(axis=1, keepdims=True)
    assert moved(b.shares - a.shares) == pytest.approx(
        np.clip(shares[1] - shares[0], 0, None).sum()
    )


def textbook(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p: max over smaller ones of (K + 1 - rank) p, at most 1."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.array(p)[order] * np.arange(len(p), 0, -1))
    found = np.empty(len(p))
    found[order] = np.minimum(adjusted, 1.0)
    return found.tolist()


@given(st.lists(st.integers(1, 1_001), min_size=0, max_size=len(TESTS)))
def test_the_verdicts_are_holm_s(ranks: list[int]) -> None:
    p = [rank / 1_001 for rank in ranks]
    found = holm(
        [Finding(of=of, effect=0.5, p=each, line="") for of, each in zip(TESTS, p, strict=False)]
    )
    wanted = [adjusted <= FALSE_ALARM for adjusted in textbook(p)] if p else []
    assert [one.called for one in found] == wanted


NOW = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = generate(items=600)


def visited(shop: Shop, first: int, period: int, count: int = 800) -> list[Seen]:
    """What a shop's engine shows, in its own order."""
    found = []
    for n in range(first, first + count):
        visit = shop.visit(n, NOW, period)
        shown = [CATALOGUE[item.item_id] for item in visit.event.candidates[:10]]
        found.append(
            Seen(
                user=visit.user.user_id,
                query=visit.event.user_query,
                model=None,
                categories=tuple(item.category or "" for item in shown),
                relevances=tuple(shop.relevance(visit, item.item_id) for item in shown),
                clicked=(False,) * len(shown),
            )
        )
    return found


@pytest.mark.parametrize(
    ("drift", "wanted"),
    [(Drift(), set()), (Drift(trending=0.4), {"queries", "words"})],
    ids=["as ever", "trends"],
)
def test_a_shop_s_trends_are_a_drift_and_its_every_day_is_none(
    drift: Drift, wanted: set[str]
) -> None:
    shop = Shop(CATALOGUE, users=300, drift=drift)
    parts = [visited(shop, 800 * part, period=int(part == 3)) for part in range(4)]
    known, before, first, now = parts
    found = called(Windows(known=known, before=before, first=first, now=now), DriftSettings())
    assert wanted <= found
    assert bool(found) == bool(wanted)
