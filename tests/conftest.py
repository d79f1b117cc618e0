"""What is made once for all tests: the base model, its bundle, a registry, the labelled data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.once import once
from worker.demo.children import base_model

ROOT = Path(__file__).resolve().parent.parent

# Small models: a second thread of torch waits more than it works, and two processes of tests have
# two cores between them. Read where torch is imported, here and in every child.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell starts behind it ignores interrupts, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A shared machine may stall any example for a moment; what is slow shows in pytest's durations.
settings.register_profile(
    "prismrank",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("prismrank")


# The files that take longest, so that no process has one to itself at the end. The first fills
# Numba's cache while the second does without: so nothing is compiled twice.
SLOW = (
    "tests/ranking/test_diversify.py",
    "tests/training/test_resuming.py",
    "tests/demo/test_demo.py",
    "tests/training/test_pipeline.py",
    "tests/training/test_shared.py",
    "tests/training/test_tenants.py",
    "tests/training/test_quantised.py",
    "tests/end_to_end/test_worker.py",
    "tests/training/test_search.py",
    "tests/end_to_end/test_limited.py",
    "tests/training/test_from_labels.py",
    "tests/end_to_end/test_quality.py",
    "tests/export/test_trained.py",
    "tests/end_to_end/test_loop_closes.py",
    "tests/export/test_onnx.py",
    "tests/end_to_end/test_challenger.py",
    "tests/training/test_fine_tune.py",
    "tests/training/test_drift.py",
    "tests/training/test_commands.py",
    "tests/training/test_adapters.py",
    "tests/end_to_end/test_chinese.py",
    "tests/demo/test_learning.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow files first, in their order, and all others as they come."""
    places = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(SLOW)))


@pytest.fixture(scope="session", autouse=True)
def untraced_children() -> None:
    """Coverage is that of the processes of tests; what a test starts keeps its own pace."""
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.fixture(scope="session")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All that a worker compiles, kept before one starts. On a new machine each would have a child
    compile it, beside what its test waits for; tests/test_warming.py tells that they do."""
    from worker import warming

    def make(_folder: Path) -> None:
        if warming.WHOLE is not None and not warming.WHOLE.exists():
            subprocess.run([sys.executable, "-c", warming.CHILD], cwd=ROOT, check=True)

    once(tmp_path_factory, "machine-code", make)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, its weights checked."""
    return base_model()


@pytest.fixture(scope="session")
def minilm_bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zero-shot bundle of it, float32 and int8."""
    from export.build import Order, build

    def make(folder: Path) -> None:
        build(Order(str(minilm), folder, ("fp32", "int8")), say=lambda line: None)

    return once(tmp_path_factory, "minilm", make)


@pytest.fixture(scope="session")
def registry(minilm_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which that bundle is live."""
    from export.registry import Registry

    def make(folder: Path) -> None:
        made = Registry(folder)
        made.promote(made.publish(minilm_bundle), reason="a test")

    return once(tmp_path_factory, "registry", make)


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of small random bundles: `live` names a quick one, `slow` another."""
    from tests import arena

    return once(tmp_path_factory, "arena", arena.make) / "registry"


@pytest.fixture(scope="session")
def data() -> Path:
    """The labelled data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("PRISMRANK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no labelled data in {folder} (PRISMRANK_DATA names another folder)")
    return folder
