"""A small base model and its bundles, and a round that is over at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from export import bundle
from export.build import Order, build
from export.registry import Registry
from worker.demo.children import Worker
from worker.demo.learning import ALIAS, Learned, Round
from worker.shop.visits import Shop


def zero_shot(base: Path, folder: Path) -> Path:
    """The zero-shot bundle of a base model."""
    build(Order(str(base), folder), say=lambda line: None)
    return folder


def sibling(folder: Path, other: Path) -> Path:
    """The same bundle with another calibration: another digest, and other relevances."""
    shutil.copytree(folder, other)
    manifest = bundle.read(other)
    calibration = msgspec.structs.replace(manifest.calibration, intercept=-1.0, origin="a test")
    bundle.seal(other, msgspec.structs.replace(manifest, calibration=calibration))
    return other


class Quick(Round):
    """A round that learned before: it promotes what it was given."""

    trained: Path

    async def learn(self, shop: Shop, worker: Worker) -> Learned:
        """Publish, promote, and wait for the swap, as a round does."""
        registry = Registry(self.registry)
        digest = registry.publish(self.trained)
        registry.promote(digest, ALIAS, reason="a test")
        await self.swapped(worker, digest)
        return Learned(True, "promoted: a test", self.champion, digest, {"swap": 1.0})
