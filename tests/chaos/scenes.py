"""What goes wrong, and what must not: `python tests/chaos/scenes.py SCENE --registry DIR`.

kills: kill -9 under load. scoring: texts that the graph cannot take. produce: deliveries that the
broker refuses. swap: bundles promoted under load, a corrupted one and a false one among them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from export import bundle
from export.registry import Registry
from tests.chaos.load import UNHURRIED, Stage, searches, stage

REFUSED = 29  # TOPIC_AUTHORIZATION_FAILED: an error that no client retries by itself
POISON = "poison"
Result = dict[str, Any]


async def kills(registry: Path, folder: Path, count: int = 20, rate: float = 60.0) -> Result:
    """`count` times kill -9, at random moments of a steady load."""
    chance = random.Random(count)
    events = list(searches(int(count * 13.0 * rate)))
    in_flight: list[int] = []
    async with stage(registry, folder, len(events)) as made:
        playing = asyncio.create_task(made.play(events, rate))
        for _ in range(count):
            await caught_up(made, rate)
            await asyncio.sleep(chance.uniform(0.2, 2.0))
            in_flight.append(made.book.open)
            made.worker.kill()
            made.worker.start()
            await made.worker.wait_ready()
        await playing
        await made.settle()
        found = {"rate_per_second": rate, "kills": count, "in_flight_at_kills": in_flight}
        return made.book.summary() | found


async def caught_up(made: Stage, rate: float, patience: float = 20.0) -> None:
    """Wait until no more than half a second of the load is open."""
    limit = asyncio.get_running_loop().time() + patience
    while made.book.open > rate / 2 and asyncio.get_running_loop().time() < limit:
        await asyncio.sleep(0.05)


async def produce(registry: Path, folder: Path, count: int = 20, rate: float = 60.0) -> Result:
    """`count` times a few deliveries of lists are refused."""
    events = list(searches(int(count * rate / 2)))
    async with stage(registry, folder, len(events)) as made:
        playing = asyncio.create_task(made.play(events, rate))
        for number in range(count):
            await asyncio.sleep(0.4)
            partition = number % 8
            made.broker.fail_produces(3, code=REFUSED, topic="ranked-lists", partition=partition)
        await playing
        await made.settle()
        return made.book.summary() | {"refusals": 3 * count}


async def scoring(registry: Path, folder: Path, count: int = 20, rate: float = 60.0) -> Result:
    """`count` searches whose query the graph cannot take, among others that it can."""
    poisoned = with_poison(registry, folder)
    events = list(searches(count * 20))
    for number in range(count):
        bad = msgspec.structs.replace(events[number * 20 + 7], user_query=f"{POISON} {number}")
        events[number * 20 + 7] = bad
    async with stage(poisoned, folder, len(events), UNHURRIED) as made:
        await made.play(events, rate)
        await made.settle()
        return made.book.summary() | {"failures": count}


async def swap(registry: Path, folder: Path, count: int = 3, rate: float = 60.0) -> Result:
    """Promote under load: `count` good bundles, then a corrupted one and one with wrong goldens."""
    own = folder / "registry"
    shutil.copytree(registry, own)
    known = Registry(str(own))
    first = known.resolve("live")
    assert first is not None, "the registry has a live bundle: made by the caller"
    good = [known.publish(variant_of(own / "bundles" / first, folder, n)) for n in range(count)]
    corrupted = known.publish(variant_of(own / "bundles" / first, folder, count))
    false = known.publish(with_false_goldens(own / "bundles" / first, folder))
    events = list(searches(int((count + 3) * 5 * rate)))
    fast = {"PRISMRANK_POLL_SECONDS": "0.2", **UNHURRIED}
    async with stage(own, folder, len(events), fast) as made:
        playing = asyncio.create_task(made.play(events, rate))
        for digest in good:
            known.promote(digest, "live", reason="a swap under load")
            await said(folder, f"serving {digest}")
        known.promote(false, "live", reason="its goldens are wrong")
        await said(folder, f"{false} refused: goldens")
        graph = own / "bundles" / corrupted / "onnx" / "encoder.onnx"
        damaged = bytearray(graph.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        graph.write_bytes(bytes(damaged))
        (own / "aliases" / "live").write_text(f"{corrupted}\n")  # promote itself would refuse it
        await said(folder, f"{corrupted} refused: onnx/encoder.onnx: sha256")
        await playing
        await made.settle()
        refusals = [line for line in log_of(folder) if "refused" in line]
        found = {"models": dict(made.book.models), "refused": refusals, "expected": [first, *good]}
        return made.book.summary() | found


async def said(folder: Path, text: str, patience: float = 300.0) -> None:
    """Wait until the worker's log says it."""
    async with asyncio.timeout(patience):
        while not any(text in line for line in log_of(folder)):
            await asyncio.sleep(0.05)


def log_of(folder: Path) -> list[str]:
    """The messages of the worker so far."""
    lines = (folder / "worker.log").read_text().splitlines()
    return [json.loads(line)["message"] for line in lines if line.startswith("{")]


def variant_of(source: Path, folder: Path, number: int) -> Path:
    """A bundle that differs in its calibration alone."""
    made = folder / f"variant-{number}"
    shutil.copytree(source, made)
    manifest = bundle.read(made)
    calibration = msgspec.structs.replace(
        manifest.calibration, intercept=manifest.calibration.intercept - 0.1 * (number + 1)
    )
    bundle.seal(made, msgspec.structs.replace(manifest, calibration=calibration))
    return made


def with_false_goldens(source: Path, folder: Path) -> Path:
    """A bundle whose digests match, and whose goldens another model gave."""
    made = folder / "false"
    shutil.copytree(source, made)
    goldens = bundle.Goldens.read(made)
    msgspec.structs.replace(goldens, vector=np.roll(goldens.vector, 1, axis=0)).write(made)
    bundle.seal(made, bundle.read(made))
    return made


def with_poison(registry: Path, folder: Path) -> Path:
    """A registry whose live bundle gives one word a token that its graph has no row for."""
    known = Registry(str(registry))
    live = known.resolve("live")
    assert live is not None, "the registry has a live bundle: made by the caller"
    made = folder / "poisoned"
    shutil.copytree(known.fetch(live, folder), made)
    path = made / "tokenizer.json"
    tokenizer: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    tokenizer["model"]["vocab"][POISON] = 10_000_000
    path.write_bytes(msgspec.json.encode(tokenizer))
    bundle.seal(made, bundle.read(made))
    own = Registry(str(folder / "registry"))
    own.promote(own.publish(made), "live", reason="poisoned for a test")
    return folder / "registry"


SCENES = {"kills": kills, "produce": produce, "scoring": scoring, "swap": swap}


def main() -> int:
    """Play one scene; one JSON line; 0 only where nothing was lost and no duplicate differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--count", type=int)
    chosen = parser.parse_args()
    more: Mapping[str, int] = {} if chosen.count is None else {"count": chosen.count}
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(SCENES[chosen.scene](chosen.registry, Path(folder), **more))
    print(json.dumps({"scene": chosen.scene, **result}))
    return 0 if result["lost"] == 0 and result["differing"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
