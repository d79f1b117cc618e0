"""What the demo says at its end: plain lines for people, one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from worker.demo.children import Worker
from worker.demo.compare import Change
from worker.demo.learning import Learned
from worker.demo.tally import Quality, Tally
from worker.demo.view import MEASURES, curve_table

LATEST: Final = 50  # lists: what a worker whose cache has warmed up takes


@dataclass(frozen=True, slots=True)
class Ended:
    """A play at its end."""

    tally: Tally
    digest: str  # of the bundle that it began with
    learned: Learned | None = None  # none where no round was played, or none to its end
    change: Change | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The bundles that served, in order."""
        promoted = self.learned is not None and self.learned.promoted
        return (self.digest, self.learned.bundle) if promoted and self.learned else (self.digest,)


def summarise(ended: Ended, worker: Worker, as_json: bool) -> int:
    """Print the summary; the exit status."""
    tally = ended.tally
    events, lists = len(tally.sent), len(tally.answers)
    for model in ended.models:
        Console().print(curve_table(tally, model))
    print(
        f"produce to list: p50 {tally.latency_ms(0.5):.0f} ms, p99 {tally.latency_ms(0.99):.0f} ms"
        f" with the two cold starts and without the outage; the last {LATEST}: "
        f"p50 {tally.latency_ms(0.5, LATEST):.0f} ms, p99 {tally.latency_ms(0.99, LATEST):.0f} ms"
    )
    print(f"{tally.lists_per_second:.1f} lists/s, all told")
    for seconds in tally.outages:
        print(f"killed with kill -9; the next list came {seconds:.1f} s later")
    for line in round_lines(ended):
        print(line)
    print(f"degraded {tally.degraded} dead letters {len(tally.dead)}")
    print(f"events {events} lists {lists} lost {tally.lost} duplicates {tally.duplicates}")
    complete = events == tally.planned and tally.lost == 0
    if not complete:
        print(f"{tally.planned - events} of {tally.planned} were never sent; {worker.diagnosis()}")
    if as_json:
        print(json.dumps(summary(ended)), flush=True)
    return 0 if complete else 1


def round_lines(ended: Ended) -> Iterator[str]:
    """The round of learning in plain lines; none where none was played."""
    learned, change = ended.learned, ended.change
    if learned is None:
        return
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in learned.seconds.items())
    yield f"one round: {spent}"
    yield f"gate: {learned.reason}"
    if learned.promoted:
        yield f"bundle before {learned.champion}"
        yield f"bundle after  {learned.bundle}"
    else:
        yield f"bundle {learned.champion} serves on: what moves below is chance"
    if change is None:
        yield "quality: no need was answered both before and after the round"
        return
    yield (
        f"quality before {change.before.ndcg:.3f} after {change.after.ndcg:.3f}: nDCG@10 moved by"
        f" {change.ndcg:+.3f} (95 % between {change.low:+.3f} and {change.high:+.3f}) on the same"
        f" {change.needs} needs (a user's taste and words), {change.lists} lists each"
    )


def summary(ended: Ended) -> dict[str, object]:
    """The summary as values."""
    tally = ended.tally
    return {
        "events": len(tally.sent),
        "lists": len(tally.answers),
        "lost": tally.lost,
        "duplicates": tally.duplicates,
        "dead_letters": len(tally.dead),
        "degraded": tally.degraded,
        "kills": len(tally.outages),
        "outage_seconds": [round(seconds, 2) for seconds in tally.outages],
        "p50_ms": round(tally.latency_ms(0.5), 1),
        "p99_ms": round(tally.latency_ms(0.99), 1),
        "latest": LATEST,
        "latest_p50_ms": round(tally.latency_ms(0.5, LATEST), 1),
        "latest_p99_ms": round(tally.latency_ms(0.99, LATEST), 1),
        "lists_per_second": round(tally.lists_per_second, 2),
        "model": ended.digest,
        "dials": [
            {"diversity": dial, "lists": count, "engine": _values(engine), "ranked": _values(ours)}
            for dial, count, engine, ours in tally.curve(ended.digest)
        ],
        **_round(ended),
    }


def _round(ended: Ended) -> dict[str, object]:
    learned, change = ended.learned, ended.change
    if learned is None:
        return dict.fromkeys(("decision", "before", "after", "change"))
    return {
        "decision": {"promoted": learned.promoted, "reason": learned.reason},
        "trained": learned.bundle,
        "round_seconds": learned.seconds,
        "before": {"model": learned.champion, **(_values(change.before) if change else {})},
        "after": {"model": learned.serving, **(_values(change.after) if change else {})},
        "change": change
        and {
            "ndcg": round(change.ndcg, 4),
            "low": round(change.low, 4),
            "high": round(change.high, 4),
            "needs": change.needs,
            "lists": change.lists,
        },
    }


def _values(quality: Quality) -> dict[str, float]:
    return {name: round(getattr(quality, name), 4) for name in MEASURES}
