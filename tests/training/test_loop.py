"""The loop: when a round begins, and that there is only one of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from export.bundle import BundleError
from export.calibrate import CalibrationError
from export.registry import Registry, RegistryError
from tests.training.test_rounds import outcome, pinned
from training.logs import BadLogs, Expired
from training.loop import Loop, LoopSettings, due, given_up, only_one
from training.rounds import BadRound, Outcome, Round, next_round
from training.teach import NotEnough
from training.telemetry import Telemetry
from training.trainer import TrainingFailed

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


AWAY = OSError("the store is out of reach")


class Rounds:
    """Rounds that end at once; where a failure is given, a turn fails with it instead."""

    def __init__(self, folder: Path, turns: Sequence[Exception | None] = ()) -> None:
        self.folder, self.turns = folder, list(turns)
        self.pinned: list[int] = []  # of each turn, how many turns there had been

    def __call__(self) -> Outcome:
        number, one = next_round(self.folder)
        with given_up(one):
            begun = one.begin(lambda: pinned(number, lists=len(self.pinned)))
            self.pinned.append(begun.snapshot["lists"])
            if self.turns and (failure := self.turns.pop(0)):
                raise failure
        return one.end(outcome(number))


class Patience(threading.Event):
    """Waits for nothing, and keeps how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        return self.is_set()


def loop(
    tmp_path: Path,
    rounds: Rounds,
    telemetry: Telemetry,
    fresh: int = 100,
    settings: LoopSettings = SETTINGS,
    stop: threading.Event | None = None,
    changed: str | None = None,
) -> Loop:
    registry = Registry(tmp_path / "registry")
    return Loop(
        settings,
        tmp_path / "rounds",
        rounds,
        lambda _last: fresh,
        lambda _last, _now: changed,
        registry,
        "live",
        telemetry,
        stop or threading.Event(),
    )


def test_rounds_follow_one_another_while_enough_is_new(tmp_path: Path) -> None:
    telemetry = Telemetry()
    rounds = Rounds(tmp_path / "rounds")
    assert loop(tmp_path, rounds, telemetry).run(most=3) == 3
    value = telemetry.registry.get_sample_value
    assert value("prismrank_training_rounds_total", {"decision": "refused"}) == 3
    assert value("prismrank_training_loss", {"objective": "loss"}) == 0.5
    assert value("prismrank_training_ended_timestamp_seconds") == NOW.timestamp()


def test_what_has_changed_begins_a_round_and_the_log_says_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rounds, never = Rounds(tmp_path / "rounds"), LoopSettings(every_seconds=1e9, look_seconds=0.001)
    with caplog.at_level(logging.INFO):
        first = loop(tmp_path, rounds, Telemetry(), fresh=1, settings=never, changed="queries did")
        assert first.run(most=2) == 2
    assert [each.args for each in caplog.records if each.msg == "a round is due: %s"] == [
        ("there was no round yet",),
        ("queries did",),
    ]


@pytest.mark.parametrize(
    ("failure", "second"),
    [
        (TrainingFailed("the loss of step 3 is nan"), 1),
        (NotEnough("0 graded pairs"), 1),
        (Expired("lists: a snapshot is kept for `versions_days`"), 1),
        (BundleError("ab", "the champion is not in the registry"), 1),
        (CalibrationError("all grades are alike"), 1),
        (ValueError("zero-size array"), 1),
        (BadLogs("lists: the store is out of reach"), 0),
        (RegistryError("the alias is not text"), 0),
        (AWAY, 0),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_round_that_fails_is_given_up_unless_it_is_a_store_that_fails(
    tmp_path: Path, failure: Exception, second: int, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry()
    rounds = Rounds(tmp_path / "rounds", [failure])
    assert loop(tmp_path, rounds, telemetry, fresh=1).run(most=1) == 1
    assert rounds.pinned == [0, second], "what is pinned of the second turn, by its number"
    ended = Round(tmp_path / "rounds" / "0001").outcome()
    assert ended == outcome(1)
    count = telemetry.registry.get_sample_value(
        "prismrank_training_failures_total", {"error": type(failure).__name__}
    )
    assert count == 1
    (said,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert str(failure) in said.getMessage()
    assert bool(said.exc_info) == isinstance(failure, ValueError), "where a bug may be"


def test_after_failures_in_a_row_it_waits_longer_up_to_an_hour(tmp_path: Path) -> None:
    turns = [AWAY, AWAY, None, AWAY, *[ValueError("no good")] * 8, None]
    stop, slow = Patience(), LoopSettings(new_lists=1, look_seconds=30.0)
    rounds = Rounds(tmp_path / "rounds", turns)
    assert loop(tmp_path, rounds, Telemetry(), settings=slow, stop=stop).run(most=2) == 2
    long = [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]
    assert stop.waited == [60, 120, 30, *long]


def test_a_look_that_is_rarer_than_an_hour_becomes_no_more_frequent(tmp_path: Path) -> None:
    stop, rare = Patience(), LoopSettings(new_lists=1, look_seconds=7_200.0)
    loop(tmp_path, Rounds(tmp_path / "rounds", [AWAY]), Telemetry(), settings=rare, stop=stop).run(
        most=1
    )
    assert stop.waited == [7_200]


def test_a_round_of_other_settings_ends_the_loop_and_stays(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "rounds", [BadRound("begun with other settings")])
    with pytest.raises(BadRound, match="other settings"):
        loop(tmp_path, rounds, Telemetry()).run()
    assert next_round(rounds.folder)[1].begin(pinned) == pinned(1, lists=0)


def test_a_round_that_could_not_even_begin_leaves_nothing_to_give_up(tmp_path: Path) -> None:
    with pytest.raises(NotEnough, match="nothing at all"), given_up(Round(tmp_path / "0001")):
        raise NotEnough("nothing at all")


def test_a_second_loop_over_the_same_rounds_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(BadRound, match="another process"), only_one(tmp_path):
        pytest.fail("two loops ran at once")


def test_the_lock_is_free_once_its_holder_ended(tmp_path: Path) -> None:
    with only_one(tmp_path):
        pass
    with only_one(tmp_path):
        assert (tmp_path / "lock").read_text().isdigit()
