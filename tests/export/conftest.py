"""What the tests of export build once: a small bundle, and a trained one."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.build import Order, build
from tests.export.models import save_base, save_trained
from tests.once import once

CATEGORIES = ("shoes", "tools", "cables")
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with mean pooling."""
    return save_base(tmp_path_factory.mktemp("small"), "bert")


@pytest.fixture(scope="session")
def small_bundle(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, in every precision."""

    def make(folder: Path) -> None:
        build(Order(str(small_base), folder, PRECISIONS), say=lambda line: None)

    return once(tmp_path_factory, "small", make)


@pytest.fixture(scope="session")
def trained_folder(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair model of that BERT, and a category head."""
    return save_trained(tmp_path_factory.mktemp("trained") / "bert", small_base, "cls", CATEGORIES)


@pytest.fixture(scope="session")
def trained_bundle(
    small_base: Path, trained_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Their bundle, in every precision."""

    def make(folder: Path) -> None:
        order = Order(str(small_base), folder, PRECISIONS, adapter=trained_folder)
        build(order, say=lambda line: None)

    return once(tmp_path_factory, "trained", make)
