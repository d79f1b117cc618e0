"""Training as child processes that are killed at chosen stages, and the eyes on what they do."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from export.bundle import BundleError
from export.registry import Registry, RegistryError
from training.config import Config
from training.rounds import OUTCOME

LOOK_SECONDS = 0.002
PATIENCE_SECONDS = 300.0
SPREAD = {  # how long after a stage began it may be killed, at most: about as long as it takes
    "collect": 1.5,
    "zero-shot": 3.0,
    "trained": 3.0,
    "draft": 6.0,
    "bundle": 5.0,
    "publish": 0.02,
    "promote": 0.03,
}


def round_folder(config: Config, number: int) -> Path:
    """Where a round lies."""
    return Path(config.work) / "rounds" / f"{number:04d}"


class Killer:
    """Starts commands on one configuration, and kills them."""

    def __init__(self, config: Config, file: Path, chance: random.Random) -> None:
        self._config, self._file, self._chance = config, file, chance
        self._log = file.with_suffix(".log")

    def collect(self, kills: int) -> list[str]:
        """Collect to the end of the topics, killed so often before; where."""
        logs = Path(self._config.logs.url)
        killed = []
        for _ in range(kills):
            known = _files(logs)
            child = self._start("collect", "--once")
            if self._killed(child, "collect", lambda known=known: _files(logs) > known):  # type: ignore[misc]
                killed.append("collect")
        self._ended(self._start("collect", "--once"))
        return killed

    def round(self, number: int, stages: Sequence[str]) -> list[str]:
        """One round to its end, killed once in each of `stages`, in their order; where it was."""
        folder, killed = round_folder(self._config, number), []
        known = set(Registry(self._config.registry.url).digests())
        for stage in stages:
            if (folder / OUTCOME).exists():
                break
            begun = self._begun(stage, folder, known)
            if self._killed(self._start("run"), stage, begun):
                killed.append(stage)
        if not (folder / OUTCOME).exists():
            self._ended(self._start("run"))
        return killed

    def _begun(self, stage: str, folder: Path, known: set[str]) -> Callable[[], bool]:
        """Whether a stage is under way."""
        registry = Path(self._config.registry.url) / "bundles"
        match stage:
            case "zero-shot":
                return lambda: any((Path(self._config.work) / "zero-shot").glob(".*"))
            case "publish":
                return lambda: any(one.name not in known for one in registry.glob("*"))
            case "promote":
                written = registry.glob
                return lambda: any(
                    one.parent.name not in known for one in written("*/manifest.json")
                )
        return (folder / f".{stage}").exists

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        name, *options = command
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "training", name, str(self._file), *options],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _killed(
        self, child: subprocess.Popen[bytes], stage: str, begun: Callable[[], bool]
    ) -> bool:
        """kill -9 at a random moment after `begun`; whether it was still running."""
        limit = time.monotonic() + PATIENCE_SECONDS
        while not begun() and child.poll() is None and time.monotonic() < limit:
            time.sleep(LOOK_SECONDS)
        try:
            child.wait(self._chance.uniform(0.0, SPREAD[stage]))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return True
        return False

    def _ended(self, child: subprocess.Popen[bytes]) -> None:
        status = child.wait(PATIENCE_SECONDS)
        assert status == 0, self._log.read_text()[-3_000:]


class Watch:
    """Looks at registry and rounds all the time: what a worker could see at any moment."""

    def __init__(self, config: Config) -> None:
        Path(config.registry.url).mkdir(parents=True, exist_ok=True)
        self._registry, self._rounds = Registry(config.registry.url), Path(config.work) / "rounds"
        self._alias = config.registry.alias
        self._whole: set[str] = set()
        self._half: set[str] = set()
        self._outcomes: dict[str, set[tuple[int, int]]] = {}
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def found(self) -> dict[str, Any]:
        """How often it looked, and what it saw that must not be."""
        return {
            "looks": self.looks,
            "half_bundles": len(self._half),
            "outcomes_written": {name: len(seen) for name, seen in self._outcomes.items()},
        }

    def _look_on(self) -> None:
        while not self._end.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        visible = set(self._registry.digests())
        if (live := self._registry.resolve(self._alias)) is not None:
            visible.add(live)
        for digest in visible - self._whole - self._half:  # the moment that it is seen first
            try:
                self._registry.verify(digest)
                self._whole.add(digest)
            except (BundleError, RegistryError):
                self._half.add(digest)
        for path in self._rounds.glob(f"*/{OUTCOME}"):
            stat = path.stat()
            self._outcomes.setdefault(path.parent.name, set()).add((stat.st_ino, stat.st_mtime_ns))
        self.looks += 1


def _files(folder: Path) -> int:
    """How many commits there are."""
    return sum(1 for _ in folder.glob("*/_delta_log/*.json"))
