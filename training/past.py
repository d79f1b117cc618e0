"""A shop's own past logs: a parquet file, one row an impression -> rows of the log tables.

Each query's rows become a search, the list that was shown, and what was done with it. The file's
digest is the Delta app transaction: a file comes in once, and an import that was cut off goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from training.logs import Logs
from training.records import TABLES, Added, Record, Span
from training.shown import BadPast, Page, PastSettings, Reading, read_catalogue, read_pages
from worker import codec
from worker.events import (
    Behaviour,
    Candidate,
    EventAttributes,
    Item,
    ObjectRef,
    Position,
    RankedItem,
    RankedList,
    SearchEvent,
    Why,
)

BLOCK: Final = 2_000  # lists, or items, that are added in one commit
POLICY: Final = "past"  # of lists that the worker did not make


@dataclass(frozen=True, slots=True)
class Imported:
    """What was added to each table, and how many rows of the file say nothing that can be used.

    These lack a query, an item or a place, or repeat an item or a place of their list.
    """

    added: Mapping[str, Added]
    left_out: int = 0


def import_past(
    path: Path,
    settings: PastSettings,
    logs: Logs,
    say: Callable[[Imported], None] = lambda imported: None,
    block: int = BLOCK,
) -> Imported:
    """Add a file of impressions, and its catalogue where the settings name one.

    Rows are as old as they say, so `retention_days` of the logs goes by that. `say` is told after
    every `block` lists. Raises BadPast where the file does not fit `settings` or came in with
    others, and BadLogs; what was added stays.
    """
    added = dict.fromkeys(TABLES, Added())
    left_out = 0
    for left_out in _add_pages(path, settings, logs, added, block):
        say(Imported(dict(added), left_out))
    if settings.catalogue:
        _add_items(Path(settings.catalogue), settings, logs, added)
    return Imported(added, left_out)


def _add_pages(
    path: Path, settings: PastSettings, logs: Logs, added: dict[str, Added], block: int
) -> Iterator[int]:
    """Add every `block` lists; yields how many rows were left out up to there."""
    topic = f"past/{_digest(path)}"
    whole = (f"{topic}/whole", 0)  # claimed once all of it is there, at the rows left out
    if known := logs.offsets("searches", whole[0]):
        _refuse_other_columns(path, topic, settings, logs)
        yield known[0]
        return
    reading = Reading()
    pages = iter(read_pages(path, settings, reading))
    ends = dict.fromkeys(("searches", "lists", "behaviours"), 0)
    while some := list(islice(pages, block)):
        if not ends["searches"]:  # by now the file is known to fit
            _refuse_other_columns(path, topic, settings, logs)
        for table, messages in _messages(some).items():
            records = [_record(topic, ends[table] + n, *one) for n, one in enumerate(messages)]
            ends[table] += len(records)
            added[table] += _added(logs, table, topic, records, ends[table])
        yield reading.left_out
    if ends["searches"]:
        logs.claim("searches", {whole: reading.left_out})


def _messages(block: Iterable[Page]) -> dict[str, list[tuple[datetime, Struct]]]:
    found: dict[str, list[tuple[datetime, Struct]]] = {
        "searches": [], "lists": [], "behaviours": []
    }  # fmt: skip
    for page in block:
        ranked = _ranked(page)
        found["searches"].append((page.at, _search(page)))
        found["lists"].append((page.at, ranked))
        found["behaviours"] += [(page.at, done) for done in _behaviours(page, ranked)]
    return found


def _search(page: Page) -> SearchEvent:
    return SearchEvent(
        query_id=page.query_id,
        user_query=page.user_query,
        user_id=page.user_id,
        client_id=page.client_id,
        timestamp=page.at,
        candidates=tuple(place.item for place in page.places),
    )


def _ranked(page: Page) -> RankedList:
    """The list as the shop showed it: no model, no claims of relevance, no exploration."""
    ranked = RankedList(
        query_id=page.query_id,
        list_id="",
        user_id=page.user_id,
        client_id=page.client_id,
        user_query=page.user_query,
        timestamp=page.at,
        model=None,
        policy=POLICY,
        diversity=0.0,
        experiment=None,
        degraded=False,
        reason=None,
        candidate_count=len(page.places),
        items=tuple(
            _ranked_item(place.item, place.rank, n) for n, place in enumerate(page.places, start=1)
        ),
    )
    return msgspec.structs.replace(ranked, list_id=codec.list_id(ranked))


def _ranked_item(item: Candidate, rank: int, engine_rank: int) -> RankedItem:
    return RankedItem(
        item_id=item.item_id,
        rank=rank,
        relevance=None,
        gain=None,
        category=item.category,
        engine_rank=engine_rank,
        engine_score=None,
        sponsored=None,
        ad_id=None,
        base_rank=rank,
        shown_probability=1.0,
        why=Why(relevance=0.0, diversity=0.0),
    )


def _behaviours(page: Page, ranked: RankedList) -> Iterable[Behaviour]:
    for place in page.places:
        for action in place.actions:
            yield Behaviour(
                action_name=action,
                query_id=page.query_id,
                user_id=page.user_id,
                client_id=page.client_id,
                timestamp=page.at,
                event_attributes=EventAttributes(
                    object=ObjectRef(object_id=place.item.item_id),
                    position=Position(ordinal=place.rank),
                    list_id=ranked.list_id,
                ),
            )


def _add_items(path: Path, settings: PastSettings, logs: Logs, added: dict[str, Added]) -> None:
    """The catalogue's records are the oldest there are: any that comes by Kafka replaces them."""
    topic = f"past/{_digest(path)}"
    items = iter(read_catalogue(path, settings.catalogue_columns))
    end = 0
    while block := list(islice(items, BLOCK)):
        records = [_record(topic, end + n, OLDEST, item) for n, item in enumerate(block)]
        end += len(block)
        added["items"] += _added(logs, "items", topic, records, end)


OLDEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _record(topic: str, offset: int, at: datetime, message: Struct) -> Record:
    key = message.item_id.encode() if isinstance(message, Item) else None
    return Record(topic, 0, offset, at, key, codec.encode(message))


def _added(logs: Logs, table: str, topic: str, records: list[Record], end: int) -> Added:
    logs.claim(table, {(topic, 0): 0})
    return logs.append(table, records, {(topic, 0): Span(0, end)})


def _refuse_other_columns(path: Path, topic: str, settings: PastSettings, logs: Logs) -> None:
    """The same file read by other columns would be half one and half the other."""
    columns = msgspec.structs.replace(settings, catalogue="", catalogue_columns={})
    wanted = int(hashlib.sha256(msgspec.json.encode(columns)).hexdigest()[:12], 16)
    claimed = f"{topic}/columns"
    logs.claim("searches", {(claimed, 0): wanted})
    if logs.offsets("searches", claimed)[0] != wanted:
        raise BadPast(
            f"{path}: this file came in before, with other columns in its settings; nothing was"
            " added (to read it anew, collect it into another folder)"
        )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as error:
        raise BadPast(f"{path}: {error.strerror}") from error
