"""A challenger on a real worker: served to half of the users, found slow, taken back, explained."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from export.registry import Registry
from tests.chaos.load import UNHURRIED, Stage, searches, stage
from tests.chaos.scenes import log_of, said
from worker.events import RankedList, SearchEvent
from worker.ranking.lot import lot

COUNT = 300  # searches; and again as many once the challenger is gone
TRIAL = {
    "PRISMRANK_CHALLENGER": "slow",
    "PRISMRANK_CHALLENGER_SHARE": "0.5",
    "PRISMRANK_POLL_SECONDS": "0.5",
    **UNHURRIED,
}


def asked() -> Iterator[SearchEvent]:
    """Searches of 97 users, each with a query that nobody asked before."""
    for number, search in enumerate(searches(2 * COUNT)):
        query = f"{search.user_query} {number}"
        yield msgspec.structs.replace(search, user_query=query)


def made_by(made: Stage, events: list[SearchEvent]) -> dict[str, str]:
    """user -> the model of their lists; each search has exactly one list."""
    found: dict[str, str] = {}
    for search in events:
        (raw,) = made.book.answers[search.query_id]
        ranked = msgspec.json.decode(raw, type=RankedList)
        assert not ranked.degraded
        found.setdefault(search.user_id or "", ranked.model or "")
    return found


def test_a_slow_challenger_is_caught_taken_back_and_explained(arena: Path, tmp_path: Path) -> None:
    live, slow = (Registry(arena).resolve(alias) or "" for alias in ("live", "slow"))
    events = list(asked())

    async def main() -> Stage:
        async with stage(arena, tmp_path, len(events), TRIAL) as made:
            await said(tmp_path, f"trying {slow}")
            await made.play(events[:COUNT], 25.0)
            await said(tmp_path, "was taken back")
            await made.settle()
            await made.play(events[COUNT:], 100.0)
            await made.settle()
            return made

    made = asyncio.run(main())
    summary = made.book.summary()
    assert (summary["lists"], summary["lost"], summary["dead_letters"]) == (2 * COUNT, 0, 0)
    first = made_by(made, events[:COUNT])
    assert set(first.values()) == {live, slow}
    assert all(
        lot(user, "challenger", slow) < 0.5 for user, model in first.items() if model == slow
    )
    assert Counter(made_by(made, events[COUNT:]).values()).keys() == {live}
    (line,) = [line for line in log_of(tmp_path) if "taken back" in line]
    assert re.fullmatch(
        rf"challenger {slow[:8]} was taken back: its lists took \d+\.\d times as long to score"
        r" \([\d.]+ ms, where the champion takes [\d.]+ ms for as much\), over \d+ comparisons",
        line,
    )
