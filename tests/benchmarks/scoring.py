"""What reading new items costs: our packed encoder against sentence-transformers, same model.

`python -m worker bench scoring`. Both run on the CPU with one thread, over the same titles, and
both give unit vectors; `cached` is what the worker pays for items that it has read before.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from export import bundle
from export.registry import Registry
from export.session import open_session
from tests.benchmarks.measuring import medians_us, show
from worker.demo.children import base_model, ensure_live_bundle
from worker.ranking.bundled import Bundled
from worker.ranking.rerank import embed
from worker.shop.catalogue import generate

REGISTRY = Path(".prismrank/registry")
ROUNDS = 5
COUNTS = (20, 100, 200)


def row(
    method: str, count: int, ours: Callable[[], object], peer: Callable[[], object]
) -> dict[str, object]:
    """One row of the table."""
    ours_us, peer_us = medians_us(ours, peer, ROUNDS)
    return {
        "method": method,
        "n": count,
        "k": count,
        "ours_us": round(ours_us, 1),
        "peer_us": round(peer_us, 1),
        "ratio": round(peer_us / ours_us, 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    live = asyncio.run(ensure_live_bundle(REGISTRY, print))
    registry = Registry(str(REGISTRY))
    folder = registry.fetch(live, Path(".prismrank/cache"))
    peer = SentenceTransformer(str(base_model()), device="cpu")
    titles = [item.title or "" for item in generate().values()]
    rows = []
    for count in COUNTS:
        batch = titles[:: len(titles) // count][:count]

        def by_peer(batch: list[str] = batch) -> object:
            return peer.encode(batch, batch_size=64, normalize_embeddings=True)

        for variant in sorted(bundle.read(folder).variants):
            model = Bundled(open_session(folder, variant, "cpu"))

            def by_us(model: Bundled = model, batch: list[str] = batch) -> object:
                model.readings.clear()
                return embed(batch, model)

            rows.append(row(variant, count, by_us, by_peer))
        rows.append(row("cached", count, lambda m=model, b=batch: embed(b, m), by_peer))  # type: ignore[misc]
    show(rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
