"""What the tests of a round make once: a tiny base, a tiny shop's logs, and its first round; and
the tables of those that write their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from export.build import Order, build
from export.registry import Registry
from export.source import read_source
from export.template import base_name
from tests.export.models import save_base
from tests.once import once
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
    return once(tmp_path_factory, "tiny-base", lambda folder: save_base(folder, "bert"))


@pytest.fixture(scope="session")
def zero_shot(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny base alone, in a folder of the name that a round looks for."""
    source = read_source(tiny_base, "tiny")
    name = base_name(source.weights_sha256, source.template, spelling=True)

    def make(folder: Path) -> None:
        build(Order(str(tiny_base), folder / name), print)

    return once(tmp_path_factory, "zero-shot", make) / name


@pytest.fixture(scope="session")
def shop(tiny_base: Path, zero_shot: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A shop that answered with the zero-shot bundle, and the logs of what was clicked."""

    def make(folder: Path) -> None:
        made = begin(folder, tiny_base)
        shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
        arguments = ["simulate", str(made.file), "--judgments", str(made.graded), "--json"]
        assert main(arguments) == 0

    return made_in(once(tmp_path_factory, "shop", make), tiny_base)


@pytest.fixture(scope="session")
def first_round(
    shop: Made, tiny_base: Path, zero_shot: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """A shop of the same logs after `training run`."""

    def same_logs(one: Config) -> Config:
        return msgspec.structs.replace(one, logs=shop.config.logs)

    def make(folder: Path) -> None:
        made = begin(folder, tiny_base, same_logs)
        shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
        assert main(["run", str(made.file), "--json"]) == 0

    return made_in(once(tmp_path_factory, "first-round", make), tiny_base, same_logs)


def begin(root: Path, base: Path, change: Callable[[Config], Config] = lambda one: one) -> Made:
    """A folder with a configuration and graded queries, where nothing was made yet."""
    root.mkdir(parents=True, exist_ok=True)
    made = made_in(root, base, change)
    tiny.write_config(made.file, made.config)
    tiny.write_graded(made.graded, tiny.queries())
    return made


def made_in(root: Path, base: Path, change: Callable[[Config], Config] = lambda one: one) -> Made:
    """What `begin` wrote there, as it is now."""
    config = change(tiny.config(root, base))
    return Made(root, config, root / "config.toml", root / "graded.jsonl")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "bert", "bert")


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return Logs(str(tmp_path / "logs"))
