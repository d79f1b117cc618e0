"""`python -m training loop`: a round on a schedule, when enough is new or has changed.

Killed at any point it goes on with the round that was open: see `training.rounds`. What makes a
round impossible is logged and counted, whatever it is, and the next turn begins with what is then
there: see `given_up`. Only a folder that cannot be used (BadRound) ends the loop.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from export.bundle import BundleError
from export.calibrate import CalibrationError
from export.registry import Registry, RegistryError
from training.logs import BadLogs, Expired
from training.rounds import BadRound, Outcome, Round, latest
from training.telemetry import Telemetry
from worker.errors import PrismrankError

LOG = logging.getLogger(__name__)
LONGEST: Final = 3_600.0  # seconds between looks, after failures
PASSING: Final = (BadRound, BadLogs, RegistryError, OSError)  # a store that is away, other settings
KNOWN: Final = (PrismrankError, BundleError, CalibrationError, RegistryError, OSError)


class LoopSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a round begins."""

    every_seconds: Annotated[float, Meta(gt=0, description="a round at the latest after this")] = (
        86_400.0
    )
    new_lists: Annotated[
        int, Meta(ge=1, description="a round as soon as this many ranked lists are new")
    ] = 20_000
    look_seconds: Annotated[float, Meta(gt=0, description="between looks at the tables")] = 30.0
    keep_rounds: Annotated[int, Meta(ge=1, description="rounds whose folders are kept whole")] = 5
    metrics_host: Annotated[str, Meta(description="where metrics listen")] = "127.0.0.1"
    metrics_port: Annotated[
        int, Meta(ge=0, le=65_535, description="port of Prometheus metrics; 0 for any free one")
    ] = 8_471


def due(settings: LoopSettings, last: Outcome | None, fresh: int, now: datetime) -> str | None:
    """Why a round is due now; None while it is not. `fresh`: lists since the last round."""
    if fresh >= settings.new_lists:
        return f"{fresh} lists are new, {settings.new_lists} are enough"
    if last is None:
        return "there was no round yet" if fresh else None
    waited = now - last.ended
    if waited >= timedelta(seconds=settings.every_seconds):
        return f"the last round ended {waited.total_seconds():.0f} s ago"
    return None


class Loop:
    """Rounds, one after the other, until it is stopped."""

    def __init__(
        self,
        settings: LoopSettings,
        rounds: Path,
        one_round: Callable[[], Outcome],
        fresh_lists: Callable[[Outcome | None], int],
        drifted: Callable[[Outcome, datetime], str | None],
        registry: Registry,
        alias: str,
        telemetry: Telemetry,
        stop: threading.Event,
    ) -> None:
        """`one_round` begins a round, or goes on with the one that is open; `drifted` says what
        changed since the last one, where that is to begin another."""
        self._settings, self._rounds, self._stop = settings, rounds, stop
        self._one_round, self._fresh_lists, self._drifted = one_round, fresh_lists, drifted
        self._registry, self._alias, self._telemetry = registry, alias, telemetry

    def run(self, most: int | None = None) -> int:
        """Rounds until `stop` is set, `most` at the most; how many ended.

        After each failure in a row it waits twice as long, up to an hour.
        """
        ended, pause = 0, self._settings.look_seconds
        with only_one(self._rounds):
            while not self._stop.is_set() and (most is None or ended < most):
                try:
                    ended += self._turn()
                    pause = self._settings.look_seconds
                except Exception as error:
                    self._failed(error)
                    pause = min(2 * pause, max(LONGEST, self._settings.look_seconds))
                if most is None or ended < most:
                    self._stop.wait(pause)
        return ended

    def _failed(self, error: Exception) -> None:
        """Log and count it; what nobody foresaw with its traceback. BadRound goes on up."""
        trace = None if isinstance(error, KNOWN) else error
        said = f"{type(error).__name__}: {error}" if trace else error
        LOG.error("the round cannot go on: %s; the live model stays", said, exc_info=trace)
        self._telemetry.failures.labels(type(error).__name__).inc()
        if isinstance(error, BadRound):
            raise error

    def _turn(self) -> bool:
        """One look; whether a round ended."""
        now = datetime.now(UTC)
        self._telemetry.age(self._promoted_at(), now)
        last = latest(self._rounds)
        ended = last.outcome() if last else None
        if last is None or ended is not None:
            why = due(self._settings, ended, self._fresh_lists(ended), now)
            if why is None and ended is not None:
                why = self._drifted(ended, now)
            if why is None:
                return False
            LOG.info("a round is due: %s", why)
        else:
            LOG.info("round %s is open: going on with it", last.folder.name)
        outcome = self._one_round()
        LOG.info("round %d ended: %s", outcome.number, outcome.reason)
        self._telemetry.rounds.labels("promoted" if outcome.promoted else "refused").inc()
        self._telemetry.tell(outcome)
        self._telemetry.age(self._promoted_at(), datetime.now(UTC))
        return True

    def _promoted_at(self) -> datetime | None:
        """When the alias was last moved."""
        try:
            moves = [each.at for each in self._registry.history() if each.alias == self._alias]
        except (RegistryError, OSError):
            return None
        return datetime.fromisoformat(moves[-1]) if moves else None


@contextmanager
def given_up(one: Round) -> Iterator[None]:
    """A round that fails is dropped: gone on with, it would fail on what it has pinned for ever.

    So it is with too few lists, a loss that is no number, a snapshot that is no longer kept, and
    whatever nobody foresaw. What is PASSING leaves it open, and what was made of it stays.
    """
    try:
        yield
    except Exception as error:
        if one.folder.exists() and (isinstance(error, Expired) or not isinstance(error, PASSING)):
            LOG.warning("%s is given up: what begins there next begins anew", one.folder)
            one.abandon()
        raise


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """One loop a folder: a second one is refused. The lock goes with the process, however it ends.

    Raises BadRound where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadRound(f"{folder}: another process is running rounds here") from error
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        yield
