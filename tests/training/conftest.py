"""What the tests of a round make once: a tiny base, a tiny shop's logs, and its first round; and
the tables of those that write their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from export.build import Order, build
from export.registry import Registry
from export.source import read_source
from export.template import base_name
from tests.export.models import save_base
from tests.training import tiny
from training.__main__ import main
from training.config import Config
from training.logs import Logs
from training.rounds import Round


@dataclass(frozen=True, slots=True)
class Made:
    """A folder in which rounds were made."""

    root: Path
    config: Config
    file: Path  # the configuration as TOML
    graded: Path  # the truth, as graded queries

    @property
    def registry(self) -> Registry:
        return Registry(self.config.registry.url)

    def round(self, number: int) -> Round:
        """That round's folder, whether it was begun or not."""
        return Round(Path(self.config.work) / "rounds" / f"{number:04d}")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers."""
    return save_base(tmp_path_factory.mktemp("base") / "tiny", "bert")


@pytest.fixture(scope="session")
def zero_shot(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny base alone, in a folder of the name that a round looks for."""
    source = read_source(tiny_base, "tiny")
    name = base_name(source.weights_sha256, source.template, spelling=True)
    folder = tmp_path_factory.mktemp("zero-shot") / name
    build(Order(str(tiny_base), folder), print)
    return folder


@pytest.fixture(scope="session")
def shop(tiny_base: Path, zero_shot: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A shop that answered with the zero-shot bundle, and the logs of what was clicked."""
    made = begin(tmp_path_factory.mktemp("shop"), tiny_base)
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    arguments = ["simulate", str(made.file), "--judgments", str(made.graded), "--json"]
    assert main(arguments) == 0
    return made


@pytest.fixture(scope="session")
def first_round(shop: Made) -> Made:
    """The shop after `training run`: nobody writes to it afterwards but those who copy it."""
    assert main(["run", str(shop.file), "--json"]) == 0
    return shop


def begin(root: Path, base: Path, change: Callable[[Config], Config] = lambda one: one) -> Made:
    """A folder with a configuration and graded queries, where nothing was made yet."""
    root.mkdir(parents=True, exist_ok=True)
    config = change(tiny.config(root, base))
    file = tiny.write_config(root / "config.toml", config)
    return Made(root, config, file, tiny.write_graded(root / "graded.jsonl", tiny.queries()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "bert", "bert")


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(str(tmp_path / "logs"))
