"""A step that is read in shares teaches what the same step read at once does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from tests.training.tuned import tuned
from training import trainer
from training.adversary import Attack
from training.fine_tune import Trained
from training.recipe import Recipe

ROOT = Path(__file__).parents[2]
NEAR = 1e-6
STILL: dict[str, Any] = {"dropout": 0.0, "epochs": 2}
DIALS: dict[str, dict[str, Any]] = {
    "bce": {},
    "lambda, pareto, frozen": {
        "loss": "lambda",
        "depth": 2,
        "combine": "pareto",
        "diversity_weight": 0.3,
        "tuning": "frozen",
    },
    "listnet, chebyshev, lora": {
        "loss": "listnet",
        "combine": "chebyshev",
        "diversity_weight": 0.5,
        "tuning": "lora",
    },
}
RANK = """
import json, sys
from pathlib import Path
from functools import partial
from tests.training.test_shared import gradients
from tests.training.tuned import tuned
from training import ranks, shared

def fails(self, work):
    raise MemoryError("no room for the states of a step")

def lead():
    dials, base, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    if sys.argv[4] == "gradients":
        gradients(dials, base, out)
    elif sys.argv[4] == "fails":
        shared.Reader.states = fails
        tuned(dials, base, out)
    else:
        tuned(dials, base, out, partial(print, flush=True))
    return 0

sys.exit(ranks.together(lead, shared.help_out))
"""


def gradients(dials: dict[str, Any], base: Path, out: Path) -> dict[str, torch.Tensor]:
    """Of the first step, before they are cut to their greatest length; also in `out`'s file."""
    found: dict[str, torch.Tensor] = {}

    class Told(Exception):
        pass

    def step(self: Any, *inputs: Any) -> None:
        Trainer.training_step(self, *inputs)
        named = self.model.named_parameters()
        found.update({name: each.grad.clone() for name, each in named if each.grad is not None})
        raise Told

    before = trainer.RankingTrainer.training_step
    trainer.RankingTrainer.training_step = step  # type: ignore[method-assign, assignment]  # to look into the middle of it
    try:
        tuned(dials, base, out)
    except Told:
        torch.save(found, out / "gradients.pt")
    finally:
        trainer.RankingTrainer.training_step = before  # type: ignore[method-assign]  # as it was
    return found


@contextmanager
def two_ranks(
    what: str, dials: dict[str, Any], base: Path, out: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Two ranks at work, which end with the test that began them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "--no-python", sys.executable, "-c", RANK]
    command += [json.dumps(dials), str(base), str(out), what]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        try:
            yield run
        finally:
            run.terminate()  # torchrun ends its ranks; one that has ended does not mind


def ended(what: str, dials: dict[str, Any], base: Path, out: Path) -> tuple[int, bytes, bytes]:
    """The status of two ranks, and what they said and complained of."""
    with two_ranks(what, dials, base, out) as run:
        said, errors = run.communicate(timeout=300)
        return run.returncode, said, errors


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return load_file(Path(trained.folder) / "model.safetensors")


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert (found[name] - each).abs().max() <= NEAR, name


@pytest.mark.parametrize("dials", DIALS.values(), ids=DIALS)
@pytest.mark.parametrize("accumulate", [2, 3, 20])
def test_a_step_in_parts_has_the_gradients_of_the_whole(
    base: Path, tmp_path: Path, dials: dict[str, Any], accumulate: int
) -> None:
    dials = {**dials, **STILL}
    whole = gradients(dials, base, tmp_path / "whole")
    parted = gradients({**dials, "accumulate": accumulate}, base, tmp_path / "parted")
    assert any(each.abs().max() > 1e-3 for each in whole.values())
    assert_near(parted, whole)


def test_a_run_in_parts_repeats_itself_under_dropout(base: Path, tmp_path: Path) -> None:
    dials = {"dropout": 0.3, "accumulate": 2, "max_steps": 6}
    first = tuned(dials, base, tmp_path / "first")
    assert_near(weights(tuned(dials, base, tmp_path / "again")), weights(first))


@pytest.mark.parametrize("dials", DIALS.values(), ids=DIALS)
def test_two_ranks_have_the_gradients_of_one(
    base: Path, tmp_path: Path, dials: dict[str, Any]
) -> None:
    dials = {**dials, **STILL}
    whole = gradients(dials, base, tmp_path / "whole")
    status, _, errors = ended("gradients", dials, base, tmp_path / "shared")
    assert status == 0, errors.decode()
    assert_near(torch.load(tmp_path / "shared" / "gradients.pt"), whole)


def test_two_ranks_come_to_the_weights_of_one(base: Path, tmp_path: Path) -> None:
    dials = {**STILL, "optimiser": "sgd", "learning_rate": 1e-2, "accumulate": 2}
    whole = tuned({**dials, "accumulate": 1}, base, tmp_path / "whole")
    status, said, errors = ended("run", dials, base, tmp_path / "shared")
    assert status == 0, errors.decode()
    assert said.count(b"reading 50 lists") == 1  # rank 0 alone reads them
    # A finished run is told from its folder, and not run again.
    assert_near(weights(tuned(dials, base, tmp_path / "shared")), weights(whole))


KILLED: dict[str, Any] = {"accumulate": 2, "max_steps": 40}


@pytest.fixture(scope="module")
def unharmed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What two ranks come to that nobody kills."""
    out = tmp_path_factory.mktemp("unharmed") / "run"
    status, _, errors = ended("run", KILLED, base, out)
    assert status == 0, errors.decode()
    return tuned(KILLED, base, out)


def test_a_rank_that_fails_amid_a_step_keeps_no_other_waiting(base: Path, tmp_path: Path) -> None:
    status, _, errors = ended("fails", {"max_steps": 2}, base, tmp_path / "run")
    assert status != 0
    assert b"MemoryError: no room for the states of a step" in errors


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in found.split()]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_kill_of_either_rank_ends_both_and_the_run_goes_on(
    base: Path, tmp_path: Path, unharmed: Trained, killed: int
) -> None:
    out = tmp_path / "run"
    with two_ranks("run", KILLED, base, out) as run:
        assert run.stdout is not None
        while not any(out.glob("checkpoint-*")):
            assert run.stdout.readline(), run.communicate()[1].decode()
        ranks = children(run.pid)
        os.kill(ranks[killed], signal.SIGKILL)
        _, errors = run.communicate(timeout=300)
        assert run.returncode not in (0, None)
    assert b"SIGKILL" in errors or b"another rank is gone" in errors
    assert not any(Path(f"/proc/{each}").exists() for each in ranks)
    status, said, errors = ended("run", KILLED, base, out)
    assert status == 0, errors.decode()
    assert b"going on from checkpoint-" in said
    resumed = tuned(KILLED, base, out)
    assert resumed.losses == unharmed.losses
    found, expected = weights(resumed), weights(unharmed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_attack_cannot_be_shared_out() -> None:
    with pytest.raises(ValueError, match=r"accumulate 2: expected 1 with attack.kind fgm"):
        Recipe(accumulate=2, attack=Attack(kind="fgm"))


@pytest.mark.parametrize("rank", [None, "first"])
def test_a_rank_that_nobody_numbered_begins_nothing(rank: str | None) -> None:
    command = [sys.executable, "-m", "training", "run", "round.toml"]
    environment = {**os.environ, "WORLD_SIZE": "2", **({"RANK": rank} if rank else {})}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert found.returncode == 2
    assert found.stdout == b""
    assert (
        f"got RANK {rank or 'nothing'}, WORLD_SIZE 2, LOCAL_RANK nothing" in found.stderr.decode()
    )
