"""Human labels as graded queries: a search event, and a grade in [0, 1] for each candidate.

They come from JSONL, a SearchEvent a line whose candidates carry `grade`, or from the parquet sets
that stand beside the project, whose candidates come in the order of their ids, which says nothing.

In JSONL the file is its own catalogue: an item of an event's `history` is what the first candidate
of its id with a title, on any line, says of it. One that no candidate describes is left out, as the
worker does with what its catalogue does not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from worker import codec
from worker.errors import BadMessage, Invalid, PrismrankError
from worker.events import Candidate, Item, SearchEvent
from worker.ranking.join import Tables

RELEVANT: Final = 2 / 3  # a mean that is stored as 2.33 of 1 to 3 falls just short
NO_CATEGORY: Final = "other"
DESCRIBING: Final = tuple(name for name in Item.__struct_fields__ if name != "extras")
LIMITS: Final = codec.Limits(record_bytes=1 << 26, candidates=100_000)


class BadJudgments(PrismrankError):
    """A file of labels cannot be used. Nothing was computed; the command ends with status 2."""


@dataclass(frozen=True, slots=True)
class GradedQuery:
    """A query, its candidates, and what people made of each; `split` as its source had it.

    `past` are the items that the event's history names: a user's taste is judged with the list.
    """

    event: SearchEvent
    grades: tuple[float, ...]
    split: str = ""
    past: tuple[Item, ...] = ()

    @property
    def tables(self) -> Tables:
        """What the event is joined with."""
        return Tables(catalogue={item.item_id: item for item in self.past})

    def subtopics(self) -> dict[str, frozenset[str]]:
        """Of each candidate, the brand and the category; none where it is not relevant enough."""
        return {
            item.item_id: _subtopics(item) if grade >= RELEVANT else frozenset()
            for item, grade in zip(self.event.candidates, self.grades, strict=True)
        }

    def gains(self) -> dict[str, float]:
        """The grade of each candidate by its id."""
        ids = (item.item_id for item in self.event.candidates)
        return dict(zip(ids, self.grades, strict=True))


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a parquet set keeps what a graded query is made of."""

    file: str
    item_id: str
    title: str
    grade: str
    lowest: float
    highest: float
    brand: str
    category: str = ""
    description: str = ""
    catalogue: str = ""  # a second file, joined on `item_id`
    fewest: int = 2  # lists of fewer candidates do not count
    split: str = "dev"  # what is judged unless asked otherwise


SETS: Final = {
    # Neither part is ever trained on, so both are judged.
    "chorus_icecat": Columns(
        file="judgments.parquet",
        catalogue="products.parquet",
        item_id="product_id",
        title="title",
        grade="rating",
        lowest=0,
        highest=3,
        brand="brand",
        category="category_derived",
        description="short_description",
        split="all",
    ),
    "crowdflower": Columns(
        file="pairs.parquet",
        item_id="id",
        title="product_title",
        grade="median_relevance",
        lowest=1,
        highest=4,
        brand="brand_derived",
        description="product_description",
    ),
    "home_depot": Columns(
        file="pairs.parquet",
        item_id="product_uid",
        title="product_title",
        grade="relevance",
        lowest=1,
        highest=3,
        brand="brand_derived",
        category="ptype_derived",
        fewest=8,
    ),
}


def read_jsonl(path: Path) -> list[GradedQuery]:
    """The graded queries of a file of search events, each with its past; raises BadJudgments that
    names the line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadJudgments(f"{path}: {error.strerror}") from error
    queries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            queries.append(_graded(codec.decode_search_event(line, LIMITS)))
        except BadMessage as error:
            raise BadJudgments(f"{path}:{number}: {error}") from error
    return _with_past(queries)


def read_events(name: str, lines: Iterable[bytes]) -> Iterator[SearchEvent]:
    """The search events of JSONL, graded or not; raises BadJudgments that names the line."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield codec.decode_search_event(line, LIMITS)
            except BadMessage as error:
                raise BadJudgments(f"{name}:{number}: {error}") from error


def read_set(name: str, data: Path, split: str | None = None) -> list[GradedQuery]:
    """The graded queries of a parquet set; `split` is train, dev, all or the set's own default."""
    if name not in SETS:
        raise BadJudgments(f"{name}: no such set, there are {', '.join(SETS)}")
    columns = SETS[name]
    folder = data / name
    try:
        rows = _rows(folder, columns)
    except (OSError, pa.ArrowException) as error:
        raise BadJudgments(f"{folder}: {error}") from error
    wanted = split or columns.split
    return [
        query
        for text, group in groupby(rows, key=lambda row: str(row["query"]))
        if wanted in ("all", (query := _from_rows(text, list(group), columns)).split)
    ]


def worth_measuring(queries: Iterable[GradedQuery], fewest: int = 2) -> list[GradedQuery]:
    """Those where an order can be better than another: enough candidates, more than one grade."""
    return [
        query for query in queries if len(query.grades) >= fewest and len(set(query.grades)) > 1
    ]


def digest(queries: Iterable[GradedQuery]) -> str:
    """The sha256 of what was judged, so that two reports can be known to speak of the same."""
    labels = hashlib.sha256()
    for query in queries:
        labels.update(codec.encode(query.event) + msgspec.json.encode(query.grades))
        labels.update(b"".join(codec.encode(item) for item in query.past))
    return labels.hexdigest()


def _graded(event: SearchEvent) -> GradedQuery:
    """The event and the grades of its candidates; of an item given twice, the first, as `join`."""
    graded: dict[str, tuple[Candidate, float]] = {}
    for index, item in enumerate(event.candidates):
        grade = item.extras.get("grade")
        if not isinstance(grade, int | float) or isinstance(grade, bool) or not 0 <= grade <= 1:
            raise Invalid(f"$.candidates[{index}].grade", "a grade in [0, 1]", grade)
        graded.setdefault(item.item_id, (item, float(grade)))
    candidates = tuple(item for item, _ in graded.values())
    grades = tuple(grade for _, grade in graded.values())
    return GradedQuery(msgspec.structs.replace(event, candidates=candidates), grades)


def _with_past(queries: Sequence[GradedQuery]) -> list[GradedQuery]:
    """The queries, each with the items of its history that a candidate of any of them describes."""
    described: dict[str, Item] = {}
    for query in queries:
        for item in query.event.candidates:
            if item.title and item.item_id not in described:
                fields = {name: getattr(item, name) for name in DESCRIBING}
                described[item.item_id] = Item(**fields)
    return [
        replace(
            query, past=tuple(described[each] for each in _acted_on(query) if each in described)
        )
        for query in queries
    ]


def _acted_on(query: GradedQuery) -> dict[str, None]:
    return dict.fromkeys(entry.item_id for entry in query.event.history or ())


def _rows(folder: Path, columns: Columns) -> list[dict[str, Any]]:
    table = pq.read_table(folder / columns.file)
    if columns.catalogue:
        table = table.join(pq.read_table(folder / columns.catalogue), columns.item_id)
    rows: list[dict[str, Any]] = table.to_pylist()
    return sorted(rows, key=lambda row: (str(row["query"]), str(row[columns.item_id])))


def _from_rows(text: str, rows: Sequence[dict[str, Any]], columns: Columns) -> GradedQuery:
    """One query; of an item that was judged twice, the first judgment."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(str(row[columns.item_id]), row)
    span = columns.highest - columns.lowest
    event = SearchEvent(
        query_id=hashlib.sha256(text.encode()).hexdigest()[:16],
        user_query=text,
        candidates=tuple(_candidate(item_id, row, columns) for item_id, row in first.items()),
    )
    grades = tuple((float(row[columns.grade]) - columns.lowest) / span for row in first.values())
    return GradedQuery(event, grades, str(rows[0]["split"]))


def _candidate(item_id: str, row: dict[str, Any], columns: Columns) -> Candidate:
    category = row.get(columns.category) or None
    return Candidate(
        item_id=item_id,
        title=row[columns.title],
        description=row.get(columns.description) or None,
        brand=row[columns.brand] or None,
        category=None if category == NO_CATEGORY else category,
    )


def _subtopics(item: Candidate) -> frozenset[str]:
    facets = {"brand": item.brand, "category": item.category}
    return frozenset(
        f"{facet}={name.casefold()}"
        for facet, name in facets.items()
        if name and name.strip() and name.casefold() != NO_CATEGORY
    )
