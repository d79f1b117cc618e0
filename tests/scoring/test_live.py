"""The live model: it swaps to what has proved itself, and whatever fails leaves the old one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.registry import Registry
from tests.chaos.scenes import variant_of, with_false_goldens
from worker.scoring.live import Live
from worker.settings import Settings


class Following:
    """A registry of one's own, a live model that follows it, and what it told."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder / "registry"
        shutil.copytree(source, self.folder)
        self.registry = Registry(self.folder)
        self.told: list[str] = []
        self.live = Live(Settings(registry=str(self.folder), device="cpu"), self._took)

    def _took(self, result: str, _digest: str, _device: str, _variant: str) -> None:
        self.told.append(result)

    @property
    def first(self) -> Path:
        return self.folder / "bundles" / (self.registry.resolve("live") or "")


@pytest.fixture
def following(arena: Path, tmp_path: Path) -> Following:
    found = Following(arena, tmp_path)
    assert found.live.poll()
    assert found.told == ["swapped"]
    return found


def test_an_alias_that_stays_changes_nothing(following: Following) -> None:
    assert not following.live.poll()
    assert following.told == ["swapped"]


def test_a_promoted_bundle_is_swapped_in(following: Following, tmp_path: Path) -> None:
    digest = following.registry.publish(variant_of(following.first, tmp_path, 0))
    following.registry.promote(digest, reason="a test")
    assert following.live.poll()
    assert following.live.model is not None
    assert following.live.model.digest == digest
    following.registry.rollback(reason="a test")
    assert following.live.poll()
    assert following.live.model.digest != digest


def test_a_refused_bundle_leaves_the_old_model_and_is_not_tried_again(
    following: Following, tmp_path: Path
) -> None:
    before = following.live.model
    digest = following.registry.publish(with_false_goldens(following.first, tmp_path))
    following.registry.promote(digest, reason="a test")
    assert not following.live.poll()
    assert not following.live.poll()
    assert following.live.model is before
    assert following.told == ["swapped", "refused"]


@pytest.mark.parametrize("content", [b"", b"abc\n", b"\xff\xfe", b"A" * 64, b"../../etc\n"])
def test_a_garbled_alias_leaves_the_old_model_and_promoting_mends_it(
    following: Following, content: bytes
) -> None:
    before = following.live.model
    assert before is not None
    assert before.digest is not None
    (following.folder / "aliases" / "live").write_bytes(content)
    assert not following.live.poll()
    assert following.live.model is before
    assert following.told == ["swapped", "unreachable"]
    following.registry.promote(before.digest, reason="mended")
    assert following.registry.resolve("live") == before.digest


def test_a_registry_that_is_gone_for_a_while_leaves_the_old_model(following: Following) -> None:
    before = following.live.model
    following.folder.rename(following.folder.with_name("away"))
    assert not following.live.poll()
    assert following.live.model is before
