"""The log tables: a row once, the same rows in the same order for the same snapshot."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.log_rows import (
    NOON,
    TOPIC,
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
from training.logs import BadLogs, Logs
from training.reading import Snapshot
from training.records import LAST, SCHEMA, TABLES, Added, Record, Span, arrow, keys_of
from worker import codec

LATER = datetime(9999, 1, 1, tzinfo=UTC)  # when every day is over


def test_logs_that_nobody_has_written_are_empty(logs: Logs) -> None:
    snapshot = logs.snapshot()
    assert snapshot == Snapshot(searches=-1, lists=-1, behaviours=-1, items=-1)
    assert list(logs.searches(snapshot)) == []
    assert logs.items(snapshot) == {}
    assert logs.offsets("searches", TOPIC) == {}
    assert logs.counts(snapshot) == dict.fromkeys(TABLES, Added())


def test_what_came_since_a_snapshot_is_counted_whatever_happened_to_the_table(logs: Logs) -> None:
    before = logs.snapshot()
    append(logs, searches(0, 10) + searches(0, 4, partition=1))
    snapshot = logs.snapshot()
    assert logs.since("searches", before) == 14
    assert logs.since("searches", snapshot) == 0
    logs.claim("searches", {(TOPIC, 2): 500})
    late = NOON + timedelta(days=8)
    append(logs, [search(10, timestamp=late), record(11, b"garbage"), search(12)])
    append(logs, searches(500, 503, partition=2))
    assert logs.since("searches", snapshot) == 5
    upkeep.compact(logs, kept(logs), LATER)
    assert logs.since("searches", snapshot) == 5
    old = [search(n, timestamp=None, partition=1) for n in range(4, 9)]
    append(logs, old)
    upkeep.retain(logs, kept(logs, retention_days=1), NOON + timedelta(days=2))
    assert logs.since("searches", snapshot) == 0, "all of them are gone"
    append(logs, [record(13, search(13).value, timestamp=late)])
    assert logs.since("searches", snapshot) == 1


def test_all_is_new_since_a_snapshot_that_is_no_longer_kept(logs: Logs) -> None:
    append(logs, searches(0, 3))
    assert logs.since("searches", Snapshot(searches=99)) == 3
    assert logs.since("lists", Snapshot(lists=99)) == 0


def test_a_row_that_comes_again_is_not_added_again(logs: Logs) -> None:
    assert append(logs, searches(0, 10)) == Added(rows=10)
    assert append(logs, searches(0, 10)) == Added()
    assert append(logs, searches(5, 15)) == Added(rows=5)
    assert query_ids(logs) == [f"q0-{n}" for n in range(15)]


def test_the_tables_know_the_next_offset_of_each_partition(logs: Logs) -> None:
    append(logs, searches(0, 4) + searches(0, 7, partition=1))
    logs.claim("searches", {(TOPIC, 2): 30})
    assert logs.offsets("searches", TOPIC) == {0: 4, 1: 7, 2: 30}
    assert logs.offsets("searches", "other.search-events") == {}


def test_a_claim_does_not_move_what_is_claimed(logs: Logs) -> None:
    append(logs, searches(0, 4))
    logs.claim("searches", {(TOPIC, 0): 0})
    assert logs.offsets("searches", TOPIC) == {0: 4}


def test_progress_over_offsets_without_records_is_kept(logs: Logs) -> None:
    append(logs, searches(0, 4))
    assert logs.append("searches", [], {(TOPIC, 0): Span(4, 9)}) == Added()
    assert logs.offsets("searches", TOPIC) == {0: 9}


def test_a_hole_between_table_and_read_is_refused_and_nothing_is_added(logs: Logs) -> None:
    append(logs, searches(0, 4))
    with pytest.raises(BadLogs, match=r"search-events/0 was read from offset 6, expected 4"):
        logs.append("searches", searches(6, 8), {(TOPIC, 0): Span(6, 8)})
    with pytest.raises(BadLogs, match="expected a claim first"):
        logs.append("searches", searches(0, 1, partition=1), {(TOPIC, 1): Span(0, 1)})
    assert logs.counts(logs.snapshot())["searches"] == Added(rows=4)


def test_several_writers_at_once_add_every_row_once(logs: Logs) -> None:
    """Each has its own batch size, and all start together."""
    count = 60
    together = threading.Barrier(3)
    faults: list[BaseException] = []

    def write(size: int) -> None:
        own = Logs(logs.url)
        together.wait()
        try:
            for first in range(0, count, size):
                append(own, searches(first, min(first + size, count)))
        except BaseException as error:
            faults.append(error)

    writers = [threading.Thread(target=write, args=(size,)) for size in (4, 5, 7)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert faults == []
    assert query_ids(logs) == [f"q0-{n}" for n in range(count)]


def test_a_commit_that_another_writer_overtook_is_refused_by_the_table(logs: Logs) -> None:
    """What `append` relies on: a handle that is behind cannot move the same transaction."""
    append(logs, searches(0, 1))
    behind = logs.open("searches")
    assert behind is not None
    append(logs, searches(1, 3))
    with pytest.raises(CommitFailedError):
        write_deltalake(
            behind,
            arrow("searches", searches(1, 3)),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(f"{TOPIC}/0", 3)]),
        )
    assert query_ids(logs) == ["q0-0", "q0-1", "q0-2"]


def test_a_replay_adds_only_rows_that_are_absent(logs: Logs) -> None:
    append(logs, searches(0, 10))
    table = DeltaTable(f"{logs.url}/searches")
    table.delete('"offset" >= 3 AND "offset" < 6')
    assert logs.refill("searches", searches(0, 8)) == Added(rows=3)
    assert logs.refill("searches", searches(0, 8)) == Added()
    assert query_ids(logs) == [f"q0-{n}" for n in range(10)]


def test_a_replay_leaves_to_the_collector_what_it_has_not_reached(logs: Logs) -> None:
    append(logs, searches(0, 5))
    assert logs.refill("searches", searches(3, 9)) == Added()
    assert append(logs, searches(5, 9)) == Added(rows=4)


def test_several_replays_at_once_add_a_row_once(logs: Logs) -> None:
    logs.claim("searches", {(TOPIC, 0): 30})
    together = threading.Barrier(3)
    added: list[Added] = []

    def replay() -> None:
        own = Logs(logs.url)
        together.wait()
        added.extend(own.refill("searches", searches(n, n + 6)) for n in range(0, 30, 6))

    replays = [threading.Thread(target=replay) for _ in range(3)]
    for one in replays:
        one.start()
    for one in replays:
        one.join()
    assert sum(one.rows for one in added) == 30
    assert query_ids(logs) == [f"q0-{n}" for n in range(30)]


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


@settings(max_examples=60)
@given(value=st.none() | st.binary(max_size=80), key=st.none() | st.binary(max_size=9))
def test_no_bytes_are_beyond_a_row(value: bytes | None, key: bytes | None) -> None:
    for table in TABLES:
        rows = arrow(table, [record(0, value, key=key)])
        assert rows.schema == SCHEMA
        assert rows["value"].to_pylist() == [value]


def test_a_table_of_an_older_version_is_read_and_appended_to(logs: Logs) -> None:
    older = arrow("searches", searches(0, 2)).drop_columns(["list_id", "action_name"])
    write_deltalake(f"{logs.url}/searches", older, partition_by=["day"])
    assert query_ids(logs) == ["q0-0", "q0-1"]
    append(logs, searches(2, 4))
    assert query_ids(logs) == [f"q0-{n}" for n in range(4)]
    assert "action_name" in DeltaTable(f"{logs.url}/searches").schema().to_arrow().names


def test_a_column_of_a_newer_version_is_ignored(logs: Logs) -> None:
    append(logs, searches(0, 2))
    newer = arrow("searches", searches(2, 4)).append_column("mood", pa.array(["calm", "gay"]))
    write_deltalake(f"{logs.url}/searches", newer, mode="append", schema_mode="merge")
    logs.claim("searches", {(TOPIC, 0): 0})
    logs.append("searches", searches(4, 5), {(TOPIC, 0): Span(0, 5)})
    assert query_ids(logs) == [f"q0-{n}" for n in range(5)]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadLogs, match="file/searches"):
        append(Logs(str(tmp_path / "file")), searches(0, 1))
