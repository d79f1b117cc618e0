"""Grades that no longer depend on where an item stood."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.training.clicked import clicked
from tests.training.pages import at, did, joined, place, ranked, search
from training.debias import DebiasSettings, Worth, attractions, split, weigh, worth
from training.examination import Examination
from worker.events import Behaviour, Item
from worker.ranking.model import Doubles
from worker.shop.clicks import ClickModel

HALVES = Examination(
    method="assumed", why="a test", theta=(1.0, 0.5, 0.25, 0.125), clicks=(0,) * 4, eta=1.0
)
CERTAIN = Examination(method="assumed", why="a test", theta=(1.0,), clicks=(0,), eta=0.0)
HARMONIC = Examination(
    method="assumed", why="a test", theta=tuple(1 / np.arange(1, 11)), clicks=(0,) * 10, eta=1.0
)
RAW = DebiasSettings(shrinkage=0.0, floor=0.0, ceiling=1.0)


def plain(**changed: object) -> DebiasSettings:
    return msgspec.convert(msgspec.to_builtins(RAW) | changed, DebiasSettings)


def by_grade(values: Doubles, grades: Doubles, mass: Doubles) -> list[float]:
    """The mean of `values` for each true grade, each pair counting by its mass."""
    return [
        float(np.average(values[grades == grade], weights=mass[grades == grade]))
        for grade in np.unique(grades)
    ]


@pytest.mark.parametrize("estimator", ["ips", "ratio"])
def test_attraction_is_recovered_where_click_rates_are_far_below(estimator: str) -> None:
    table, truth = clicked(20_000, skill=0.0, queries=50)
    model = ClickModel(noise=0.10)
    true = [model.attraction(grade) for grade in np.unique(truth.grades)]
    found = worth(table, HARMONIC, plain(estimator=estimator))
    told = by_grade(found.attraction, truth.grades, found.mass)
    # Single estimates end at 1, which takes a little from the mean of what is near it.
    assert told[:3] == pytest.approx(true[:3], abs=0.02)
    assert told[3] == pytest.approx(true[3], abs=0.06)
    naive = worth(table, HARMONIC, plain(estimator="naive"))
    assert max(by_grade(naive.attraction, truth.grades, naive.mass)) < 0.3


@pytest.mark.parametrize("skill", [0.0, 0.5, 2.0])
def test_noise_is_taken_out_of_what_clicks_say(skill: float) -> None:
    table, truth = clicked(20_000, skill=skill, queries=100)
    found = worth(table, HARMONIC, DebiasSettings())
    assert found.floor == pytest.approx(0.10, abs=0.08)
    assert found.ceiling == pytest.approx(0.95, abs=0.12)
    weights = np.minimum(found.mass, 20.0)
    told = by_grade(found.grades, truth.grades, weights)
    assert told == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.15)


def test_floor_and_ceiling_can_be_set() -> None:
    table, truth = clicked(20_000, skill=0.0, queries=50)
    found = worth(table, HARMONIC, plain(floor=0.10, ceiling=0.95))
    told = by_grade(found.grades, truth.grades, found.mass)
    assert told == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=0.06)


def test_a_floor_above_the_ceiling_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"floor 0\.5 must be below ceiling 0\.4"):
        plain(floor=0.5, ceiling=0.4)


def labelled(done: list[Behaviour], **settings: object) -> dict[str, tuple[float, float]]:
    """item_id -> (grade, weight) of the one list that comes out."""
    lists = joined(done, [ranked(1), ranked(2, timestamp=at(500))], [search(1), search(2)]).lists
    (one,) = weigh(lists, HALVES, plain(**settings))
    ids = [entry.item.item_id for entry in one.search.entries]
    return dict(zip(ids, zip(one.grades.tolist(), one.weights.tolist(), strict=True), strict=True))


def test_lists_of_one_query_make_one_row_an_item() -> None:
    found = labelled([did("purchase", "b"), did("click", "a"), did("click", "a", 510, 2)])
    assert found == {
        "a": (pytest.approx((0.5 + 0.5) / (1 + 1)), 2.0),
        "b": (pytest.approx(1 / (0.5 + 0.5)), 1.0),
        "c": (0.0, 0.5),
        "d": (0.0, 0.25),
    }


def test_grades_move_towards_the_mean_where_little_was_examined() -> None:
    found = labelled([did("purchase", "b")], shrinkage=2.0)
    mean = 1 / (2 + 1 + 0.5 + 0.25)
    assert found["b"][0] == pytest.approx((1 + 2 * mean) / (1 + 2))
    assert found["d"][0] == pytest.approx(2 * mean / (0.25 + 2))


def test_a_clicked_item_far_below_counts_no_more_than_the_clip_allows() -> None:
    found = labelled([did("click", "d")], estimator="ips", clip=0.5)
    assert found["d"][0] == pytest.approx(0.5 / 0.5 / 2)


def test_rows_by_impression_keep_each_users_history_and_own_grades() -> None:
    done = [did("click", "b", -50, 9), did("purchase", "b")]
    catalogue = {"b": Item(item_id="b", title="known")}
    lists = joined(done, [ranked(1)], [search(1)]).lists
    (one,) = weigh(lists, HALVES, plain(rows="impression"), catalogue)
    assert [item.item_id for item, _ in one.search.history] == ["b"]
    assert one.grades.tolist() == [0.0, 1.0, 0.0, 0.0]
    # b was examined; of the others, what is worth nothing was examined as its place is.
    assert one.weights.tolist() == pytest.approx([1.0, 1.0, 0.25, 0.125])


def test_an_item_without_a_title_has_no_grade_and_the_others_keep_theirs() -> None:
    asked = search()
    bare = (msgspec.structs.replace(asked.candidates[0], title=None), *asked.candidates[1:])
    lists = joined([did("purchase", "b")], [ranked()], [search(candidates=bare)]).lists
    (one,) = weigh(lists, CERTAIN, RAW)
    assert [entry.item.item_id for entry in one.search.entries] == ["b", "c", "d"]
    assert one.grades.tolist() == [1.0, 0.0, 0.0]


def test_attractions_are_on_the_scale_of_what_was_logged() -> None:
    lists = joined([did("click", "b")], [ranked()], [search()]).lists
    found = attractions(lists, HALVES, plain(floor=0.2, ceiling=0.6))
    assert found["running shoes", "b"] == 1.0  # half a grade in half an examination
    assert found["running shoes", "a"] == 0.0
    assert attractions([], HALVES, RAW) == {}


def test_queries_that_differ_by_case_and_spaces_are_one() -> None:
    pages = [ranked(1), ranked(2, user_query="  Running  SHOES ")]
    lists = joined([], pages, [search(1), search(2)]).lists
    assert len(weigh(lists, CERTAIN, RAW)) == 1


def test_no_lists_make_no_rows() -> None:
    assert weigh([], HALVES, RAW) == []


def test_the_held_out_share_is_the_newest() -> None:
    lists = joined(
        [], [ranked(n, timestamp=at(n)) for n in range(10)], [search(n) for n in range(10)]
    )
    learned, held = split(lists.lists, 0.3)
    assert [one.query_id for one in learned] == [f"q-{n}" for n in range(7)]
    assert [one.query_id for one in held] == ["q-7", "q-8", "q-9"]


@given(st.lists(st.integers(0, 5), max_size=20), st.floats(0, 1))
def test_nothing_held_out_is_older_than_what_is_learned_from(
    times: list[int], share: float
) -> None:
    pages = [ranked(n, timestamp=at(second)) for n, second in enumerate(times)]
    lists = joined([], pages, [search(n) for n in range(len(times))]).lists
    learned, held = split(lists, share)
    assert sorted([*learned, *held], key=lambda one: one.list_id) == sorted(
        lists, key=lambda one: one.list_id
    )
    asked = round(len(lists) * (1.0 - share))
    assert asked / 2 <= len(learned) <= asked
    assert all(old.at <= new.at for old in learned for new in held)
    begins = sorted(one.at for one in lists)[asked : asked + 1]
    if 2 * sum(one.at < since for since in begins for one in lists) >= asked:
        assert all(old.at < new.at for old in learned for new in held)


@pytest.mark.parametrize("older", [0, 20])
def test_a_past_of_one_moment_is_divided_by_the_hash_of_its_lists(older: int) -> None:
    times = [at(0)] * older + [at(1)] * (200 - older)
    pages = [ranked(n, timestamp=time) for n, time in enumerate(times)]
    lists = joined([], pages, [search(n) for n in range(200)]).lists
    learned, held = split(lists, 0.25)
    assert (len(learned), len(held)) == (150, 50)
    assert {one.at for one in held} == {at(1)}
    ids = {one.list_id for one in held}
    assert ids != {one.list_id for one in lists[-50:]}, "not by their order"
    again = split(list(reversed(lists)), 0.25)[1]
    assert {one.list_id for one in again} == ids


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"held_out_share: expected a share in \[0, 1\], got 2"):
        split([], 2.0)


estimators = st.sampled_from(["ips", "ratio", "naive"])
shrinkages = st.sampled_from([0.0, 1.0, 5.0])


@given(st.integers(0, 1_000), estimators, shrinkages, st.sampled_from([0.01, 0.1, 1.0]))
@examples(max_examples=30)
def test_grades_are_in_range_and_weights_end(
    seed: int, estimator: str, shrinkage: float, clip: float
) -> None:
    table, _ = clicked(100, seed=seed, queries=5)
    chosen = plain(estimator=estimator, shrinkage=shrinkage, clip=clip)
    found = worth(table, HARMONIC, chosen)
    assert np.isfinite(found.grades).all()
    assert ((found.grades >= 0) & (found.grades <= 1)).all()
    assert (found.mass > 0).all()
    assert (found.mass <= np.bincount(table.pairs) + 1e-9).all()


@given(st.integers(0, 1_000), shrinkages)
@examples(max_examples=20)
def test_where_examination_is_certain_every_estimator_is_the_naive_one(
    seed: int, shrinkage: float
) -> None:
    table, _ = clicked(100, seed=seed, queries=5)

    def by(estimator: str) -> Worth:
        return worth(table, CERTAIN, plain(estimator=estimator, shrinkage=shrinkage))

    for estimator in ("ips", "ratio"):
        assert by(estimator).attraction == pytest.approx(by("naive").attraction)
        assert by(estimator).mass == pytest.approx(by("naive").mass)


@given(st.lists(st.builds(did, st.just("click"), st.sampled_from("abcd"), st.integers(5, 9))))
def test_weights_never_pass_the_most_that_is_set(done: list[Behaviour]) -> None:
    assert all(weight <= 0.7 for _, weight in labelled(done, most_weight=0.7).values())


def test_a_place_far_down_is_prolonged_and_clipped() -> None:
    items = [place(i, rank) for i, rank in (("a", 1), ("b", 4_000))]
    lists = joined([did("click", "b")], [ranked(1, items)], [search(1, "ab")]).lists
    (one,) = weigh(lists, HARMONIC, plain(clip=0.05))
    assert one.weights.tolist() == pytest.approx([1.0, 0.05])
