"""What a run of the collector holds between two writes, and what it tells of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import ConsumerRecord, TopicPartition

from training.records import TABLES, Added, Place, Record, Span, time_of


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets from `start` up to, not including, `end` that the broker no longer has."""

    topic: str
    partition: int
    start: int
    end: int
    why: str

    def __str__(self) -> str:
        where = f"{self.topic}/{self.partition}"
        return f"{where}: offsets {self.start} to {self.end - 1} {self.why}"


@dataclass(frozen=True, slots=True)
class Progress:
    """Told after every batch: what was added to each table, and what is still to be read.

    `lag` counts the records that the broker has beyond what was read; `replayed` says that the
    rows were absent ones from before.
    """

    added: Mapping[str, Added]
    lag: int
    replayed: bool = False


@dataclass
class Collected:
    """What a whole run came to."""

    added: dict[str, Added] = field(default_factory=lambda: dict.fromkeys(TABLES, Added()))
    replayed: dict[str, Added] = field(default_factory=lambda: dict.fromkeys(TABLES, Added()))
    gaps: list[Gap] = field(default_factory=list)

    def take(self, progress: Progress) -> None:
        """Add one batch."""
        total = self.replayed if progress.replayed else self.added
        for table, added in progress.added.items():
            total[table] += added


class Batch:
    """Records of some partitions, and what was covered in reading them."""

    def __init__(self, starts: Mapping[TopicPartition, int]) -> None:
        self._records: dict[TopicPartition, list[Record]] = {}
        self.rows = self.size_bytes = 0
        self._since = time.monotonic()
        self._starts = dict(starts)

    def add(self, at: TopicPartition, records: list[ConsumerRecord]) -> None:
        """What one fetch brought."""
        if not self.rows:
            self._since = time.monotonic()
        self._records.setdefault(at, []).extend(map(_record, records))
        self.rows += len(records)
        self.size_bytes += sum(len(one.value or b"") for one in records)

    def of(self, topic: str) -> list[Record]:
        """The records of a topic, of each partition in order."""
        return [one for at, found in self._records.items() if at.topic == topic for one in found]

    def spans(self, topic: str, ends: Mapping[TopicPartition, int]) -> dict[Place, Span]:
        """What was read of each partition of a topic up to `ends`; where nothing was, no span."""
        return {
            (at.topic, at.partition): Span(start, ends[at])
            for at, start in self._starts.items()
            if at.topic == topic and ends[at] > start
        }

    def seconds(self) -> float:
        """How long its first record has waited; 0 where there is none."""
        return time.monotonic() - self._since if self.rows else 0.0


def _record(found: ConsumerRecord) -> Record:
    at = time_of(found.timestamp, otherwise=datetime.now(UTC))
    return Record(found.topic, found.partition, found.offset, at, found.key, found.value)
