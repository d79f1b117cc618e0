"""A parquet file of impressions as pages: what each query was shown, where, and what was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Meta, Struct

from worker.errors import PrismrankError
from worker.events import Candidate, Item

T = TypeVar("T", Item, Candidate)
MOMENT: Final = pa.timestamp("us", tz="UTC")
ROWS: Final = 10_000  # as Python objects at a time


class BadPast(PrismrankError):
    """A file of past logs cannot be used as the settings say. What was added before stays."""


class PastSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the columns of a file of impressions mean."""

    query_id: Annotated[
        str, Meta(description="column: whose rows are one list; with several queries, one each")
    ] = "query_id"
    user_query: Annotated[str, Meta(description="column: what was searched for")] = "user_query"
    item_id: Annotated[str, Meta(description="column: what was shown")] = "item_id"
    position: Annotated[str, Meta(description="column: where, a whole number")] = "position"
    first_position: Annotated[Literal[0, 1], Meta(description="the position of the top")] = 1
    actions: Annotated[
        dict[str, str],
        Meta(description="column -> action_name; it was done where the column is true or above 0"),
    ] = msgspec.field(default_factory=lambda: {"clicked": "click"})
    user_id: Annotated[
        str, Meta(description="column: who searched; empty: each query_id is a client of its own")
    ] = ""
    timestamp: Annotated[
        str, Meta(description="column: when (times, or RFC 3339 text); empty: all at `at`")
    ] = ""
    at: Annotated[
        datetime | None, Meta(description="when, where no column says; without an offset, UTC")
    ] = None
    item_columns: Annotated[
        dict[str, str], Meta(description="column -> field of Item that the rows carry themselves")
    ] = {}
    catalogue: Annotated[str, Meta(description="a second parquet file, one row an item")] = ""
    catalogue_columns: Annotated[
        dict[str, str], Meta(description="its columns -> fields of Item, item_id among them")
    ] = msgspec.field(default_factory=lambda: {"item_id": "item_id", "title": "title"})


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a page; `rank` is 1 at the top."""

    item: Candidate
    rank: int
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What one query was shown, by rank."""

    query_id: str
    user_query: str
    user_id: str | None
    client_id: str | None
    at: datetime
    places: tuple[Place, ...]


@dataclass
class Reading:
    """How many rows were left out so far."""

    left_out: int = 0


def read_pages(path: Path, settings: PastSettings, reading: Reading) -> Iterator[Page]:
    """The pages by query_id and query; rows that are left out are counted in `reading`.

    Of a query_id with several queries (a session), the second has the query_id `…/2`, and so on.
    Raises BadPast.
    """
    rows = _columns(path, settings)
    whole = rows.filter(pc.is_valid(pc.binary_join_element_wise(*_required(rows), "")))
    _refuse_without_top(path, whole["position"], settings)
    reading.left_out += rows.num_rows - whole.num_rows
    order = [(name, "ascending") for name in ("query_id", "user_query", "position", "item_id")]
    session, number = "", 0
    for (asked, query), shown in groupby(_dicts(whole.sort_by(order)), key=_asked):
        number = number + 1 if asked == session else 1
        session = asked
        name = asked if number == 1 else f"{asked}/{number}"
        own = list(shown)
        places = tuple(_places(path, own, settings, reading))
        if places:
            user = own[0]["user_id"]
            client = None if user else asked
            at = min(row["at"] for row in own)
            yield Page(name, query, user, client, at, places)


def read_catalogue(path: Path, columns: Mapping[str, str]) -> Iterator[Item]:
    """The items of a parquet file, as often as they are there. Raises BadPast."""
    if "item_id" not in columns.values():
        raise BadPast(f"{path}: `catalogue_columns` names no column as item_id")
    for row in _dicts(_read(path, columns)):
        yield _item(path, {field: row[column] for column, field in columns.items()}, Item)


def _places(
    path: Path, rows: Iterable[dict[str, Any]], settings: PastSettings, reading: Reading
) -> Iterator[Place]:
    items: set[str] = set()
    ranks: set[int] = set()
    for row in rows:
        item_id, rank = row["item_id"], row["position"] - settings.first_position + 1
        if not item_id or rank < 1 or item_id in items or rank in ranks:
            reading.left_out += 1
            continue
        items.add(item_id)
        ranks.add(rank)
        fields = {field: row[f"item {field}"] for field in settings.item_columns.values()}
        done = tuple(name for name in settings.actions.values() if row[f"action {name}"])
        yield Place(_item(path, {**fields, "item_id": item_id}, Candidate), rank, done)


def _columns(path: Path, settings: PastSettings) -> pa.Table:
    """The file's columns by our names and in our types; raises BadPast where one does not fit."""
    sources = {
        "query_id": (settings.query_id, pa.string()),
        "user_query": (settings.user_query, pa.string()),
        "item_id": (settings.item_id, pa.string()),
        "position": (settings.position, pa.int64()),
        **{f"action {name}": (column, pa.bool_()) for column, name in settings.actions.items()},
        **{f"item {field}": (column, None) for column, field in settings.item_columns.items()},
    }
    if settings.user_id:
        sources["user_id"] = (settings.user_id, pa.string())
    if settings.timestamp:
        sources["at"] = (settings.timestamp, MOMENT)
    elif settings.at is None:
        raise BadPast(f"{path}: neither `timestamp` names a column, nor `at` a time")
    table = _read(path, [column for column, _ in sources.values()])
    found = {name: _cast(path, table, *source) for name, source in sources.items()}
    found.setdefault("user_id", pa.nulls(table.num_rows, pa.string()))
    if settings.at is not None and not settings.timestamp:
        at = settings.at if settings.at.tzinfo else settings.at.replace(tzinfo=UTC)
        found["at"] = pa.repeat(pa.scalar(at, MOMENT), table.num_rows)
    return pa.table(found)


def _required(rows: pa.Table) -> list[pa.ChunkedArray]:
    """The columns without which a row says nothing, as text, so that they join to null."""
    names = ("query_id", "user_query", "item_id", "position", "at")
    return [pc.cast(rows[name], pa.string()) for name in names]


def _refuse_without_top(path: Path, positions: pa.ChunkedArray, settings: PastSettings) -> None:
    """The first place is what all others are held against: a file of none was counted otherwise."""
    first = settings.first_position
    if len(positions) and not pc.any(pc.equal(positions, first)).as_py():
        raise BadPast(
            f"{path}: column {settings.position} has no row at the top: expected position {first},"
            f" as `past.first_position` says, and the smallest is {pc.min(positions)}"
        )


def _read(path: Path, columns: Iterable[str]) -> pa.Table:
    try:
        present = pq.read_schema(path).names
        if missing := sorted(set(columns) - set(present)):
            raise BadPast(f"{path}: no column {', '.join(missing)}; it has {', '.join(present)}")
        return pq.read_table(path, columns=sorted(set(columns)))
    except (OSError, pa.ArrowException) as error:
        raise BadPast(f"{path}: {error}") from error


def _cast(path: Path, table: pa.Table, column: str, wanted: pa.DataType | None) -> pa.ChunkedArray:
    """A column in the type that is wanted; times without an offset are UTC."""
    values = table[column]
    if wanted is None:
        return values
    try:
        if wanted == MOMENT and pa.types.is_integer(values.type):
            raise pa.ArrowInvalid("a number does not say since when it counts, and in which unit")
        finer = pa.types.is_timestamp(values.type)  # nanoseconds, as pandas writes them
        return values.cast(wanted, safe=not finer)
    except pa.ArrowException as error:
        raise BadPast(f"{path}: column {column} ({values.type}) as {wanted}: {error}") from error


def _dicts(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=ROWS):
        yield from batch.to_pylist()


def _asked(row: dict[str, Any]) -> tuple[str, str]:
    return row["query_id"], row["user_query"]


def _item(path: Path, fields: dict[str, Any], kind: type[T]) -> T:
    """An item of the fields that are not null; its id as text, whatever its column is."""
    known = {field: value for field, value in fields.items() if value is not None}
    try:
        return msgspec.convert({**known, "item_id": str(known.get("item_id", ""))}, kind)
    except msgspec.ValidationError as error:
        raise BadPast(f"{path}: item {known.get('item_id')!r}: {error}") from error
