"""What an event costs besides the model: CPU of the worker process, through Faust.

`python -m worker bench stream`. Every event has 100 known candidates and a query that was seen
before, so the model itself is never run. The peer is the least that Kafka costs: an aiokafka echo
of records of the same sizes, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.measuring import show
from tests.chaos.load import Stage, stage
from tests.factories import candidate, event
from worker.demo.children import ensure_live_bundle
from worker.events import SearchEvent

EVENTS = 1_500
WARM = 200
CANDIDATES = 100
K = 20
RATE = 100.0
REGISTRY = Path(".prismrank/registry")
STAGES = ("decode", "join", "rank")

ECHO = """
import asyncio, sys, time
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
async def main(bootstrap, size, count):
    consumer = AIOKafkaConsumer("search-events", bootstrap_servers=bootstrap, group_id="echo",
                                auto_offset_reset="earliest", fetch_max_wait_ms=5)
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


def stage_seconds(port: str) -> dict[str, float]:
    """Seconds of each stage so far, from the worker's own metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'prismrank_stage_seconds_sum\{stage="(\w+)"\} (\S+)', text)
    return {name: float(value) for name, value in found}


async def worker_cost(made: Stage) -> tuple[dict[str, float], int]:
    """Microseconds of CPU an event, in all and by stage; and the bytes of a list."""
    await made.play(events(EVENTS + WARM)[:WARM], RATE)
    await made.settle()
    pid, port = made.worker.pid, made.worker.settings["PRISMRANK_HTTP_PORT"]
    before, stages = cpu_seconds(pid), stage_seconds(port)
    await made.play(events(EVENTS + WARM)[WARM:], RATE)
    await made.settle()
    spent, after = cpu_seconds(pid) - before, stage_seconds(port)
    cost = {name: (after[name] - stages[name]) / EVENTS * 1e6 for name in STAGES}
    size = len(next(iter(made.book.answers.values()))[0])
    return {"all": spent / EVENTS * 1e6, **cost}, size


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
        async with stage(REGISTRY, Path(folder), EVENTS + WARM) as made:
            cost, size = await worker_cost(made)
            peer = await echo_cost(made.broker.bootstrap, size)
    cost["kafka_and_rest"] = cost["all"] - sum(cost[name] for name in STAGES)
    return [
        {
            "method": name,
            "n": CANDIDATES,
            "k": K,
            "ours_us": round(us, 1),
            "peer_us": round(peer, 1),
            "ratio": round(peer / us, 3),
        }
        for name, us in cost.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    show(asyncio.run(measure()), as_json=chosen.json)


if __name__ == "__main__":
    main()
