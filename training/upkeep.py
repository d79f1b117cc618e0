"""The upkeep of the logs: small files are joined, old rows deleted, files nobody reads removed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from training.logs import WRITER, Logs, LogSettings
from training.reading import Snapshot, superseded_items
from training.records import TABLES

DAYS: Final = ("partition.day", "size_bytes_count", "size_bytes_sum")
KEPT: Final = ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration")


def compact(logs: Logs, settings: LogSettings, now: datetime) -> int:
    """Join the small files of a day into files of about `target_file_mb`; how many were replaced.

    Days that are over are joined once; the day of `now` once it has more than `small_files`. Rows
    and the order in which they are read stay; so do the old files, until `retain`. Where another
    process adds to a day or joins it at this moment, the table waits for the next time.
    """
    replaced = 0
    today = now.astimezone(UTC).date().isoformat()
    for table in TABLES:
        with logs.translated(table), contextlib.suppress(CommitFailedError):
            if handle := logs.open(table):
                for day, files in _scattered(handle, settings, today):
                    _join(handle, settings, day)
                    replaced += files
    return replaced


def retain(
    logs: Logs, settings: LogSettings, now: datetime, pinned: Sequence[Snapshot] = ()
) -> int:
    """Delete rows recorded more than `retention_days` before `now`; how many.

    Whole days go at a time. Of items only rows go that a newer one replaced. Then files are removed
    that no version of the last `versions_days` needs, except those that `pinned` snapshots need.
    Where another process changes the same files at this moment, the table waits for the next time.
    """
    before = datetime.combine(
        (now.astimezone(UTC) - timedelta(days=settings.retention_days)).date(),
        datetime.min.time(),
        UTC,
    )
    deleted = 0
    for table in TABLES:
        versions = [snapshot.versions()[table] for snapshot in pinned]
        with logs.translated(table), contextlib.suppress(CommitFailedError):
            if handle := logs.open(table):
                if settings.retention_days:
                    deleted += _delete(handle, table, before)
                _remove(handle, settings, [version for version in versions if version >= 0])
    return deleted


def keep_up(logs: Logs, settings: LogSettings) -> None:
    """Both, now."""
    now = datetime.now(UTC)
    compact(logs, settings, now)
    retain(logs, settings, now)


def _scattered(handle: DeltaTable, settings: LogSettings, today: str) -> list[tuple[str, int]]:
    """(day, files) of days in more files than their size asks for."""
    actions = pa.table(handle.get_add_actions(flatten=True))
    days = actions.group_by("partition.day").aggregate(
        [("size_bytes", "count"), ("size_bytes", "sum")]
    )
    found = []
    for day, files, size_bytes in zip(*(days[name].to_pylist() for name in DAYS), strict=True):
        fewest = math.ceil(size_bytes / (settings.target_file_mb << 20))
        if files > 2 * fewest + (settings.small_files if day >= today else 0):
            found.append((day, files))
    return sorted(found)


def _join(handle: DeltaTable, settings: LogSettings, day: str) -> None:
    """Write a day anew, in one commit.

    Not by deltalake's own `optimize.compact`: of two from one version both commit (1.6.6), and all
    rows are there twice. An overwrite is refused where anything has changed the day since.
    """
    rows = handle.to_pyarrow_dataset().scanner(filter=ds.field("day") == day, batch_size=1_000)
    write_deltalake(
        handle,
        rows.to_reader(),
        mode="overwrite",
        predicate=f"day = '{day}'",
        target_file_size=settings.target_file_mb << 20,
        writer_properties=WRITER,
    )


def _delete(handle: DeltaTable, table: str, before: datetime) -> int:
    if table != "items":
        return int(handle.delete(f"day < '{before.date().isoformat()}'")["num_deleted_rows"])
    old = superseded_items(handle.to_pyarrow_dataset(), before)
    if not old.num_rows:
        return 0
    same = " AND ".join(f"kept.{name} = old.{name}" for name in old.column_names)
    merge = handle.merge(old, predicate=same, source_alias="old", target_alias="kept")
    return int(merge.when_matched_delete().execute()["num_target_rows_deleted"])


def _remove(handle: DeltaTable, settings: LogSettings, pinned: list[int]) -> None:
    wanted = f"interval {settings.versions_days} days"
    configured = handle.metadata().configuration
    if any(configured.get(name) != wanted for name in KEPT):
        handle.alter.set_table_properties({name: wanted for name in KEPT})
    handle.vacuum(
        retention_hours=settings.versions_days * 24,
        dry_run=False,
        enforce_retention_duration=False,  # as configured just above
        keep_versions=pinned or None,
    )
