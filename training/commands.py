"""What each command of training does. `training.__main__` has their grammar."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import start_http_server

from export.registry import Registry
from training import collect as collecting
from training import config as configs
from training import judgments
from training.config import BadConfig, Config
from training.intake import Progress
from training.judgments import GradedQuery
from training.logs import LogSettings
from training.loop import Loop, given_up, only_one
from training.past import import_past
from training.recording import visits_in, write_jsonl, write_logs
from training.rounds import Outcome, Round, next_round, tidy
from training.shown import read_catalogue
from training.simulate import Source, ranker
from training.simulate import simulate as visits
from training.teach import ModelSettings
from training.telemetry import Telemetry
from training.visitors import Graded, Shopping, read_items
from training.watch import Watch, learned_from
from worker.events import Item
from worker.ranking.join import Dials
from worker.ranking.model import Model
from worker.shop.catalogue import generate


def say(line: str) -> None:
    """A line of progress: on stderr, so that stdout is the answer's."""
    print(line, file=sys.stderr, flush=True)


def collect(options: argparse.Namespace) -> int:
    """Kafka, or a file of a shop's past, into the log tables."""
    config = configs.read(options.config)
    if options.parquet:
        imported = import_past(options.parquet, config.past, config.logs.open())
        found = {name: each.rows for name, each in imported.added.items()}
        _answer(options, {**found, "left_out": imported.left_out})
        return 0

    def tell(progress: Progress) -> None:
        added = ", ".join(f"{each.rows} {name}" for name, each in progress.added.items())
        say(f"added {added}; {progress.lag} records to go")

    total = collecting.run(
        config.collect, config.logs, once=options.once, replay_from=options.replay_from, say=tell
    )
    _answer(options, {name: each.rows for name, each in total.added.items()})
    return 0


def run(options: argparse.Namespace) -> int:
    """One round: from the logs of a configuration, or from human labels."""
    if options.config is None or options.judgments or options.data:
        return _run_judgments(options)
    config = _seeded(configs.read(options.config), options.seed)
    with only_one(Path(config.work) / "rounds"):
        outcome = _one_round(config)
    say(outcome.reason)
    answer = msgspec.to_builtins(outcome)
    _answer(options, {key: answer[key] for key in ("number", "bundle", "promoted", "reason")})
    return 0


def loop(options: argparse.Namespace) -> int:
    """Rounds until SIGTERM or SIGINT; a round that is open is taken up at the next start."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("training").setLevel(logging.INFO)  # of others, warnings: exporters tell all
    config, telemetry, stop = configs.read(options.config), Telemetry(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    host, port = config.loop.metrics_host, config.loop.metrics_port
    try:
        start_http_server(port, host, registry=telemetry.registry)
    except OSError as error:
        raise BadConfig(
            f"loop.metrics_port {port} of loop.metrics_host {host!r}: {error.strerror};"
            " expected one that is free, or 0 for any; no round was begun"
        ) from error
    rounds = Path(config.work) / "rounds"
    Loop(
        config.loop,
        rounds,
        partial(_one_round, config),
        partial(fresh_lists, config, telemetry),
        Watch(config, telemetry),
        Registry(config.registry.url),
        config.registry.alias,
        telemetry,
        stop,
    ).run(options.rounds)
    return 0


def fresh_lists(config: Config, telemetry: Telemetry, last: Outcome | None) -> int:
    """How many ranked lists there are beyond what the last round had pinned."""
    logs = config.logs.open()
    counts = logs.counts(logs.snapshot())
    for table, added in counts.items():
        telemetry.rows.labels(table).set(added.rows)
    if last is None:
        return counts["lists"].rows - counts["lists"].errors
    return logs.since("lists", learned_from(config, last))


def simulate(options: argparse.Namespace) -> int:
    """People with known tastes search, see what the live model answers, and click."""
    config = configs.read(options.config)
    settings, logs = config.simulate, config.logs.open()
    source: Source
    if options.judgments:
        queries = [each for path in options.judgments for each in judgments.read_jsonl(path)]
        source = Graded(queries, settings)
    else:
        items = _catalogue(options.catalogue, config) if options.catalogue else generate()
        source = Shopping(items, settings)
    rank = ranker(live_model(config), source.catalogue, Dials(diversity=config.judge.diversity))
    first = 0 if options.jsonl else visits_in(logs)
    served = visits(source, rank, settings, first)
    if options.jsonl:
        found: Mapping[str, int] = write_jsonl(served, source.catalogue, options.jsonl)
    else:
        added = write_logs(served, source.catalogue, logs, first, settings.at(first))
        found = {name: each.rows for name, each in added.items()}
    _answer(options, found)
    return 0


def warm_up(options: argparse.Namespace) -> int:
    """An encoder that learned from a catalogue alone: a base model like the one it came from."""
    from training import warm_up as warming  # torch

    config = configs.read(options.config)
    _refuse_full(options.out)
    if options.catalogue:
        items = _catalogue(options.catalogue, config)
    else:
        logs = config.logs.open()
        items = logs.items(logs.snapshot())
    base = config.model.base_folder
    warming.warm_up(config.warm_up, base, list(items.values()), options.out, say)
    _answer(options, {"base": str(options.out), "items": len(items)})
    return 0


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadConfig(f"{out}: exists and is not empty; nothing is overwritten")


def _catalogue(path: Path, config: Config) -> dict[str, Item]:
    """The items of JSONL, or of parquet by the configuration's `past.catalogue_columns`."""
    if path.suffix == ".parquet":
        found = read_catalogue(path, config.past.catalogue_columns)
    else:
        found = read_items(path)
    return {item.item_id: item for item in found}


def live_model(config: Config) -> Model:
    """The bundle that the alias names, else the base model's zero-shot bundle."""
    from training.assess import side
    from training.service import in_service, zero_shot  # torch: a collector never needs it

    base = side(zero_shot(config, say))
    digest = Registry(config.registry.url).resolve(config.registry.alias)
    return in_service(config, digest, base).model


def _one_round(config: Config) -> Outcome:
    from training import pipeline  # torch

    rounds = Path(config.work) / "rounds"
    number, one = next_round(rounds)
    say(f"round {number}")
    with given_up(one):
        outcome = pipeline.run_round(config, number, one, say)
    tidy(rounds, config.loop.keep_rounds)
    return outcome


def _run_judgments(options: argparse.Namespace) -> int:
    from training import pipeline  # torch

    if options.out is None or not (options.judgments or options.data):
        raise BadConfig("run: expected CONFIG.toml, or --judgments FILE… --base … --out DIR")
    _refuse_full(options.out)
    work = options.out.parent / f".{options.out.name}.work"
    if options.config:
        config = msgspec.structs.replace(configs.read(options.config), work=str(work))
    elif options.base:
        unused = LogSettings(url=str(work / "logs"))
        config = Config(work=str(work), model=ModelSettings(base=options.base), logs=unused)
    else:
        raise BadConfig("run --judgments: expected --base FOLDER_OR_ID, or a CONFIG.toml")
    queries = _labels(options)
    with only_one(work), given_up(Round(work)):
        digest = pipeline.run_judgments(_seeded(config, options.seed), queries, options.out, say)
    _answer(options, {"digest": digest, "bundle": str(options.out)})
    return 0


def tune(options: argparse.Namespace) -> int:
    """A search over recipes; the Pareto set as a table, a plot and configurations."""
    from training import pareto, search  # torch, optuna

    config = _seeded(configs.read(options.config), options.seed)
    queries = _labels(options)
    if not queries:
        raise BadConfig("tune: expected --judgments FILE… or --data DIR, with some query")
    trials = search.search(config, queries, options.trials, say)
    folder = Path(config.work) / search.STUDY
    best = pareto.write(trials, config, folder)
    if options.json:
        print(json.dumps({"folder": str(folder), **pareto.as_json(trials, best)}))
    else:
        print((folder / pareto.TABLE).read_text(), end="")
    return 0


def tenants(options: argparse.Namespace) -> int:
    """A bundle for each tenant of a configuration, of adapters beside one base."""
    from training.sharing import run_tenants  # torch

    config = _seeded(configs.read(options.config), options.seed)
    if not config.tenants:
        raise BadConfig(f"{options.config}: tenants: expected one or more; nothing was begun")
    with only_one(Path(config.work)):
        found = run_tenants(config, options.out, say)
    _answer(options, found)
    return 0


def _labels(options: argparse.Namespace) -> list[GradedQuery]:
    """The human labels to learn from."""
    queries = [each for path in options.judgments for each in judgments.read_jsonl(path)]
    for name in options.sets if options.data else ():
        queries += judgments.read_set(name, options.data, "train")
    return queries


def _seeded(config: Config, seed: int | None) -> Config:
    if seed is None:
        return config
    recipe = msgspec.structs.replace(config.recipe, seed=seed)
    return msgspec.structs.replace(config, recipe=recipe)


def _answer(options: argparse.Namespace, found: Mapping[str, Any]) -> None:
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(name, value)
