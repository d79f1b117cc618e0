"""The worker as a process, on the embedded broker: kills, faults, refusals and swaps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.chaos import scenes
from tests.chaos.load import on, searches
from worker.demo.broker import Broker

Scene: TypeAlias = Callable[[Path, Path, int], Coroutine[None, None, dict[str, Any]]]

SCENES: list[tuple[str, Scene, int]] = [
    ("kill -9 under load", scenes.kills, 2),
    ("texts that the graph cannot take", scenes.scoring, 6),
    ("deliveries that the broker refuses", scenes.produce, 6),
]


@pytest.mark.parametrize(("scene", "count"), [s[1:] for s in SCENES], ids=[s[0] for s in SCENES])
def test_nothing_is_lost_and_duplicates_are_equal(
    scene: Scene, count: int, registry: Path, tmp_path: Path
) -> None:
    found = asyncio.run(scene(registry, tmp_path, count))
    assert found["lists"] == found["events"]
    assert (found["lost"], found["differing"]) == (0, 0)
    assert found["degraded"] == found.get("failures", 0)


def test_without_equal_partition_counts_the_worker_serves_without_profiles(
    arena: Path, tmp_path: Path
) -> None:
    async def main() -> dict[str, int | str]:
        with Broker() as broker:
            broker.create_topic("search-events", 3)
            for topic in ("ranked-lists", "search-events.dlq"):
                broker.create_topic(topic, 3)  # the others are made by the broker, 4 each
            async with on(broker, arena, tmp_path) as made:
                await made.play(list(searches(10)), 50.0)
                await made.settle()
                return made.book.summary()

    assert asyncio.run(main())["lists"] == 10
    assert "serving without the profiles table" in (tmp_path / "worker.log").read_text()


def test_a_swap_under_load_loses_nothing_and_bad_bundles_are_refused(
    arena: Path, tmp_path: Path
) -> None:
    found = asyncio.run(scenes.swap(arena, tmp_path, 1))
    assert (found["lost"], found["degraded"], found["dead_letters"]) == (0, 0, 0)
    assert set(found["models"]) == set(found["expected"])
    assert len(found["refused"]) == 2
    assert "goldens differ" in found["refused"][0]
    assert "onnx/encoder.onnx: sha256" in found["refused"][1]
