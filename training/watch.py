"""The loop's look for a drift: windows of lists out of the log tables, findings into the metrics.

Of the tables it reads a few thousand rows, and of a list what the tests count, whatever else there
is: the loop's process has no torch and stays small.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow.dataset as ds
from msgspec import Struct

from training.config import Config
from training.drift import Windows, findings
from training.logs import Expired, Logs, progress
from training.reading import Snapshot, between, from_places, outermost, rows_of
from training.rounds import PINNED, Outcome, Pinned
from training.telemetry import Telemetry
from training.windows import Seen

LOG = logging.getLogger(__name__)
COLUMNS: Final = ("list_id", "query_id", "user", "at", "value")
CLICK_COLUMNS: Final = ("list_id", "query_id", "item_id", "at")
MOMENT: Final = timedelta(microseconds=1)


class Place(Struct, frozen=True):
    """What is read of one place of a list."""

    item_id: str
    category: str | None = None
    relevance: float | None = None


class Shown(Struct, frozen=True):
    """What is read of a list; the whole was checked when it was collected."""

    user_query: str
    items: tuple[Place, ...]
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A list before it is known what was clicked."""

    at: datetime
    query_id: str
    items: tuple[str, ...]
    seen: Seen


class Watch:
    """Looks for a drift every `DriftSettings.every_seconds`."""

    def __init__(self, config: Config, telemetry: Telemetry) -> None:
        self._config, self._telemetry = config, telemetry
        self._next: datetime | None = None

    def __call__(self, last: Outcome, now: datetime) -> str | None:
        """Why a round is due: what changed since the last one.

        None where nothing did, where a drift starts no round, or where the last look was just now.
        """
        settings = self._config.drift
        if self._next is not None and now < self._next:
            return None
        self._next = now + timedelta(seconds=settings.every_seconds)
        found = findings(windows(self._config, learned_from(self._config, last), now), settings)
        self._telemetry.drifted(found)
        changed = [one.line for one in found if one.called]
        for line in changed:
            LOG.info("%s", line)
        return "; ".join(changed) if changed and settings.starts_round else None


def learned_from(config: Config, last: Outcome) -> Snapshot:
    """What a round had pinned of the log tables."""
    path = Path(config.work) / "rounds" / f"{last.number:04d}" / PINNED
    pinned = msgspec.json.decode(path.read_bytes(), type=Pinned)
    return msgspec.convert(pinned.snapshot, Snapshot)


def windows(config: Config, snapshot: Snapshot, now: datetime) -> Windows:
    """The lists before `snapshot` and since; none where it is no longer kept. Raises BadLogs.

    Lists younger than `click_minutes`, against the newest one or `now`, are left out: they may yet
    be clicked.
    """
    logs, count = config.logs.open(), config.drift.lists
    try:
        then, table = logs.open("lists", snapshot.lists), logs.open("lists")
    except Expired:
        then = None
    if then is None or table is None:
        return Windows(known=(), before=(), first=(), now=())

    def read(dataset: ds.Dataset, wanted: Any, most: int, newest: bool = True) -> dict[str, Answer]:
        with logs.translated("lists"):
            rows = outermost(dataset, wanted, COLUMNS, most, newest=newest)
            return _answers(rows, config.drift.places)

    old, new = then.to_pyarrow_dataset(), table.to_pyarrow_dataset()
    fresh = from_places(new, lambda place: progress(then, place) or 0)
    latest = max((one.at for one in read(new, fresh & between(until=now), 1).values()), default=now)
    settled = between(until=latest - timedelta(minutes=config.drift.click_minutes))
    newest = read(new, fresh & settled, count)
    start = min((one.at for one in newest.values()), default=now)
    first = read(new, fresh & settled & between(until=start), count, newest=False)
    before = [*_with_clicks(read(old, between(), 2 * count), logs, config).values()]
    cut = max(len(before) - count, len(before) // 2)
    return Windows(
        known=before[:cut],
        before=before[cut:],
        first=[*_with_clicks(first, logs, config).values()],
        now=[*_with_clicks(newest, logs, config).values()],
    )


def _answers(rows: Iterable[Mapping[str, Any]], places: int) -> dict[str, Answer]:
    """list_id -> the list, in the order of time; of a list twice, one."""
    found = {}
    for row in rows:
        try:
            shown = msgspec.json.decode(row["value"], type=Shown)
        except msgspec.DecodeError:  # an older version took it: `reading.events` counts those
            continue
        top = shown.items[:places]
        seen = Seen(
            user=row["user"] or row["list_id"],
            query=shown.user_query,
            model=shown.model,
            categories=tuple(place.category for place in top if place.category is not None),
            relevances=tuple(place.relevance for place in top),
            clicked=(False,) * len(top),
        )
        items = tuple(place.item_id for place in top)
        found[row["list_id"]] = Answer(row["at"], row["query_id"], items, seen)
    return dict(sorted(found.items(), key=lambda each: (each[1].at, each[0])))


def _with_clicks(answers: Mapping[str, Answer], logs: Logs, config: Config) -> dict[str, Seen]:
    """The same lists, with what was clicked of each."""
    found: dict[str, set[str]] = {list_id: set() for list_id in answers}
    for list_id, item_id in _clicks(answers, logs, config):
        found[list_id].add(item_id)
    return {
        list_id: replace(one.seen, clicked=tuple(each in found[list_id] for each in one.items))
        for list_id, one in answers.items()
    }


def _clicks(answers: Mapping[str, Answer], logs: Logs, config: Config) -> Iterator[tuple[str, str]]:
    """(list_id, item_id) of what was done within `click_minutes` and gives a grade; by the list
    that a behaviour names, else by its query."""
    table = logs.open("behaviours")
    if table is None or not answers:
        return
    soon = timedelta(minutes=config.drift.click_minutes)
    first, last = (pick(one.at for one in answers.values()) for pick in (min, max))
    answered = {one.query_id: list_id for list_id, one in answers.items()}
    actions = [name for name, grade in config.labels.grades.items() if grade > 0]
    named = ds.field("list_id").isin(list(answers))
    asked = ~ds.field("list_id").is_valid() & ds.field("query_id").isin(list(answered))
    wanted = between(first, last + soon + MOMENT) & ds.field("action_name").isin(actions)
    with logs.translated("behaviours"):
        for row in rows_of(table.to_pyarrow_dataset(), CLICK_COLUMNS, wanted & (named | asked)):
            list_id = row["list_id"] or answered[row["query_id"]]
            if answers[list_id].at <= row["at"] <= answers[list_id].at + soon:
                yield list_id, row["item_id"]
