"""The house: its arrows, and that the README shows what the code is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW
from tests.generate import README, readme
from worker.ranking.diversify import METHODS
from worker.telemetry import Telemetry

ROOT = Path(__file__).resolve().parent.parent


def test_the_arrows_of_the_house_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    "module", ["worker.__main__", "worker.compose", "export.registry", "training.commands"]
)
def test_serving_and_collecting_import_neither_torch_nor_transformers(module: str) -> None:
    code = (
        f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_readme_shows_the_settings_as_they_are() -> None:
    text = README.read_text()
    assert readme(text) == text, "run `make docs`"


def test_the_readme_names_every_metric() -> None:
    text = README.read_text()
    names = {metric.name for metric in Telemetry().registry.collect()}
    missing = sorted(name for name in names if name not in text)
    assert not missing


def test_the_readme_names_every_method_and_folder() -> None:
    text = README.read_text()
    assert all(f"`{name}`" in text for name in METHODS)
    packages = [path.parent.relative_to(ROOT) for path in ROOT.glob("*/**/__init__.py")]
    shown = [p for p in packages if p.parts[0] in ("worker", "training", "export")]
    assert all(f"{package.name}/" in text for package in shown)


def test_no_file_has_grown_a_second_idea() -> None:
    """Files keep to 300 lines, functions to 50: past that, ask which second idea moved in."""
    long_files = [
        str(path)
        for folder in ("worker", "training", "export")
        for path in (ROOT / folder).rglob("*.py")
        if path.read_text().count("\n") > 300
    ]
    assert long_files == []


def test_the_tests_that_come_first_are_there() -> None:
    assert [name for name in SLOW if not (ROOT / name).is_file()] == []


def test_every_dependency_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    pinned = [line for line in lines if re.match(r'^  "[a-z0-9-]+[>=]', line)]
    assert pinned
    assert [line for line in pinned if "#" not in line] == []
