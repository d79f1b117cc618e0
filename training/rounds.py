"""A round's folder: what it was given, what each stage finished, and how it ended.

A stage's result appears under its name whole or not at all, so a round that was killed anywhere
goes on where it was; what it reads was pinned when it began.

rounds/<number>/round.json    what is pinned: the rows, the champion
rounds/<number>/<stage>/…     what a stage finished
rounds/<number>/outcome.json  the end: the bundle, the decision and its reason
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from training.gate import Decision
from worker.errors import PrismrankError

PINNED: Final = "round.json"
OUTCOME: Final = "outcome.json"
Value = TypeVar("Value", bound=Struct)


class BadRound(PrismrankError):
    """A round's folder cannot be used. Nothing of it was changed, and nothing was promoted."""


class Pinned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a round was given when it began."""

    number: int
    began: datetime
    champion: str | None  # the digest that was live
    config: str  # sha256 of what decides over the result: another one is another round
    snapshot: dict[str, Any]  # of the log tables


class Outcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a round ended."""

    number: int
    ended: datetime
    bundle: str
    champion: str | None
    promoted: bool
    reason: str
    counts: dict[str, float]
    losses: dict[str, float]  # of the last steps that were logged, by name
    decision: Decision


class Round:
    """One round's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, pin: Callable[[], Pinned]) -> Pinned:
        """What is pinned: as it was when the round began, else as `pin` says now."""
        path = self.folder / PINNED
        if not path.exists():
            write_whole(path, msgspec.json.encode(pin()))
        return _read(path, Pinned)

    @property
    def untouched(self) -> bool:
        """Whether nothing was made yet from what is pinned."""
        stages = [each for each in self.folder.glob("*") if each.is_dir()]
        return not any(each.name[0] != "." or (each / "made").exists() for each in stages)

    def abandon(self) -> None:
        """Forget all of it, so that the round begins anew: at once, also where this is killed."""
        gone = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}")
        self.folder.rename(gone)
        shutil.rmtree(gone)

    def outcome(self) -> Outcome | None:
        """How the round ended; None while it has not."""
        path = self.folder / OUTCOME
        return _read(path, Outcome) if path.exists() else None

    def end(self, outcome: Outcome) -> Outcome:
        """The last word: after it the round is never taken up again."""
        write_whole(self.folder / OUTCOME, msgspec.json.encode(outcome))
        return outcome

    def stage(self, name: str, make: Callable[[Path], object], *, goes_on: bool = False) -> Path:
        """The folder of a finished stage, made by `make(folder)` where it is not there yet.

        What a killed `make` left is given to the next one where the stage `goes_on` from its own
        checkpoints, else it is removed first; nobody sees it under the stage's name.
        """
        finished, place = self.folder / name, self.folder / f".{name}"
        if not finished.exists():
            if place.exists() and not goes_on:
                shutil.rmtree(place)
            place.mkdir(parents=True, exist_ok=True)
            make(place / "made")
            (place / "made").rename(finished)
        if place.exists():
            shutil.rmtree(place)
        return finished


def latest(folder: Path) -> Round | None:
    """The round of the highest number under `folder`."""
    numbers = [int(each.name) for each in folder.glob("[0-9]*") if each.name.isdigit()]
    return Round(folder / f"{max(numbers):04d}") if numbers else None


def next_round(folder: Path) -> tuple[int, Round]:
    """(number, round): the one that has not ended yet, else a new one."""
    last = latest(folder)
    if last is None:
        return 1, Round(folder / "0001")
    number = int(last.folder.name)
    if last.outcome() is None:
        return number, last
    return number + 1, Round(folder / f"{number + 1:04d}")


def tidy(folder: Path, keep: int) -> None:
    """Drop all but what tells of a round (pinned, outcome) from all rounds but the newest."""
    ended = [each for each in sorted(folder.glob("[0-9]*")) if (each / OUTCOME).exists()]
    for old in ended[: max(0, len(ended) - keep)]:
        for path in old.iterdir():
            if path.is_dir():
                shutil.rmtree(path)


def write_whole(path: Path, content: bytes) -> None:
    """Readers see all of it or nothing, also after the power went."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _read(path: Path, kind: type[Value]) -> Value:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise BadRound(f"{path}: {error}; remove the round's folder to begin it anew") from error
