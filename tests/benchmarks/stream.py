"""What an event costs besides the model: CPU of the worker process, through Faust.

`python -m worker bench stream`. Every event has 100 known candidates and a query that was seen
before, so the model itself is never run. `all` is the process's CPU time over a backlog; decode,
join, rank and encode are the same functions alone in one thread; `kafka_and_rest` is what is left:
Faust, aiokafka, delivery, metrics and the loop. The peer is the least that Kafka costs: an aiokafka
echo of records of the same sizes, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.measuring import medians_us, show
from tests.chaos.load import Stage, stage
from tests.factories import candidate, event
from worker import codec
from worker.demo.children import ensure_live_bundle
from worker.events import SearchEvent
from worker.ranking.join import Dials, Tables, join
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap

EVENTS = 1_500
WARM = 200
CANDIDATES = 100
K = 20
RATE = 10_000.0  # a backlog: as fast as they can be sent
ROUNDS = 50
FETCH_WAIT_MS = "200"  # the embedded broker's short waits would cost more than the events
REGISTRY = Path(".prismrank/registry")

ECHO = """
import asyncio, sys, time
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
async def main(bootstrap, size, count):
    consumer = AIOKafkaConsumer("search-events", bootstrap_servers=bootstrap, group_id="echo",
                                auto_offset_reset="earliest", fetch_max_wait_ms=200)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await consumer.start(); await producer.start()
    start = time.process_time()
    async for record in consumer:
        await producer.send("behaviour-events", record.value[:size], key=record.key)
        if (count := count - 1) == 0:
            break
    await producer.flush()
    print(time.process_time() - start)
    await consumer.stop(); await producer.stop()
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def events(count: int) -> list[SearchEvent]:
    """Events that differ in their ids alone."""
    items = [
        candidate(
            f"i{n}",
            title=f"trail running shoe number {n} in blue",
            category=f"category {n % 9}",
            brand=f"brand {n % 17}",
            score=float(CANDIDATES - n),
        )
        for n in range(CANDIDATES)
    ]
    return [
        event(items, query_id=f"q{n}", user_query="running shoes", user_id=f"u{n % 50}", k=K)
        for n in range(count)
    ]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def worker_cost(made: Stage) -> tuple[float, int]:
    """Microseconds of CPU an event, over a backlog; and the bytes of a list."""
    searches = events(EVENTS + WARM)
    await made.play(searches[:WARM], RATE)
    await made.settle()
    before = cpu_seconds(made.worker.pid)
    await made.play(searches[WARM:], RATE)
    await made.settle()
    spent = cpu_seconds(made.worker.pid) - before
    size = len(next(iter(made.book.answers.values()))[0])
    return spent / EVENTS * 1e6, size


def parts() -> dict[str, float]:
    """Median microseconds of each pure hop alone; every vector is known."""
    model, tables, dials, limits = Overlap(), Tables(), Dials(), codec.Limits()
    raw = codec.encode(events(1)[0])
    event = codec.decode_search_event(raw, limits)
    search = join(event, tables, dials)
    (ranked,) = rerank([search], model)
    hops: dict[str, Callable[[], object]] = {
        "decode": lambda: codec.decode_search_event(raw, limits),
        "join": lambda: join(event, tables, dials),
        "rank": lambda: rerank([search], model),
        "encode": lambda: codec.encode(ranked),
    }
    return {name: medians_us(hop, hop, ROUNDS)[0] for name, hop in hops.items()}


async def echo_cost(bootstrap: str, size: int) -> float:
    """Microseconds of CPU an event of the echo, as it says itself when all are echoed."""
    count = EVENTS + WARM
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ECHO, bootstrap, str(size), str(count)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return float(said) / count * 1e6


async def measure() -> list[dict[str, object]]:
    """The rows of the benchmark."""
    await ensure_live_bundle(REGISTRY, print)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"PRISMRANK_FETCH_WAIT_MS": FETCH_WAIT_MS}
        async with stage(REGISTRY, Path(folder), EVENTS + WARM, settings) as made:
            cost, size = await worker_cost(made)
            peer = await echo_cost(made.broker.bootstrap, size)
    costs = {"all": cost, **(alone := parts())}
    costs["kafka_and_rest"] = cost - sum(alone.values())
    return [
        {
            "method": name,
            "n": CANDIDATES,
            "k": K,
            "ours_us": round(us, 1),
            "peer_us": round(peer, 1),
            "ratio": round(peer / us, 3),
        }
        for name, us in costs.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    show(asyncio.run(measure()), as_json=chosen.json)


if __name__ == "__main__":
    main()
