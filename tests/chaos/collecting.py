"""The collector under kill -9: `python tests/chaos/collecting.py [--count N] [--collectors N]`.

Records are produced at a steady rate while collectors, as children, are killed at random moments
and started again. At the end every record that the broker confirmed is a row, and none is two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.training.log_rows import click, ranked_list
from training.collect import CollectSettings, collect, run
from training.logs import Logs, LogSettings
from training.records import TABLES
from worker import codec
from worker.demo.broker import Broker
from worker.events import Item, SearchEvent

PARTITIONS = 8
BATCH_SECONDS = 0.3
UPKEEP_MINUTES = 0.02  # so that compaction and retention are killed as well


class Children:
    """Collectors on one broker and one folder of logs."""

    def __init__(self, broker: Broker, folder: Path, count: int) -> None:
        self._command = [sys.executable, __file__, "--follow", broker.bootstrap, str(folder)]
        self._processes = [self._started() for _ in range(count)]

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL)

    def kill(self, number: int) -> None:
        """kill -9, and a new one in its place."""
        self._processes[number].kill()
        self._processes[number].wait()
        self._processes[number] = self._started()

    def stop(self) -> list[int]:
        """SIGTERM; the exit status of each."""
        for process in self._processes:
            process.terminate()
        return [process.wait(60) for process in self._processes]


def messages(number: int) -> dict[str, bytes]:
    """One search, its list, a click and an item."""
    query_id = f"q{number}"
    return {
        "search-events": codec.encode(SearchEvent(query_id=query_id, user_query="shoe")),
        "ranked-lists": codec.encode(ranked_list(query_id)),
        "behaviour-events": codec.encode(click(query_id)) if number % 50 else b"not JSON",
        "items": codec.encode(Item(item_id=query_id, title="Trail shoe")),
    }


async def produce(broker: Broker, rate: float, stop: asyncio.Event) -> int:
    """Write `rate` searches a second and what belongs to them; how many, all of them confirmed."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=5)
    await producer.start()
    start, number = time.monotonic(), 0
    try:
        while not stop.is_set():
            for topic, value in messages(number).items():
                await producer.send(topic, value, key=b"q%d" % number)
            number += 1
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
    finally:
        await producer.stop()  # waits for what was sent
    return number


async def kills(folder: Path, count: int, collectors: int, rate: float) -> dict[str, Any]:
    """`count` times kill -9 under load, then one run to the end of the topics."""
    chance = random.Random(count)
    with Broker() as broker:
        for topic in TABLES.values():
            broker.create_topic(topic, PARTITIONS)
        children = Children(broker, folder, collectors)
        stop = asyncio.Event()
        producing = asyncio.create_task(produce(broker, rate, stop))
        rows_at_kills = []
        for number in range(count):
            await asyncio.sleep(chance.uniform(1.0, 4.0))
            children.kill(number % collectors)
            rows_at_kills.append(rows(folder)["searches"])
        stop.set()
        produced = await producing
        statuses = await asyncio.to_thread(children.stop)
        last = await collect(settings(broker.bootstrap), LogSettings(url=str(folder)), once=True)
    found = book(folder, produced)
    return found | {
        "kills": count,
        "collectors": collectors,
        "statuses": statuses,
        "gaps": len(last.gaps),
        "rows_at_kills": rows_at_kills,
    }


def rows(folder: Path) -> dict[str, int]:
    """How many rows each table has now."""
    logs = Logs(str(folder))
    return {table: added.rows for table, added in logs.counts(logs.snapshot()).items()}


def book(folder: Path, produced: int) -> dict[str, Any]:
    """Every table against what was produced: rows by place, and by content."""
    lost = doubled = 0
    for table, topic in TABLES.items():
        found = DeltaTable(str(folder / table)).to_pyarrow_table()
        places = Counter(zip(*(found[c].to_pylist() for c in ("partition", "offset")), strict=True))
        doubled += sum(places.values()) - len(places)
        wanted = Counter(messages(number)[topic] for number in range(produced))
        lost += (wanted - Counter(found["value"].to_pylist())).total()
        doubled += (Counter(found["value"].to_pylist()) - wanted).total()
    versions = DeltaTable(str(folder / "searches")).version()
    counts = {"records": produced * len(TABLES), "rows": sum(rows(folder).values())}
    return counts | {"lost": lost, "doubled": doubled, "versions": versions}


def settings(bootstrap: str) -> CollectSettings:
    """Small batches: as many commits as there can be."""
    return CollectSettings(
        kafka=bootstrap,
        batch_seconds=BATCH_SECONDS,
        fetch_wait_ms=20,
        upkeep_minutes=UPKEEP_MINUTES,
    )


def main() -> int:
    """One JSON line; 0 only where rows and records are the same, each once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="of kills")
    parser.add_argument("--collectors", type=int, default=2, help="at the same time")
    parser.add_argument("--rate", type=float, default=100.0, help="searches a second")
    parser.add_argument("--follow", nargs=2, metavar=("KAFKA", "FOLDER"), help="be a collector")
    chosen = parser.parse_args()
    if chosen.follow:
        small = LogSettings(url=chosen.follow[1], small_files=20)
        run(settings(chosen.follow[0]), small)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(kills(Path(folder), chosen.count, chosen.collectors, chosen.rate))
    print(json.dumps({"scene": "collecting", **result}))
    return 0 if result["lost"] == result["doubled"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
