"""Rounds of learning under kill -9: `python tests/chaos/rounds.py [--kills N] [--out DIR]`.

Collector and trainer, as children, are killed at random moments of every stage and started again
until the round ended. Then each round is made once more, undisturbed, from what it had pinned: the
weights, the losses and the constants must be the same to the last bit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from export.registry import Registry
from tests.chaos.killing import Killer, Watch, round_folder
from tests.export.models import save_base
from tests.training import tiny
from training.collect import CollectSettings
from training.config import Config
from training.dossier import REPORT
from training.records import TABLES
from training.rounds import OUTCOME, PINNED, Outcome
from training.simulate import ranker, simulate
from training.visitors import Graded
from worker import codec
from worker.demo.broker import Broker
from worker.ranking.join import Dials
from worker.scoring.overlap import Overlap

PARTITIONS = 4
WEIGHTS = "weights/model.safetensors"
STAGES = ("collect", "zero-shot", "trained", "draft", "bundle", "publish", "promote", "trained")
Messages = dict[str, list[bytes]]


def messages(config: Config, first: int) -> Messages:
    """topic -> what the shop and the worker wrote of `visits` visits from number `first` on."""
    source = Graded(tiny.queries(), config.simulate)
    rank = ranker(Overlap(), source.catalogue, Dials())
    found: Messages = {topic: [] for topic in TABLES.values()}
    if not first:
        found["items"] = [codec.encode(item) for item in source.catalogue.values()]
    for one in simulate(source, rank, config.simulate, first):
        found["search-events"].append(codec.encode(one.search))
        found["ranked-lists"].append(codec.encode(one.ranked))
        found["behaviour-events"] += [codec.encode(done) for done in one.behaviours]
    return found


async def produce(bootstrap: str, wanted: Messages) -> None:
    """Write them, and wait until the broker keeps them."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for topic, values in wanted.items():
            for value in values:
                key = msgspec.json.decode(value).get("item_id") or str(len(value))
                await producer.send(topic, value, key=key.encode())
        await producer.flush()


def plan(kills: int) -> Iterator[list[str]]:
    """The stages that are killed in each round: as many as are asked for, all in turn."""
    left = kills
    first = True
    while left > 0:
        stages = [name for name in STAGES if first or name != "zero-shot"][:left]
        left -= len(stages)
        first = False
        yield sorted(stages, key=STAGES.index)


def play(root: Path, base: Path, kills: int) -> dict[str, Any]:
    """Rounds until `kills` stages were killed; what was found of all of them."""
    chance = random.Random(kills)
    produced: Messages = {topic: [] for topic in TABLES.values()}
    rounds = []
    with Broker() as broker:
        for topic in produced:
            broker.create_topic(topic, PARTITIONS)
        collecting = CollectSettings(
            kafka=broker.bootstrap, batch_rows=150, batch_seconds=0.2, fetch_wait_ms=20
        )
        config = tiny.config(root, base, collect=collecting)
        file = tiny.write_config(root / "config.toml", config)
        with Watch(config) as watch:
            killer = Killer(config, file, chance)
            for number, stages in enumerate(plan(kills), start=1):
                more = messages(config, (number - 1) * config.simulate.visits)
                asyncio.run(produce(broker.bootstrap, more))
                for topic, values in more.items():
                    produced[topic] += values
                before = root / "before" / str(number)
                shutil.copytree(config.registry.url, before, dirs_exist_ok=True)
                killed = killer.collect(stages.count("collect"))
                killed += killer.round(number, [one for one in stages if one != "collect"])
                same = undisturbed(config, number, before, root / "undisturbed" / str(number))
                rounds.append({"round": number, "killed": killed, **same, **ended(config, number)})
                say(json.dumps(rounds[-1]))
    return {
        "kills": sum(len(one["killed"]) for one in rounds),
        "rounds": rounds,
        **book(Path(config.logs.url), produced),
        **watch.found(),
    }


def undisturbed(config: Config, number: int, registry: Path, root: Path) -> dict[str, bool]:
    """The round once more, undisturbed, from what it had pinned: what is equal to the bit."""
    again = msgspec.structs.replace(
        config,
        work=str(root / "work"),
        registry=msgspec.structs.replace(config.registry, url=str(registry)),
    )
    shutil.copytree(Path(config.work) / "zero-shot", root / "work" / "zero-shot")
    round_folder(again, number).mkdir(parents=True)
    shutil.copyfile(round_folder(config, number) / PINNED, round_folder(again, number) / PINNED)
    Killer(again, tiny.write_config(root / "config.toml", again), random.Random(0)).round(
        number, []
    )
    first, second = (bundle_of(each, number) for each in (config, again))
    reports = [json.loads((each / REPORT).read_bytes()) for each in (first, second)]
    manifests = [json.loads((each / "manifest.json").read_bytes()) for each in (first, second)]
    return {
        "same_weights": (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes(),
        "same_losses": reports[0]["losses"] == reports[1]["losses"] != [],
        "same_tables": reports[0]["sets"] == reports[1]["sets"] != [],
        "same_blend": manifests[0]["blend"] == manifests[1]["blend"],
    }


def bundle_of(config: Config, number: int) -> Path:
    """The folder of what a round published."""
    return Registry(config.registry.url).fetch(outcome_of(config, number).bundle, Path())


def outcome_of(config: Config, number: int) -> Outcome:
    """How a round ended."""
    return msgspec.json.decode((round_folder(config, number) / OUTCOME).read_bytes(), type=Outcome)


def ended(config: Config, number: int) -> dict[str, Any]:
    """The outcome against the history: a promotion stands there once, a refusal not at all."""
    outcome = outcome_of(config, number)
    history = Registry(config.registry.url).history()
    return {
        "promoted": outcome.promoted,
        "promotions_written": sum(change.digest == outcome.bundle for change in history),
        "lists": int(outcome.counts["lists"]),
        "lists_twice": int(outcome.counts["lists_twice"]),
    }


def book(folder: Path, produced: Messages) -> dict[str, int]:
    """Every table against what was produced."""
    lost = doubled = 0
    for table, topic in TABLES.items():
        found = Counter(DeltaTable(str(folder / table)).to_pyarrow_table()["value"].to_pylist())
        wanted = Counter(produced[topic])
        lost += (wanted - found).total()
        doubled += (found - wanted).total()
    return {"records": sum(map(len, produced.values())), "lost": lost, "doubled": doubled}


def fine(result: dict[str, Any]) -> bool:
    """Whether nothing was lost, doubled, half done or different."""
    rounds = result["rounds"]
    return (
        result["lost"] == result["doubled"] == result["half_bundles"] == 0
        and all(count == 1 for count in result["outcomes_written"].values())
        and all(one["promotions_written"] == one["promoted"] for one in rounds)
        and all(one[name] for one in rounds for name in one if name.startswith("same_"))
        and not any(one["lists_twice"] for one in rounds)
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """One JSON line; 0 only where everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--base", type=Path, help="a base model; without it: a tiny random one")
    parser.add_argument("--out", type=Path, help="a new folder that is kept")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = chosen.out or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        result = play(root, chosen.base or save_base(root / "base", "bert"), chosen.kills)
    print(json.dumps({"scene": "rounds", **result}))
    return 0 if fine(result) else 1


if __name__ == "__main__":
    sys.exit(main())
