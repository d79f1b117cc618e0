"""What every benchmark shares: alternating clocks, and a report that names commit and machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WARM_UP = 3


def medians_us(
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median microseconds of each, in turns, so that both meet the same noise. `clock` counts the
    seconds; `time.process_time` those of this process alone, which a busy machine moves less."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(-WARM_UP, rounds):
        for kept, call in zip(times, (ours, peer), strict=True):
            start = clock()
            call()
            if turn >= 0:
                kept.append((clock() - start) * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


def show(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """The rows as a table; with `as_json` also as one line of JSON, the last of stdout."""
    names = list(rows[0])
    lines = [[_text(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *lines, strict=True)]
    for line in (names, *lines):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if as_json:
        print(json.dumps({"commit": commit(), "machine": machine(), "rows": rows}))


def commit() -> str:
    """The commit that is measured, marked where files differ from it; "none" outside a history."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "none"


def machine() -> str:
    """The processor's name and how many cores this process may use."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, {len(os.sched_getaffinity(0))} cores"


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def finished(path: Path) -> list[dict[str, Any]]:
    """The lines of JSON that were finished; one that a kill cut short is dropped, and made anew."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if whole != lines:
        path.write_bytes(b"".join(whole))
    return [json.loads(line) for line in whole]
