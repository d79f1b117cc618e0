"""A round from human labels: a whole bundle, repeatable, and nothing where they are too few."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from export import bundle
from tests.training import tiny
from tests.training.conftest import Made
from training import pipeline
from training.__main__ import main
from training.config import BadConfig
from training.judgments import read_jsonl
from training.loop import only_one
from training.recipe import Recipe
from training.sources import CHAMPION, Teacher
from worker import codec
from worker.events import RankedList

WEIGHTS = "weights/model.safetensors"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Human labels, enough that a tenth of them can calibrate."""
    folder = tmp_path_factory.mktemp("labels")
    return tiny.write_graded(folder / "labels.jsonl", tiny.queries(110, seed=1))


@pytest.fixture(scope="module")
def from_labels(labels: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that human labels alone made."""
    out = tmp_path_factory.mktemp("out") / "bundle"
    assert main(arguments(labels, tiny_base, out)) == 0
    return out


def arguments(labels: Path, base: Path, out: Path) -> list[str]:
    options = ["--base", str(base), "--out", str(out), "--seed", "1"]
    return ["run", "--judgments", str(labels), *options]


def test_labels_make_a_complete_bundle_that_the_worker_serves(
    from_labels: Path, labels: Path
) -> None:
    manifest = bundle.verify(from_labels)
    assert manifest.report == "report/report.json"
    assert manifest.parent is None
    assert sorted(each.name for each in from_labels.parent.iterdir()) == ["bundle"]
    search = codec.encode(read_jsonl(labels)[0].event)
    command = [sys.executable, "-m", "worker", "rerank", "--bundle", str(from_labels)]
    done = subprocess.run(command, input=search + b"\n", capture_output=True, check=True)
    (line,) = done.stdout.splitlines()
    ranked = msgspec.json.decode(line, type=RankedList)
    assert ranked.model == bundle.digest(from_labels)
    assert (len(ranked.items), ranked.pair_count) == (8, 8)
    assert not ranked.degraded


def test_equal_seeds_give_equal_weights_to_the_last_bit(
    from_labels: Path, labels: Path, tiny_base: Path, zero_shot: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    shutil.copytree(zero_shot, tmp_path / ".again.work" / "zero-shot" / zero_shot.name)
    assert main(arguments(labels, tiny_base, out)) == 0
    assert (out / WEIGHTS).read_bytes() == (from_labels / WEIGHTS).read_bytes()
    first, second = bundle.read(from_labels), bundle.read(out)
    assert (first.blend, first.calibration) == (second.blend, second.calibration)


def test_a_folder_that_holds_something_is_never_written_over(
    labels: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    assert main(arguments(labels, tiny_base, tmp_path / "out")) == 2
    assert "exists and is not empty; nothing is overwritten" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_too_few_labels_are_told_before_anything_is_trained(
    tiny_base: Path, zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tiny.write_graded(tmp_path / "few.jsonl", tiny.queries(6))
    shutil.copytree(zero_shot, tmp_path / ".out.work" / "zero-shot" / zero_shot.name)
    assert main(arguments(few, tiny_base, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert "expected at least 1 and 50; nothing was trained" in said
    assert [each.name for each in tmp_path.iterdir()] == ["few.jsonl"]


def test_a_teacher_that_is_not_there_is_told_before_anything_is_made(
    labels: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny.config(tmp_path / "work", tiny_base, recipe=Recipe(teacher=Teacher(folder="no")))
    file = tiny.write_config(tmp_path / "config.toml", config)
    said = ["run", str(file), "--judgments", str(labels), "--out", str(tmp_path / "out")]
    assert main(said) == 2
    assert "teacher.folder 'no': expected a folder with" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]


def test_a_second_run_into_one_folder_is_refused(
    labels: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_one(tmp_path / ".out.work"):
        assert main(arguments(labels, tiny_base, tmp_path / "out")) == 2
    assert ".out.work: another process is running rounds here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_alone_have_no_champion(first_round: Made, tmp_path: Path) -> None:
    for recipe in (Recipe(start="champion"), Recipe(teacher=Teacher(folder=CHAMPION))):
        config = msgspec.structs.replace(first_round.config, recipe=recipe)
        with pytest.raises(BadConfig, match='"champion": expected another from human labels'):
            pipeline.lesson_of(config, [])
