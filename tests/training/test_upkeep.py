"""The upkeep of the tables: compaction and retention lose nothing that is still asked for."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from deltalake import DeltaTable

from tests.factories import event
from tests.training.log_rows import (
    NOON,
    TOPIC,
    append,
    item_record,
    kept,
    query_ids,
    record,
    search,
    searches,
)
from training import upkeep
from training.logs import Expired, Logs
from training.reading import Snapshot
from training.records import Added
from worker import codec

LATER = datetime(9999, 1, 1, tzinfo=UTC)  # when every day is over


def test_a_snapshot_reads_the_same_after_appends_compaction_and_retention(logs: Logs) -> None:
    for first in range(0, 12, 3):
        append(logs, searches(first, first + 3))
    snapshot = logs.snapshot()
    before = list(logs.searches(snapshot))
    append(logs, searches(12, 15))
    assert upkeep.compact(logs, kept(logs), LATER) == 5
    assert upkeep.retain(logs, kept(logs, retention_days=1), NOON + timedelta(days=9)) == 15
    assert list(logs.searches(logs.snapshot())) == []
    pinned = msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot)
    assert list(Logs(logs.url).searches(pinned)) == before


def test_days_that_are_over_are_compacted_and_the_day_that_grows_only_once_it_has_many_files(
    logs: Logs,
) -> None:
    for first in range(4):
        append(logs, [search(first, timestamp=None)])
    assert upkeep.compact(logs, kept(logs), NOON) == 0
    assert upkeep.compact(logs, kept(logs), NOON + timedelta(days=1)) == 4
    assert upkeep.compact(logs, kept(logs), NOON + timedelta(days=1)) == 0
    assert len(DeltaTable(f"{logs.url}/searches").file_uris()) == 1
    few = kept(logs, small_files=3)
    for first in range(4, 9):
        append(logs, [search(first)])
        assert upkeep.compact(logs, few, NOON) == (6 if first == 8 else 0)
    assert query_ids(logs) == [f"q0-{n}" for n in range(9)]


def test_several_at_the_upkeep_and_a_writer_lose_and_double_nothing(logs: Logs) -> None:
    """deltalake's own compaction doubles every row here."""
    for first in range(0, 40, 2):
        append(logs, searches(first, first + 2))
    together = threading.Barrier(4)
    faults: list[BaseException] = []

    def work(number: int) -> None:
        own = Logs(logs.url)
        together.wait()
        try:
            for first in range(40, 60, 2):
                if number:
                    upkeep.compact(own, kept(own), LATER)
                    upkeep.retain(own, kept(own), NOON)
                else:
                    append(own, searches(first, first + 2))
        except BaseException as error:
            faults.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == []
    assert query_ids(logs) == [f"q0-{n}" for n in range(60)]


def test_a_snapshot_of_versions_that_are_gone_is_refused_by_name(logs: Logs) -> None:
    append(logs, searches(0, 3))
    snapshot = logs.snapshot()
    append(logs, searches(3, 6))
    append(logs, searches(6, 9))
    upkeep.compact(logs, kept(logs), LATER)
    table = DeltaTable(f"{logs.url}/searches")
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(Expired, match=r"searches: .*versions_days"):
        list(logs.searches(snapshot))
    with pytest.raises(Expired, match=r"searches: .*versions_days"):
        list(logs.searches(Snapshot(searches=99)))
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    DeltaTable(table.table_uri).create_checkpoint()
    DeltaTable(table.table_uri).cleanup_metadata()
    with pytest.raises(Expired, match=r"searches: .*versions_days"):
        list(logs.searches(snapshot))


def test_progress_outlives_checkpoints_compaction_and_retention(logs: Logs) -> None:
    for end in (2, 5, 8):
        append(logs, searches(0, end))
    upkeep.compact(logs, kept(logs), LATER)
    upkeep.retain(logs, kept(logs, retention_days=1), NOON + timedelta(days=9))
    table = DeltaTable(f"{logs.url}/searches")
    table.create_checkpoint()
    table.cleanup_metadata()
    assert logs.offsets("searches", TOPIC) == {0: 8}
    assert append(logs, searches(0, 9)) == Added(rows=1)


def test_retention_deletes_whole_days_by_the_time_of_the_record(logs: Logs) -> None:
    """A page whose clock is wrong does not decide how long its events are kept."""
    old = NOON - timedelta(days=10)
    wrong = datetime(1970, 1, 1, tzinfo=UTC)
    raws = [codec.encode(event(query_id=name)) for name in ("old", "edge")]
    rows = [
        record(0, raws[0], timestamp=old),
        record(1, raws[1], timestamp=NOON - timedelta(days=7, hours=12)),
        search(2, timestamp=wrong),
    ]
    append(logs, rows)
    assert upkeep.retain(logs, kept(logs, retention_days=7), NOON) == 1
    assert query_ids(logs) == ["q0-2", "edge"]
    assert upkeep.retain(logs, kept(logs, retention_days=0), NOON + timedelta(days=9_999)) == 0


def test_retention_keeps_the_catalogue_and_forgets_what_was_replaced(logs: Logs) -> None:
    rows = [item_record(n, "a", f"title {n}") for n in range(3)] + [item_record(3, "b", "other")]
    append(logs, rows, "items")
    later = NOON + timedelta(days=99)
    assert upkeep.retain(logs, kept(logs, retention_days=7), later) == 2
    found = logs.items(logs.snapshot())
    assert [item.title for item in found.values()] == ["title 2", "other"]
    assert logs.counts(logs.snapshot())["items"] == Added(rows=2)


def test_a_pinned_snapshot_keeps_its_files(logs: Logs) -> None:
    for first in range(0, 9, 3):
        append(logs, searches(first, first + 3))
    pinned = logs.snapshot()
    upkeep.compact(logs, kept(logs), LATER)
    table = DeltaTable(f"{logs.url}/searches")
    assert len(table.vacuum(0, enforce_retention_duration=False)) == 3
    needed = [pinned.searches]
    assert table.vacuum(0, enforce_retention_duration=False, keep_versions=needed) == []
    upkeep.retain(logs, kept(logs), NOON, [pinned])
    assert len(list(logs.searches(pinned))) == 9
