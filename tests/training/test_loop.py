"""The loop: when a round begins, and that there is only one of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from export.registry import Registry
from tests.training.test_rounds import outcome, pinned
from training.loop import Loop, LoopSettings, due, only_one
from training.rounds import BadRound, Outcome, next_round
from training.telemetry import Telemetry
from worker.errors import PrismrankError

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
SETTINGS = LoopSettings(every_seconds=3_600, new_lists=100, look_seconds=0.001)


@pytest.mark.parametrize(
    ("age", "fresh", "wanted"),
    [
        (None, 0, None),
        (None, 1, "there was no round yet"),
        (timedelta(minutes=1), 99, None),
        (timedelta(minutes=1), 100, "100 lists are new, 100 are enough"),
        (timedelta(hours=1), 0, "the last round ended 3600 s ago"),
    ],
)
def test_a_round_is_due_by_time_or_by_what_is_new(
    age: timedelta | None, fresh: int, wanted: str | None
) -> None:
    last = None if age is None else outcome()
    assert due(SETTINGS, last, fresh, NOW + (age or timedelta())) == wanted


class Rounds:
    """Rounds that end at once, except that the given ones fail first."""

    def __init__(self, folder: Path, failures: int = 0) -> None:
        self.folder, self.failures, self.begun = folder, failures, 0

    def __call__(self) -> Outcome:
        self.begun += 1
        number, one = next_round(self.folder)
        one.begin(lambda: pinned(number))
        if self.failures:
            self.failures -= 1
            raise PrismrankError("the registry is out of reach")
        return one.end(outcome(number))


def loop(tmp_path: Path, rounds: Rounds, telemetry: Telemetry, fresh: int = 100) -> Loop:
    registry = Registry(tmp_path / "registry")
    return Loop(
        SETTINGS,
        tmp_path / "rounds",
        rounds,
        lambda _last: fresh,
        registry,
        "live",
        telemetry,
        threading.Event(),
    )


def test_rounds_follow_one_another_while_enough_is_new(tmp_path: Path) -> None:
    telemetry = Telemetry()
    rounds = Rounds(tmp_path / "rounds")
    assert loop(tmp_path, rounds, telemetry).run(most=3) == 3
    value = telemetry.registry.get_sample_value
    assert value("prismrank_training_rounds_total", {"decision": "refused"}) == 3
    assert value("prismrank_training_loss", {"objective": "loss"}) == 0.5
    assert value("prismrank_training_ended_timestamp_seconds") == NOW.timestamp()


def test_a_round_that_could_not_go_on_is_counted_and_taken_up_again(tmp_path: Path) -> None:
    telemetry = Telemetry()
    rounds = Rounds(tmp_path / "rounds", failures=2)
    assert loop(tmp_path, rounds, telemetry, fresh=1).run(most=1) == 1
    assert rounds.begun == 3
    last = next_round(tmp_path / "rounds")[0]
    assert last == 2, "the failed turns went on with round 1"
    failures = telemetry.registry.get_sample_value(
        "prismrank_training_failures_total", {"error": "PrismrankError"}
    )
    assert failures == 2


def test_a_second_loop_over_the_same_rounds_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(BadRound, match="another process"), only_one(tmp_path):
        pytest.fail("two loops ran at once")


def test_the_lock_is_free_once_its_holder_ended(tmp_path: Path) -> None:
    with only_one(tmp_path):
        pass
    with only_one(tmp_path):
        assert (tmp_path / "lock").read_text().isdigit()
