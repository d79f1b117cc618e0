"""SearchEvent JSONL in, RankedList JSONL out, in order: the worker's core on a pipe, no Kafka.

A line that cannot be ranked becomes a dead letter, one JSON object a line, and the rest goes on.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import msgspec

from worker import codec
from worker.delivery import Unexpected
from worker.errors import BadMessage
from worker.events import RankedList
from worker.ranking import explain
from worker.ranking.join import Dials, JoinedSearch, Tables, join

READ_BYTES = 1 << 20
Rank = Callable[[Sequence[JoinedSearch]], tuple[RankedList, ...]]


@dataclass(frozen=True, slots=True)
class Lines:
    """Ranks lines; `diversity` is the command line's flag, and goes before every other dial."""

    rank: Rank
    tables: Tables
    dials: Dials
    limits: codec.Limits
    batch_events: int
    now: Callable[[], datetime]
    diversity: float | None = None
    explain: bool = False  # lists as text, for people

    def run(self, source: int, lists: BinaryIO, dead_letters: BinaryIO) -> int:
        """From a file descriptor to the two streams; the number of dead letters."""
        dead, number = 0, 0
        for block in blocks(source):
            for start in range(0, len(block), self.batch_events):
                batch = block[start : start + self.batch_events]
                for answer in self._answers(batch, number + 1):
                    is_dead = isinstance(answer, DeadLetter)
                    dead += is_dead
                    (dead_letters if is_dead else lists).write(self._line(answer) + b"\n")
                number += len(batch)
            lists.flush()
            dead_letters.flush()
        return dead

    def _line(self, answer: RankedList | DeadLetter) -> bytes:
        if self.explain and isinstance(answer, RankedList):
            return explain.table(answer).encode()
        return codec.encode(answer)

    def _answers(self, batch: Sequence[bytes], first: int) -> Iterator[RankedList | DeadLetter]:
        """One answer a line, in order."""
        joined = [self._joined(raw) for raw in batch]
        searches = [search for search in joined if isinstance(search, JoinedSearch)]
        lists = iter(self._ranked(searches))
        for number, (raw, search) in enumerate(zip(batch, joined, strict=True), start=first):
            answer = next(lists) if isinstance(search, JoinedSearch) else search
            if isinstance(answer, BadMessage):
                yield dead_letter(number, raw, answer)
            else:
                yield msgspec.structs.replace(answer, timestamp=self.now())

    def _joined(self, raw: bytes) -> JoinedSearch | BadMessage:
        try:
            event = codec.decode_search_event(raw, self.limits)
            return join(event, self.tables, self.dials, self.diversity)
        except BadMessage as error:
            return error
        except Exception as error:
            return Unexpected(error)

    def _ranked(self, searches: Sequence[JoinedSearch]) -> Sequence[RankedList | BadMessage]:
        """Together; and one by one where that fails, so that one cannot take others along."""
        try:
            return self.rank(searches)
        except Exception as error:
            if len(searches) == 1:
                return (Unexpected(error),)
            return [answer for search in searches for answer in self._ranked((search,))]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """A line that was given up, and why."""

    line: int
    kind: str
    path: str
    message: str
    stage: str
    raw_base64: str


def dead_letter(line: int, raw: bytes, error: BadMessage) -> DeadLetter:
    """The dead letter of a line."""
    return DeadLetter(
        line=line,
        kind=type(error).__name__,
        path=_printable(error.path),
        message=_printable(str(error)),
        stage=error.stage,
        raw_base64=base64.b64encode(raw).decode(),
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def blocks(source: int) -> Iterator[list[bytes]]:
    """The lines that can be read now, again and again until the end: no line waits for the next."""
    rest: list[bytes] = []
    while chunk := os.read(source, READ_BYTES):
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*rest, lines[0]))
            rest = []
            yield lines
        rest.append(last)
    if tail := b"".join(rest):
        yield [tail]
