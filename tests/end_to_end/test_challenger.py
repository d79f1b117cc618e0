"""Challengers on a real worker: served to half of the users, found out, taken back, explained."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from export.registry import Registry
from tests.arena import BRAND, doubtful, forgetful, unfair
from tests.chaos.load import UNHURRIED, Stage, searches, stage
from tests.chaos.scenes import log_of, said
from worker.events import RankedList, SearchEvent
from worker.ranking.lot import lot

COUNT = 300  # searches; and as many once a slow challenger is gone
AFTER = 60  # once another is gone
MOST = 1_200  # that another may take to be caught
ROUND = 50  # of them are sent, and then it is looked whether it was
TRIAL = {
    "PRISMRANK_CHALLENGER": "challenger",
    "PRISMRANK_CHALLENGER_SHARE": "0.5",
    "PRISMRANK_POLL_SECONDS": "0.5",
    **UNHURRIED,
}
SILENT = {"PRISMRANK_CHALLENGER_SHADOW": "1"}


def asked(count: int) -> Iterator[SearchEvent]:
    """Searches of 97 users, each with a query that nobody asked before."""
    for number, search in enumerate(searches(count)):
        query = f"{search.user_query} {number}"
        yield msgspec.structs.replace(search, user_query=query)


def branded(search: SearchEvent) -> SearchEvent:
    """Every other item is of the brand, and says so."""
    return msgspec.structs.replace(
        search,
        candidates=tuple(
            msgspec.structs.replace(item, brand=BRAND, title=f"{BRAND} {item.title}")
            if int(item.item_id[1:]) % 2 == 0
            else item
            for item in search.candidates
        ),
    )


def made_by(made: Stage, events: list[SearchEvent]) -> dict[str, str]:
    """user -> the model of their lists; each search has exactly one list."""
    found: dict[str, str] = {}
    for search in events:
        (raw,) = made.book.answers[search.query_id]
        ranked = msgspec.json.decode(raw, type=RankedList)
        assert not ranked.degraded
        found.setdefault(search.user_id or "", ranked.model or "")
    return found


def held(made: Stage, folder: Path, digests: tuple[str, str], events: list[SearchEvent]) -> str:
    """Nothing was lost, each arm had its users' lists, and the last AFTER are the champion's: the
    line that says why. `digests` are champion's and challenger's."""
    live, tried = digests
    summary = made.book.summary()
    assert (summary["lists"], summary["lost"], summary["dead_letters"]) == (len(events), 0, 0)
    first = made_by(made, events[:ROUND])
    assert set(first.values()) == {live, tried}
    assert all(
        lot(user, "challenger", tried) < 0.5 for user, model in first.items() if model == tried
    )
    assert Counter(made_by(made, events[-AFTER:]).values()).keys() == {live}
    (line,) = [line for line in log_of(folder) if "taken back" in line]
    return line


def test_a_slow_challenger_is_caught_taken_back_and_explained(arena: Path, tmp_path: Path) -> None:
    live, slow = (Registry(arena).resolve(alias) or "" for alias in ("live", "slow"))
    events = list(asked(2 * COUNT))

    async def main() -> Stage:
        named = {**TRIAL, "PRISMRANK_CHALLENGER": "slow"}
        async with stage(arena, tmp_path, len(events), named) as made:
            await said(tmp_path, f"trying {slow}")
            await made.play(events[:COUNT], 25.0)
            await said(tmp_path, "was taken back")
            await made.settle()
            await made.play(events[COUNT:], 100.0)
            await made.settle()
            return made

    made = asyncio.run(main())
    line = held(made, tmp_path, (live, slow), events)
    assert Counter(made_by(made, events[COUNT:]).values()).keys() == {live}
    assert re.fullmatch(
        rf"challenger {slow[:8]} was taken back: its lists took \d+\.\d times as long to score"
        r" \([\d.]+ ms, where the champion takes [\d.]+ ms for as much\), over \d+ comparisons",
        line,
    )


class Caught(NamedTuple):
    """A challenger, what a worker is asked to watch, and why it is taken back."""

    make: Callable[[Path, Path], Path]
    watching: dict[str, str]
    why: str
    search: Callable[[SearchEvent], SearchEvent] = copy


CAUGHT = [
    Caught(
        unfair,
        {"PRISMRANK_CHALLENGER_GROUP": f"brand={BRAND}"},
        rf"brand={BRAND} has \d+% of the first 10 places, where the champion gives it \d+%",
        branded,
    ),
    Caught(
        forgetful,
        {},
        r"its lists have little to do with the champion's: \d+% of their first places hold the"
        r" same items, and 50% would by chance",
    ),
    Caught(
        doubtful,
        {"PRISMRANK_CHALLENGER_DRIFT": "0.2"},
        r"it finds the first 10 places relevant with a chance of \d+%, where the champion says"
        r" \d+%",
    ),
]


@pytest.mark.parametrize("one", CAUGHT, ids=lambda one: one.make.__name__)
def test_one_that_is_unfair_or_has_drifted_is_caught_in_silent_lists(
    one: Caught, arena: Path, tmp_path: Path
) -> None:
    own = tmp_path / "registry"
    shutil.copytree(arena, own)
    registry = Registry(own)
    live = registry.resolve("live") or ""
    tried = registry.publish(one.make(tmp_path, own / "bundles" / live))
    registry.promote(tried, "challenger", reason="a trial")
    events = list(map(one.search, asked(MOST + AFTER)))
    sent: list[SearchEvent] = []

    async def main() -> Stage:
        async with stage(own, tmp_path, len(events), {**TRIAL, **SILENT, **one.watching}) as made:
            await said(tmp_path, f"trying {tried}")
            for start in range(0, MOST, ROUND):
                some = events[start : start + ROUND]
                await made.play(some, 25.0)
                await made.settle()
                sent.extend(some)
                if any("taken back" in line for line in log_of(tmp_path)):
                    break
            await said(tmp_path, "was taken back")
            await made.play(events[-AFTER:], 100.0)
            await made.settle()
            return made

    line = held(asyncio.run(main()), tmp_path, (live, tried), [*sent, *events[-AFTER:]])
    assert re.fullmatch(
        rf"challenger {tried[:8]} was taken back: {one.why}, over \d+ comparisons", line
    ), line
