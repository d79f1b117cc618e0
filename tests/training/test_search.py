"""A search over recipes: what it asks for, what it survives, and what it leaves to run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.training import tiny
from tests.training.conftest import Made, begin
from training import config as configs
from training import pareto
from training.__main__ import MISUSED, main
from training.config import Config
from training.recipe import Recipe
from training.search import DIRECTIONS, asked, front
from training.space import SPACE, Among, TuneSettings, at

TRIALS = 2
MOST_MS, MOST_MB = 1e6, 100.0


def narrowed(config: Config) -> Config:
    """Two dials, of which the second trial already learns; a training of few steps."""
    replace = msgspec.structs.replace
    settings = TuneSettings(
        dials=("loss", "learning_rate"), random_trials=1, longest_ms=MOST_MS, largest_mb=MOST_MB
    )
    recipe = replace(config.recipe, epochs=2, checkpoint_steps=1, log_steps=1)
    return replace(config, tune=settings, recipe=recipe)


def shop(root: Path, base: Path, zero_shot: Path) -> Made:
    """A configuration and its labels, and the zero-shot bundle, so that it is not made again."""
    made = begin(root, base, narrowed)
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    return made


def command(made: Made, trials: int = TRIALS) -> list[str]:
    return ["tune", str(made.file), "--judgments", str(made.graded), "--trials", str(trials)]


def journal(made: Made) -> list[tuple[int, Any, Any]]:
    """What the search has of each trial, but for what the clock said."""
    from optuna import load_study
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    path = Path(made.config.work) / "tune" / "journal.log"
    study = load_study(study_name="tune", storage=JournalStorage(JournalFileBackend(str(path))))
    return [(trial.number, trial.params, trial.values) for trial in study.trials]


@pytest.fixture(scope="module")
def searched(tiny_base: Path, zero_shot: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A search that nothing disturbed."""
    made = shop(tmp_path_factory.mktemp("searched"), tiny_base, zero_shot)
    assert main(command(made)) == 0
    return made


def test_a_search_leaves_its_pareto_set_as_a_table_a_plot_and_configurations(
    searched: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(searched), "--json"]) == 0  # there are as many trials already
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    folder = Path(searched.config.work) / "tune"
    assert (told["trials"], told["failed"], told["folder"]) == (TRIALS, 0, str(folder))
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    table = (folder / "pareto.md").read_text()
    assert "0, as configured" in table
    assert {path.name for path in (folder / "pareto").iterdir()} == {
        f"trial-{each['trial']}.toml" for each in told["pareto"]
    }
    for each in told["pareto"]:
        ready = configs.read(folder / "pareto" / f"trial-{each['trial']}.toml")
        recipe = at(searched.config.recipe, each["recipe"])
        assert ready == msgspec.structs.replace(searched.config, recipe=recipe)
        assert 0.0 <= each["ndcg"] <= 1.0
        assert 2 <= each["tokens"] <= 40
        assert 0.0 < each["ms"] < MOST_MS
        assert 0.0 < each["mb"] < MOST_MB
    assert not (folder / "trials").exists()


def test_a_search_killed_in_its_second_trial_ends_as_one_that_nothing_disturbed(
    searched: Made, tiny_base: Path, zero_shot: Path, tmp_path: Path
) -> None:
    made = shop(tmp_path, tiny_base, zero_shot)
    run = [sys.executable, "-m", "training", *command(made)]
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        ended = False
        for line in process.stderr:
            ended = ended or line.startswith("trial 0 ended")
            if ended and line.startswith("step 3 "):
                process.kill()
    assert process.returncode == -9
    (first,) = journal(made)
    assert (Path(made.config.work) / "tune" / "trials" / "0001").exists()
    assert main(command(made)) == 0
    assert journal(made) == journal(searched)
    assert journal(made)[0] == first
    assert not (Path(made.config.work) / "tune" / "trials").exists()


def test_a_search_with_other_labels_is_refused_and_stays_as_it_is(
    searched: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = journal(searched)
    other = tiny.write_graded(tmp_path / "other.jsonl", tiny.queries(seed=1))
    arguments = ["tune", str(searched.file), "--judgments", str(other), "--trials", "9"]
    assert main(arguments) == MISUSED
    assert "begun with other settings or labels" in capsys.readouterr().err
    assert journal(searched) == before


def test_a_trial_whose_loss_is_no_number_has_failed_and_is_not_made_again(
    tiny_base: Path, zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shop(tmp_path, tiny_base, zero_shot)
    replace = msgspec.structs.replace
    recipe = replace(made.config.recipe, learning_rate=1e6, head_learning_rate=1e6)
    settings = TuneSettings(dials=("loss",))
    tiny.write_config(made.file, replace(made.config, recipe=recipe, tune=settings))
    for begun in (True, False):
        assert main([*command(made, 1), "--json"]) == 0
        said = capsys.readouterr()
        told = json.loads(said.out.splitlines()[-1])
        assert (told["trials"], told["failed"], told["pareto"]) == (1, 1, [])
        assert ("trial 0 ended" in said.err) == begun


def test_labels_that_tell_nothing_of_diversity_are_refused(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = begin(tmp_path, tiny_base)
    lines = [json.loads(line) for line in made.graded.read_text().splitlines()]
    for line in lines:
        for item in line["candidates"]:
            del item["brand"], item["category"]
    made.graded.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(command(made)) == MISUSED
    assert "for alpha-nDCG to tell of; nothing was trained" in capsys.readouterr().err


def trial(values: Sequence[float] | None, over: float = 0.0) -> FrozenTrial:
    if values is None:
        return create_trial(state=TrialState.FAIL)
    return create_trial(values=list(values), constraints={"ms": over})


points = st.tuples(*[st.integers(0, 3).map(float)] * len(DIRECTIONS))


@given(st.lists(st.tuples(st.none() | points, st.sampled_from([-1.0, 0.0, 1.0])), max_size=8))
def test_the_front_is_what_keeps_the_limits_and_nothing_beats(
    made: list[tuple[tuple[float, ...] | None, float]],
) -> None:
    """Pareto's definition: as good in every objective, and better in one."""
    signs = [1.0 if direction == "maximize" else -1.0 for direction in DIRECTIONS.values()]

    def better(one: Sequence[float], other: Sequence[float]) -> bool:
        gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
        return min(gains) >= 0.0 and max(gains) > 0.0

    allowed = [values for values, over in made if values is not None and over <= 0.0]
    wanted = [one for one in allowed if not any(better(other, one) for other in allowed)]
    found = front([trial(values, over) for values, over in made])
    assert [tuple(one.values) for one in found] == wanted


def test_the_recipes_own_dials_are_asked_for_first_where_the_space_has_them(
    tmp_path: Path,
) -> None:
    inside = tiny.config(tmp_path, tmp_path)
    own = {name: getattr(inside.recipe, name) for name in SPACE}
    assert asked([], inside, 0) == own
    recipe = msgspec.structs.replace(inside.recipe, learning_rate=1.0)
    outside = asked([], msgspec.structs.replace(inside, recipe=recipe), 0)
    assert outside != own
    assert all(SPACE[name].holds(value) for name, value in outside.items())


def test_what_is_asked_for_follows_from_the_seed_the_number_and_what_is_known(
    tmp_path: Path,
) -> None:
    config = tiny.config(tmp_path, tmp_path)
    other = msgspec.structs.replace(config.recipe, seed=1)
    points = [
        asked([], config, 1),
        asked([], config, 1),
        asked([], config, 2),
        asked([], msgspec.structs.replace(config, recipe=other), 1),
    ]
    assert points[0] == points[1]
    assert points[0] not in points[2:]


@pytest.mark.parametrize("steps", [16, 64])
def test_a_point_is_a_recipe_whose_lists_fit_its_steps(steps: int) -> None:
    recipe = at(Recipe(max_list=32), {"pairs_per_step": steps, "loss": "lambda"})
    assert (recipe.pairs_per_step, recipe.loss) == (steps, "lambda")
    assert recipe.max_list == min(32, steps)


def test_every_point_of_the_space_is_a_recipe() -> None:
    """The ends of each dial, one at a time."""
    for name, dial in SPACE.items():
        ends = dial.values if isinstance(dial, Among) else (dial.low, dial.high)
        for value in ends:
            assert dial.holds(value)
            assert getattr(at(Recipe(), {name: value}), name) == value


@pytest.mark.parametrize("dials", [(), ("learning_rat",)])
def test_dials_that_no_search_moves_are_refused(dials: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected some of loss, tuning, learning_rate"):
        TuneSettings(dials=dials)


def test_a_configuration_written_is_the_one_that_is_read(tmp_path: Path) -> None:
    """Also of times, texts to escape and tables."""
    made = tiny.config(tmp_path, Path('a "quoted" \\ base'))
    past = msgspec.structs.replace(
        made.past,
        actions={"bought it": "purchase", "👍 \x7f": "click"},
        at=made.simulate.start,
    )
    made = msgspec.structs.replace(made, past=past)
    (tmp_path / "c.toml").write_text(pareto.toml(made))
    assert configs.read(tmp_path / "c.toml") == made
