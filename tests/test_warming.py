"""A new machine compiles what serves first, and the rest in a process beside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LAPS = """
from worker import warming
for _ in range(2):
    cold = warming.warm_first("mmr")
    print(cold, warming.WHOLE.exists())
    if cold:
        warming.warm_rest()
"""


def started(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A process that keeps machine code in `folder`; nothing is compiled, so it takes no minute."""
    told = os.environ | {"XDG_CACHE_HOME": str(folder), "NUMBA_DISABLE_JIT": "1"}
    told.pop("NUMBA_CACHE_DIR", None)
    return subprocess.run(
        [sys.executable, "-c", code], env=told, capture_output=True, text=True, check=False
    )


def test_a_second_start_finds_all_that_the_first_had_compiled_beside(tmp_path: Path) -> None:
    first = started(tmp_path, LAPS)

    assert first.stdout.splitlines() == ["True False", "False True"], first.stderr
    assert started(tmp_path, LAPS).stdout.splitlines() == ["False True"] * 2


def test_a_child_that_fails_is_told_and_serving_goes_on(tmp_path: Path) -> None:
    broken = "from worker import warming; warming.CHILD = 'raise SystemExit(1)'; "

    found = started(
        tmp_path, broken + "warming.warm_rest(); print('serves', warming.WHOLE.exists())"
    )

    assert found.stdout.splitlines() == ["serves False"]
    assert "compiling ahead failed" in found.stderr


def test_where_nothing_can_be_kept_all_is_compiled_before_a_worker_is_ready(
    tmp_path: Path,
) -> None:
    (tmp_path / "prismrank").write_text("no folder can be made here")

    found = started(
        tmp_path, "from worker import warming; print(warming.WHOLE, warming.warm_first('mmr'))"
    )

    assert found.stdout.splitlines() == ["None False"], found.stderr
