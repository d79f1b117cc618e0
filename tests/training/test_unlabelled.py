"""Lists on which nobody acted: what teachers disagree on never enters, nor anything unasked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from export.domain import Domain, Normal
from export.session import open_session
from tests.export.models import save_trained
from tests.factories import PairOverlap, joined, random_search
from tests.training import tiny
from tests.training.conftest import Made, begin
from tests.training.lists import labelled_list, labelled_lists
from training import pipeline
from training.__main__ import main
from training.commands import live_model
from training.config import BadConfig, Config
from training.dataset import share_of
from training.judgments import GradedQuery, read_jsonl
from training.recipe import Recipe
from training.recording import write_logs
from training.rounds import Outcome, Round
from training.simulate import ranker, simulate
from training.sources import CHAMPION, Teacher, Unlabelled
from training.teachers import Score, as_served, own_word
from training.tenants import Tenant
from training.tuning import BadRecipe
from training.unlabelled import (
    STAGE,
    VERDICTS,
    agreed,
    common_order,
    drawn,
    judged,
    mean_weight,
    second_teacher,
    verdicts,
)
from training.visitors import Graded
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, JoinedSearch
from worker.ranking.model import Doubles, Model
from worker.ranking.rerank import embed

SILENT = 24  # queries of the shop, the last ones, that nobody acts on
ALL = Unlabelled(share=9.0, agreement=0.5)
few = st.integers(0, 3)
tables = st.integers(0, 7).flatmap(
    lambda n: st.lists(st.lists(few, min_size=n, max_size=n), min_size=1, max_size=3)
)


def array(table: Sequence[Sequence[int]]) -> Doubles:
    return np.array(table, dtype=np.float64).reshape(len(table), -1)


def one_order(said: Doubles, rows: Sequence[int]) -> bool:
    """Whether all views put these rows in the same order."""
    return all(len(set(np.sign(said[:, a] - said[:, b]))) == 1 for a, b in combinations(rows, 2))


def silent(_line: str) -> None:
    """Nobody listens."""


def searches(count: int) -> list[JoinedSearch]:
    return [
        joined(random_search(seed, 6, query_id=f"q{seed}", user_query=f"red hat {seed}"))
        for seed in range(count)
    ]


def titles(asked: Sequence[JoinedSearch]) -> list[str]:
    return sorted({each.item.title or "" for one in asked for each in one.entries})


def two(noise: float) -> Callable[[], Sequence[Score]]:
    return lambda: (by_chance(1, noise), by_chance(2, noise))


def by_chance(seed: int, noise: float) -> Score:
    """A teacher who knows the truth, an item's engine score, but for so much noise."""

    def score(asked: Sequence[JoinedSearch]) -> list[Doubles]:
        found = []
        for one in asked:
            chance = np.random.default_rng((seed, *one.query.encode()))
            truth = np.array([each.item.score or 0.0 for each in one.entries])
            found.append(0.1 * (truth + noise * chance.normal(size=len(truth))))
        return found

    return score


@given(tables)
def test_the_common_order_is_the_longest_that_no_view_contradicts(table: list[list[int]]) -> None:
    said = array(table)
    rows = common_order(said).tolist()
    assert one_order(said, rows)
    assert len(set(rows)) == len(rows)
    longer = combinations(range(said.shape[1]), len(rows) + 1)
    assert not any(one_order(said, each) for each in longer)


@given(tables)
def test_another_view_never_adds_to_the_common_order(table: list[list[int]]) -> None:
    said = array(table)
    sizes = [len(common_order(said[: count + 1])) for count in range(len(said))]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == said.shape[1], "one view contradicts nothing"
    assert len(common_order(np.vstack([said, 2 * said + 1]))) == len(common_order(said))


@given(st.permutations(range(9)))
def test_where_all_of_a_list_is_agreed_on_kendalls_tau_is_1(order: list[int]) -> None:
    said = array([range(9), order])
    rows = common_order(said)
    assert (len(rows) == 9) == (kendalltau(*said).statistic > 1 - 1e-9)
    if len(rows) > 1:
        assert kendalltau(*said[:, rows]).statistic > 1 - 1e-9


@given(st.integers(0, 2**31 - 1), st.floats(0, 20), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_threshold_adds_no_list_and_what_enters_is_in_one_order_for_all(
    seed: int, noise: float, one: float, other: float
) -> None:
    lists = searches(6)
    views = [by_chance(seed, noise), by_chance(seed + 1, noise)]
    lower, higher = (verdicts(lists, views, each) for each in sorted((one, other)))
    for search, first, second in zip(lists, lower, higher, strict=True):
        assert second is None or first == second
        if first is not None:
            said = np.stack([view([search])[0] for view in views])
            assert one_order(said, first.rows)
            assert len(first.rows) >= min(one, other) * len(search.entries)
            assert np.allclose(first.grades, 1 / (1 + np.exp(-said[0, list(first.rows)])))


def test_what_is_agreed_on_weighs_less_than_a_real_grade_and_the_rest_is_left_out(
    tmp_path: Path,
) -> None:
    real = mean_weight([replace(one, weights=4.0 * one.weights) for one in labelled_lists(9)])
    settings = Unlabelled(share=2.0, agreement=0.6, weight=0.25)
    lists = judged(searches(20), settings, real, two(6.0), Round(tmp_path))
    assert 0 < len(lists) < 20
    assert any(len(one.grades) < 6 for one in lists)
    for one in lists:
        assert len(one.search.entries) == len(one.grades) >= 0.6 * 6
        assert one.weights.tolist() == [0.25 * 4.0] * len(one.grades)
        assert ((one.grades > 0) & (one.grades < 1)).all()


def test_a_weight_of_0_is_no_real_grade() -> None:
    first, second = labelled_list(0, 4), labelled_list(1, 4)
    half = replace(second, weights=np.array([0.0, 0.0, 2.0, 4.0]))
    assert mean_weight([first, half]) == (4 * 1.0 + 2.0 + 4.0) / 6
    assert mean_weight([replace(first, weights=np.zeros(4))]) == mean_weight([]) == 0.0


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 99))
def test_as_many_are_drawn_as_are_wanted_each_once_and_the_same_for_equal_seeds(
    found: int, wanted: int, seed: int
) -> None:
    lists = searches(found)
    chosen = drawn(lists, wanted, seed)
    rows = [next(row for row, one in enumerate(lists) if one is each) for each in chosen]
    assert rows == sorted(set(rows))
    assert len(rows) == min(found, wanted)
    assert [id(one) for one in drawn(lists, wanted, seed)] == [id(one) for one in chosen]


def test_nobody_is_asked_about_no_query_or_a_single_candidate() -> None:
    asked = [joined(random_search(0, 6, user_query=" ")), joined(random_search(0, 1))]
    assert drawn(asked, 9, 0) == []


def test_nothing_is_in_order_where_all_candidates_are_worth_the_same() -> None:
    def even(asked: Sequence[JoinedSearch]) -> list[Doubles]:
        return [np.zeros(len(one.entries)) for one in asked]

    assert verdicts(searches(2), [even, even], 0.1) == [None, None]


def test_a_teacher_who_says_no_number_is_refused() -> None:
    def broken(asked: Sequence[JoinedSearch]) -> list[Doubles]:
        return [np.full(len(one.entries), np.nan) for one in asked]

    with pytest.raises(BadRecipe, match="the teachers' logits: 6 are not finite"):
        verdicts(searches(1), [broken, by_chance(0, 1.0)], 0.5)


def test_teachers_that_were_cut_off_are_asked_again_and_those_that_ended_are_not(
    tmp_path: Path,
) -> None:
    one = Round(tmp_path)

    def killed(_asked: Sequence[JoinedSearch]) -> list[Doubles]:
        raise KeyboardInterrupt

    def never() -> Sequence[Score]:
        raise AssertionError("they were asked")

    with pytest.raises(KeyboardInterrupt):
        judged(searches(20), ALL, 1.0, lambda: (by_chance(0, 1.0), killed), one)
    assert not (tmp_path / STAGE).exists()
    whole = judged(searches(20), ALL, 1.0, two(1.0), one)
    again = judged(searches(20), ALL, 1.0, never, one)
    assert len(whole) == len(again) > 9
    for before, after in zip(whole, again, strict=True):
        assert before.search == after.search
        assert before.grades.tolist() == after.grades.tolist()


@pytest.fixture(scope="module")
def champion(zero_shot: Path) -> Model:
    return Bundled(open_session(zero_shot, threads=1))


@pytest.fixture(scope="module")
def other_teacher(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who knows nothing, and is sure of it."""
    return save_trained(tmp_path_factory.mktemp("teacher") / "trained", tiny_base, "mean")


def config_of(base: Path, folder: str) -> Config:
    return tiny.config(Path("nowhere"), base, recipe=Recipe(teacher=Teacher(folder=folder)))


@pytest.mark.parametrize("names", ["nobody", "the champion", "the base's folder"])
def test_without_another_teacher_the_base_is_asked_and_nobody_where_no_pair_model_serves(
    champion: Model, tiny_base: Path, zero_shot: Path, names: str
) -> None:
    folder = {"nobody": "", "the champion": CHAMPION}.get(names, str(zero_shot))
    config, base = config_of(tiny_base, folder), champion
    second = second_teacher(config, base, PairOverlap())
    assert second is not None
    asked = searches(3)
    found, own = second()(asked), as_served(base, asked)
    assert [each.tolist() for each in found] == [each.tolist() for each in own]
    assert second_teacher(config, base, champion) is None
    opened_again = Bundled(open_session(zero_shot, threads=1))
    assert second_teacher(config, base, opened_again) is None, "the same bundle, promoted"


def test_of_lists_beyond_what_it_learned_from_what_serves_says_nothing_of_its_own() -> None:
    asked, whole = searches(20), PairOverlap()
    said = [np.stack([one, one]) for one in own_word(whole, asked)]
    assert np.array_equal(np.stack(own_word(whole, asked)), np.stack(as_served(whole, asked)))
    assert any(len(set(each[0])) > 1 for each in said)
    vectors = np.stack([*embed(titles(asked), whole).values()])
    far = Domain(Normal(100.0 + vectors.mean(0), np.eye(vectors.shape[1], dtype=np.float32)), 1, 2)
    stranger = PairOverlap(domain=far, beyond=whole.calibration)
    assert any(np.ptp(each) > 0.0 for each in as_served(stranger, asked)), "the base's cosine"
    assert verdicts(asked, [partial(own_word, stranger), partial(as_served, whole)], 0.01) == (
        [None] * len(asked)
    )


def test_another_teacher_is_asked_wherever_one_is_named(
    champion: Model, tiny_base: Path, other_teacher: Path
) -> None:
    config = config_of(tiny_base, str(other_teacher))
    second = second_teacher(config, champion, champion)
    assert second is not None
    says, serves = second()(searches(3)), as_served(champion, searches(3))
    assert not any(np.allclose(a, b) for a, b in zip(says, serves, strict=True))
    with pytest.raises(BadRecipe, match=r"teacher\.folder '/nowhere': expected a folder"):
        second_teacher(config_of(tiny_base, "/nowhere"), champion, champion)


def test_what_serves_and_the_base_are_held_against_each_other(
    champion: Model, tiny_base: Path, tmp_path: Path
) -> None:
    recipe, said = Recipe(unlabelled=ALL), list[str]()
    base, champion = champion, PairOverlap()
    config = tiny.config(tmp_path, tiny_base, recipe=recipe)
    lesson = pipeline.Lesson(labelled_lists(12), labelled_lists(3), {}, {"lists": 12.0})
    more = pipeline.enlarged(
        config, Round(tmp_path), lesson, searches(30), (base, champion), said.append
    )
    learned = len(more.agreed)
    assert 0 < learned < 30
    assert said[-1].startswith(f"{learned} of 30 unlabelled lists learned from; ")
    assert more.counts["lists"] == 12.0
    assert (more.learn, more.kept, more.sets) == (lesson.learn, lesson.kept, lesson.sets)
    whole = {each.event.query_id: each for each in searches(30)}
    for one in more.agreed:
        search = whole[one.search.event.query_id]
        rows = [search.entries.index(entry) for entry in one.search.entries]
        assert one_order(
            np.stack([as_served(each, [search])[0] for each in (champion, base)]), rows
        )
    off = tiny.config(tmp_path, tiny_base)
    assert pipeline.enlarged(off, Round(tmp_path), lesson, [], (base, champion), silent) is lesson


def test_where_nothing_serves_and_nobody_else_is_named_no_list_is_learned_from(
    champion: Model, tiny_base: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    models = (champion, champion)
    config = config_of(tiny_base, "")
    lists, counts = agreed(searches(3), [], config, models, Round(tmp_path), said.append)
    assert (lists, [*counts.values()]) == ([], [3, 0, 0])
    assert said == [
        "no pair model serves, no other teacher is named: no unlabelled list is learned from"
    ]


@pytest.fixture(scope="module")
def quiet_shop(tiny_base: Path, zero_shot: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A shop where half of the queries are looked at, and nobody acts on what they find."""
    made = begin(tmp_path_factory.mktemp("quiet"), tiny_base)
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    settings, queries = made.config.simulate, tiny.queries(72)
    tiny.write_graded(made.graded, queries)
    source, unheard = Graded(queries, settings), texts(queries[-SILENT:])
    rank = ranker(live_model(made.config), source.catalogue, Dials())
    served = (
        each
        if each.search.user_query not in unheard
        else each._replace(
            behaviours=tuple(one for one in each.behaviours if one.action_name == "impression")
        )
        for each in simulate(source, rank, settings)
    )
    write_logs(served, source.catalogue, made.config.logs.open(), 0, settings.at(0))
    return made


def texts(queries: Sequence[GradedQuery]) -> set[str]:
    return {each.event.user_query for each in queries}


Ended: TypeAlias = tuple[Outcome, Made, list[str]]


def round_of(made: Made, root: Path, teacher: Path, unlabelled: Unlabelled) -> Ended:
    """A first round on the shop's logs in a folder of its own, and what it said."""
    taught = Teacher(folder=str(teacher), weight=0.1)

    def change(one: Config) -> Config:
        recipe = msgspec.structs.replace(one.recipe, unlabelled=unlabelled, teacher=taught)
        return msgspec.structs.replace(one, logs=made.config.logs, recipe=recipe)

    own = begin(root, Path(made.config.model.base), change)
    zero_shots = Path(own.config.work) / "zero-shot"
    if not zero_shots.exists():
        shutil.copytree(Path(made.config.work) / "zero-shot", zero_shots)
    said: list[str] = []
    return pipeline.run_round(own.config, 1, own.round(1), said.append), own, said


def weights(ended: Outcome, made: Made) -> bytes:
    folder = made.registry.fetch(ended.bundle, made.root)
    return (folder / "weights/model.safetensors").read_bytes()


def line(said: Sequence[str], start: str) -> str:
    (found,) = (each for each in said if each.startswith(start))
    return found


@pytest.fixture(scope="module")
def off(quiet_shop: Made, other_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    root = tmp_path_factory.mktemp("off")
    return round_of(quiet_shop, root, other_teacher, Unlabelled())


@pytest.fixture(scope="module")
def on(quiet_shop: Made, other_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return round_of(quiet_shop, tmp_path_factory.mktemp("on"), other_teacher, ALL)


def test_a_round_learns_from_lists_that_nobody_acted_on_and_tells_how_many(
    quiet_shop: Made,
    off: Ended,
    on: Ended,
) -> None:
    (without, _, before), (ended, made, after) = off, on
    counts = {name: count for name, count in ended.counts.items() if name not in without.counts}
    found, asked, learned = counts.values()
    assert list(counts) == ["unlabelled", "unlabelled_asked", "unlabelled_learned"]
    assert found == asked > learned > 0
    unheard = texts(read_jsonl(quiet_shop.graded)[-SILENT:])
    kept = {each for each in unheard if share_of(each) < made.config.judge.kept}
    assert SILENT - len(kept) - 8 < found <= SILENT - len(kept), "those that somebody asked"
    assert line(after, f"{learned:.0f} of {asked:.0f} unlabelled lists learned from; ")
    (lists, watched), (more, watching) = (
        [int(each) for each in line(said, "reading").split() if each.isdigit()]
        for said in (before, after)
    )
    assert (more, watching) == (lists + learned, watched)
    folder = made.registry.fetch(ended.bundle, made.root)
    assert json.loads((folder / "report/report.json").read_bytes())["counts"] == ended.counts
    assert f"- unlabelled_learned: {learned:.0f}\n" in (folder / "report/report.md").read_text()


def test_calibration_judges_and_examination_see_nothing_of_it(off: Ended, on: Ended) -> None:
    reports = []
    for ended, made, said in (off, on):
        folder = made.registry.fetch(ended.bundle, made.root)
        report = json.loads((folder / "report/report.json").read_bytes())
        sets = [(each["set"], each["queries"]) for each in report["sets"]]
        reports.append((report["examination"], sets, line(said, "calibrating")))
    assert reports[0] == reports[1]
    assert weights(*off[:2]) != weights(*on[:2])


def test_off_is_equal_to_the_last_bit_whatever_else_is_set(
    quiet_shop: Made, other_teacher: Path, off: Ended, tmp_path: Path
) -> None:
    other = round_of(quiet_shop, tmp_path, other_teacher, Unlabelled(agreement=0.1, weight=0.9))
    assert weights(*other[:2]) == weights(*off[:2])
    assert other[0].counts == off[0].counts
    assert not (other[1].round(1).folder / STAGE).exists()


def test_a_round_that_is_killed_after_its_teachers_spoke_does_not_ask_them_again(
    quiet_shop: Made, on: Ended, tmp_path: Path
) -> None:
    whole, made, _ = on

    class Killed(BaseException):
        pass

    def dies(said: str) -> None:
        if said.startswith("step"):
            raise Killed

    own = msgspec.structs.replace(
        made.config,
        work=str(tmp_path / "work"),
        registry=msgspec.structs.replace(made.config.registry, url=str(tmp_path / "registry")),
    )
    shutil.copytree(Path(made.config.work) / "zero-shot", tmp_path / "work" / "zero-shot")
    one = Round(tmp_path / "work" / "rounds" / "0001")
    with pytest.raises(Killed):
        pipeline.run_round(own, 1, one, dies)
    spoken = (one.folder / STAGE / VERDICTS).stat()
    ended = pipeline.run_round(own, 1, one, silent)
    assert (one.folder / STAGE / VERDICTS).stat() == spoken
    assert ended.counts == whole.counts
    assert weights(ended, Made(tmp_path, own, tmp_path, tmp_path)) == weights(whole, made)


def test_human_labels_have_no_list_without_a_grade(
    tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(unlabelled=Unlabelled(share=0.5), tuning="lora")
    says = r"recipe\.unlabelled\.share 0\.5: expected 0 from human labels.*nothing was trained"
    with pytest.raises(BadConfig, match=says):
        pipeline.lesson_of(tiny.config(tmp_path, tiny_base, recipe=recipe), [])
    labels = tiny.write_graded(tmp_path / "labels.jsonl", tiny.queries(6))
    tenants = (Tenant(name="de", judgments=(str(labels),)),)
    config = tiny.config(tmp_path, tiny_base, recipe=recipe, tenants=tenants)
    file = tiny.write_config(tmp_path / "config.toml", config)
    assert main(["tenants", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "recipe.unlabelled.share 0.5: expected 0 from human" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
