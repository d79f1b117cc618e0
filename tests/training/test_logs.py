"""The log tables: a row once, whoever writes, and whatever a table of another version holds."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
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
    kept,
    query_ids,
    record,
    search,
    searches,
)
from training import upkeep
from training.logs import BadLogs, Logs
from training.reading import Snapshot
from training.records import SCHEMA, TABLES, Added, Span, arrow

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
