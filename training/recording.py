"""Simulated visits on record: as JSONL, or as the rows that `collect` writes to the log tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct

from training.logs import Added, Logs, Span
from training.records import TABLES, Event, Place, Record
from training.simulate import Served
from worker import codec
from worker.events import Behaviour, Item, RankedList, SearchEvent

PREFIX: Final = "simulated."  # of the topics, so that no real row is taken for one
PARTITION: Final = 0
STRIDE: Final = 1 << 12  # offsets of one visit: more than it can have behaviours
COMMIT: Final = 2_000  # visits


def write_jsonl(
    served: Iterable[Served], catalogue: Mapping[str, Item], folder: Path
) -> dict[str, int]:
    """searches.jsonl, lists.jsonl, behaviours.jsonl and items.jsonl; how many lines each has.

    A file appears whole or not at all; one that is there is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(TABLES, 0)
    with TemporaryDirectory(dir=folder, prefix=".simulated-") as drafts, ExitStack() as stack:
        paths = {name: Path(drafts) / f"{name}.jsonl" for name in counts}
        files = {name: stack.enter_context(path.open("wb")) for name, path in paths.items()}

        def write(name: str, messages: Iterable[Struct]) -> None:
            for message in messages:
                files[name].write(codec.encode(message) + b"\n")
                counts[name] += 1

        write("items", catalogue.values())
        for one in served:
            write("searches", [one.search])
            write("lists", [one.ranked])
            write("behaviours", one.behaviours)
        stack.close()
        for path in paths.values():
            path.replace(folder / path.name)
    return counts


def write_logs(
    served: Iterable[Served],
    catalogue: Mapping[str, Item],
    logs: Logs,
    first: int,
    since: datetime,
) -> dict[str, Added]:
    """The visits from number `first` on, as rows; what was added to each table.

    A visit's number decides its offsets, so visits that are there already, in whole or in part, are
    not added again. The catalogue is written anew with each call whose `first` is new; its records
    are as old as `since`. Raises BadLogs.
    """
    added = dict.fromkeys(TABLES, Added())

    def add(table: str, messages: Iterable[tuple[int, Event | Item]], end: int) -> None:
        place = PREFIX + TABLES[table], PARTITION
        logs.claim(table, {place: 0})
        records = [_record(place, offset, message, since) for offset, message in messages]
        added[table] += logs.append(table, records, {place: Span(0, end)})

    start = first * STRIDE
    add("items", enumerate(catalogue.values(), start), start + len(catalogue))
    visits = enumerate(served, first)
    while block := list(islice(visits, COMMIT)):
        end = (block[-1][0] + 1) * STRIDE
        add("searches", ((n * STRIDE, one.search) for n, one in block), end)
        add("lists", ((n * STRIDE, one.ranked) for n, one in block), end)
        done = (enumerate(one.behaviours, n * STRIDE) for n, one in block)
        add("behaviours", chain.from_iterable(done), end)
    return added


def visits_in(logs: Logs) -> int:
    """The number of the next visit: `first`, to go on where the logs end. Raises BadLogs."""
    return logs.offsets("searches", PREFIX + TABLES["searches"]).get(PARTITION, 0) // STRIDE


def _record(place: Place, offset: int, message: Event | Item, since: datetime) -> Record:
    """A record as the shop or the worker would have produced it."""
    match message:
        case Item():
            at, key = since, message.item_id
        case SearchEvent():
            at, key = message.timestamp or since, message.user_id or message.query_id
        case RankedList():
            at, key = message.timestamp or since, message.query_id
        case Behaviour():
            at, key = message.timestamp or since, message.user_id or ""
    return Record(*place, offset, at, key.encode(), codec.encode(message))
