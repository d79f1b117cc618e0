"""What is made once for all tests: the base model, its bundle, a registry, the labelled data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from worker.demo.children import base_model

ROOT = Path(__file__).resolve().parent.parent

# A shared machine may stall any example for a moment; what is slow shows in pytest's durations.
settings.register_profile("prismrank", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("prismrank")


def export(*arguments: str) -> str:
    """Run a command of `export`; its stdout."""
    command = [sys.executable, "-m", "export", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, its weights checked."""
    return base_model()


@pytest.fixture(scope="session")
def minilm_bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zero-shot bundle of it, float32 and int8."""
    folder = tmp_path_factory.mktemp("bundle") / "minilm"
    export("build", "--base", str(minilm), "--out", str(folder), "--variants", "fp32,int8")
    return folder


@pytest.fixture(scope="session")
def registry(minilm_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which that bundle is live."""
    from export import bundle

    folder = tmp_path_factory.mktemp("registry")
    at = ("--registry", str(folder))
    export("registry", "publish", str(minilm_bundle), *at)
    export("registry", "promote", bundle.digest(minilm_bundle), "--reason", "a test", *at)
    return folder


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of small random bundles: `live` names a quick one, `slow` another."""
    from tests import arena

    return arena.make(tmp_path_factory.mktemp("arena"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The labelled data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PRISMRANK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no labelled data in {folder} (PRISMRANK_DATA names another folder)")
    return folder
