"""A fine-tuning that is killed goes on, and ends as one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tuned import tuned
from training.fine_tune import Trained
from training.trainer import TrainingFailed

ROOT = Path(__file__).parents[2]
RUNS: dict[str, dict[str, Any]] = {
    "bce": {},
    "listnet, summed, with texts read anew": {
        "loss": "listnet",
        "diversity_weight": 0.3,
        "field_dropout": 0.3,
        "augment": {"query_typos": 0.3, "title_dropout": 0.2, "word_order": 0.5},
    },
    "lambda, pareto, frozen, sgd": {
        "loss": "lambda",
        "combine": "pareto",
        "diversity_weight": 0.3,
        "tuning": "frozen",
        "optimiser": "sgd",
    },
    "lora, chebyshev, stopping early": {
        "tuning": "lora",
        "combine": "chebyshev",
        "diversity_weight": 0.5,
        "patience": 2,
        "epochs": 3,
    },
    "freelb": {"attack": {"kind": "freelb"}},
    "listnet, smart, frozen": {
        "loss": "listnet",
        "tuning": "frozen",
        "attack": {"kind": "smart", "steps": 1},
    },
    "averaged": {"average": 0.8},
    "lora, averaged, stopping early, half of the way": {
        "tuning": "lora",
        "average": 0.5,
        "interpolate": 0.5,
        "patience": 2,
        "epochs": 3,
    },
    "adalora, while it takes rank away": {"tuning": "adalora", "lora_rank": 2, "epochs": 2},
    "adalora, with what rank is left": {"tuning": "adalora", "lora_rank": 2, "max_steps": 12},
    "adapters, each layer at a rate of its own": {"tuning": "adapters", "layer_decay": 0.5},
}
CHILD = """
import json, sys
from pathlib import Path
from tests.training.tuned import tuned
from functools import partial
tuned(json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), partial(print, flush=True))
"""


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    folder = Path(trained.folder)
    return load_file(folder / "model.safetensors") | {
        f"category.{name}": each
        for name, each in load_file(folder / "category.safetensors").items()
    }


def start_child(dials: dict[str, Any], base: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, json.dumps(dials), str(base), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def assert_same(resumed: Trained, whole: Trained) -> None:
    assert resumed.losses == whole.losses
    assert (resumed.steps, resumed.best_step) == (whole.steps, whole.best_step)
    expected, found = weights(whole), weights(resumed)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["bce", "lora, chebyshev, stopping early"])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(
    base: Path, tmp_path: Path, name: str
) -> None:
    dials = RUNS[name]
    whole = tuned(dials, base, tmp_path / "whole")
    out = tmp_path / "killed"
    chance = random.Random(5)
    for line in (chance.randrange(3, 8), chance.randrange(2, 6)):
        child = start_child(dials, base, out)
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(line)]  # then somewhere in what follows
        child.send_signal(signal.SIGKILL)
        _, errors = child.communicate()
        assert child.returncode in (-signal.SIGKILL, 0), errors.decode()
        assert any(b"step" in each for each in heard)
    assert_same(tuned(dials, base, out), whole)


def kept_at(step: int, base: Path, out: Path, dials: dict[str, Any]) -> None:
    """A run's folder as a kill would leave it after the checkpoint of `step`."""

    class Killed(BaseException):
        pass

    def say(line: str) -> None:
        if line.startswith(f"step {step + 2} "):
            raise Killed

    with pytest.raises(Killed):
        tuned(dials, base, out, say)
    assert (out / f"checkpoint-{step}").is_dir()


@pytest.mark.parametrize("dials", RUNS.values(), ids=RUNS)
def test_every_kind_of_run_goes_on_from_its_checkpoint(
    base: Path, tmp_path: Path, dials: dict[str, Any]
) -> None:
    whole = tuned(dials, base, tmp_path / "whole")
    kept_at(8, base, tmp_path / "cut", dials)
    assert_same(tuned(dials, base, tmp_path / "cut"), whole)


def test_a_checkpoint_that_is_half_written_is_never_used(base: Path, tmp_path: Path) -> None:
    whole = tuned({}, base, tmp_path / "whole")
    out = tmp_path / "killed"
    kept_at(8, base, out, {})
    for half in ("checkpoint-99", ".part"):
        (out / half).mkdir()
        (out / half / "model.safetensors").write_bytes(b"half of it")
    heard: list[str] = []
    resumed = tuned({}, base, out, heard.append)
    assert "going on from checkpoint-8" in heard
    assert resumed.losses == whole.losses
    assert not (out / ".part").exists()


def test_a_finished_run_is_not_run_again(base: Path, tmp_path: Path) -> None:
    first = tuned({}, base, tmp_path / "run")
    heard: list[str] = []
    assert tuned({}, base, tmp_path / "run", heard.append) == first
    assert not any(line.startswith("step") for line in heard)


def test_a_folder_that_was_begun_with_other_arguments_is_refused(
    base: Path, tmp_path: Path
) -> None:
    tuned({"max_steps": 2}, base, tmp_path / "run")
    with pytest.raises(TrainingFailed, match=r"begun with another .*\(recipe\)"):
        tuned({"max_steps": 3}, base, tmp_path / "run")
