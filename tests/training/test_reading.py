"""What is read of the log tables: the same rows in the same order for the same snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.log_rows import (
    NOON,
    append,
    click,
    item_record,
    kept,
    query_ids,
    ranked_list,
    record,
    search,
    searches,
)
from training import reading, upkeep
from training.logs import Logs
from training.records import LAST, Added, Record, keys_of
from worker import codec

LATER = datetime(9999, 1, 1, tzinfo=UTC)  # when every day is over


def test_every_list_is_read_a_repeated_one_and_one_without_clicks_too(logs: Logs) -> None:
    raw = codec.encode(ranked_list("q-1"))
    append(logs, [record(n, raw, topic="ranked-lists") for n in range(2)], "lists")
    found = list(logs.lists(logs.snapshot()))
    assert [one.list_id for one in found] == ["l", "l"]
    assert [one.timestamp for one in found] == [NOON, NOON + timedelta(seconds=1)]


def test_behaviours_are_read_with_the_time_that_they_state(logs: Logs) -> None:
    early = NOON - timedelta(days=2)
    values = [click("q-1"), click("q-2", timestamp=early)]
    rows = [
        record(n, codec.encode(value), topic="behaviour-events") for n, value in enumerate(values)
    ]
    append(logs, rows, "behaviours")
    found = list(logs.behaviours(logs.snapshot()))
    assert [(one.query_id, one.timestamp) for one in found] == [("q-2", early), ("q-1", NOON)]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, ["q0-0", "q0-1", "q0-2"]),
        (NOON + timedelta(seconds=1), None, ["q0-1", "q0-2"]),
        (None, NOON + timedelta(seconds=1), ["q0-0"]),
        (NOON, NOON, []),
        (datetime(2026, 11, 24, 12, 0, 1), datetime(2026, 11, 24, 12, 0, 2), ["q0-1"]),
    ],
)
def test_a_read_has_a_first_moment_and_ends_before_another(
    logs: Logs, since: datetime | None, until: datetime | None, expected: list[str]
) -> None:
    append(logs, searches(0, 3))
    found = logs.searches(logs.snapshot(), since, until)
    assert [one.query_id for one in found] == expected


def test_a_limit_between_two_microseconds_prunes_no_file(logs: Logs) -> None:
    """Delta's statistics of times are coarser than the times."""
    at = NOON + timedelta(microseconds=999)
    append(logs, [search(0, timestamp=at)])
    found = list(logs.searches(logs.snapshot(), at, at + timedelta(microseconds=1)))
    assert [one.timestamp for one in found] == [at]


moments = st.datetimes(
    datetime(1, 1, 1), LAST.replace(tzinfo=None) - timedelta(days=1), timezones=st.just(UTC)
)
placed = st.lists(st.tuples(st.integers(0, 2), st.none() | moments), min_size=1, max_size=12)


@settings(max_examples=8)
@given(placed=placed, cuts=st.sets(st.integers(1, 11)), slice_rows=st.integers(1, 5))
def test_what_is_read_does_not_depend_on_how_it_was_written(
    placed: list[tuple[int, datetime | None]],
    cuts: set[int],
    slice_rows: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows: list[Record] = []
    for partition, at in placed:
        offset = sum(one.partition == partition for one in rows)
        rows.append(search(offset, partition, timestamp=at))
    whole = Logs(str(tmp_path_factory.mktemp("whole")))
    parts = Logs(str(tmp_path_factory.mktemp("parts")))
    append(whole, rows)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for first, end in pairwise(bounds):
        append(parts, rows[first:end])
    upkeep.compact(parts, kept(parts), LATER)
    expected = sorted(
        rows, key=lambda one: (keys_of("searches", one).at, one.partition, one.offset)
    )
    assert query_ids(whole) == query_ids(parts)
    assert query_ids(whole) == [f"q{one.partition}-{one.offset}" for one in expected]
    dataset = DeltaTable(f"{parts.url}/searches").to_pyarrow_dataset()
    in_slices = list(reading.rows_in_order(dataset, slice_rows=slice_rows))
    assert [value for value, _ in in_slices] == [one.value for one in expected]


def test_the_newest_item_of_each_id_stands_and_deleted_ones_do_not(logs: Logs) -> None:
    rows = [
        item_record(0, "a", "first"),
        item_record(1, "b", "kept"),
        item_record(2, "a", "second", timestamp=NOON - timedelta(days=1)),
        item_record(3, "c", "gone"),
        item_record(4, "c", None),
        item_record(5, "d", "keyless", key=None),
        record(6, b"{}", topic="items", key=b"b"),
        record(7, None, topic="items"),
    ]
    append(logs, rows, "items")
    found = logs.items(logs.snapshot())
    assert {item_id: item.title for item_id, item in found.items()} == {
        "a": "second",
        "b": "kept",
        "d": "keyless",
    }
    assert logs.counts(logs.snapshot())["items"] == Added(rows=8, errors=2)


def test_between_partitions_the_later_record_of_an_item_stands(logs: Logs) -> None:
    rows = [
        item_record(0, "a", "later", partition=1, timestamp=NOON + timedelta(days=1)),
        item_record(9, "a", "earlier", partition=0),
    ]
    append(logs, rows, "items")
    assert logs.items(logs.snapshot())["a"].title == "later"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"[]",
        b"{" * 5_000,
        b'{"query_id": "q", "user_query": 3}',
        b'{"query_id": "\\ud800", "user_query": ""}',
        b'{"query_id": "q", "user_query": "", "timestamp": "0001-01-01T00:00:00+09:00"}',
        b'{"query_id": "q", "user_query": "", "timestamp": "9999-12-31T23:59:59Z"}',
    ],
)
def test_what_cannot_be_decoded_is_kept_counted_and_passed_over(
    logs: Logs, value: bytes | None
) -> None:
    assert append(logs, [record(0, value), search(1)]) == Added(rows=2, errors=1)
    row = DeltaTable(f"{logs.url}/searches").to_pyarrow_table().sort_by("offset").to_pylist()[0]
    assert row["value"] == value
    assert "expected" in row["error"]
    assert query_ids(logs) == ["q0-1"]
