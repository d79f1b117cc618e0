"""A round's folder: nothing half done is ever taken for done."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from training.gate import Decision
from training.rounds import (
    BadRound,
    Outcome,
    Pinned,
    Round,
    latest,
    next_round,
    tidy,
    write_whole,
)

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)


def pinned(number: int = 1, lists: int = 0) -> Pinned:
    return Pinned(number=number, began=NOW, champion=None, config="c", snapshot={"lists": lists})


def outcome(number: int = 1) -> Outcome:
    return Outcome(
        number=number,
        ended=NOW,
        bundle="ab",
        champion=None,
        promoted=False,
        reason="refused",
        counts={"lists": 2.0},
        losses={"loss": 0.5},
        decision=Decision(promote=False, reason="refused", checks=()),
    )


def test_what_is_pinned_stays_as_it_was_when_the_round_began(tmp_path: Path) -> None:
    first = Round(tmp_path / "0001").begin(lambda: pinned(lists=1))
    again = Round(tmp_path / "0001").begin(lambda: pinned(lists=2))
    assert first == again == pinned(lists=1)


def test_a_finished_stage_is_not_made_again(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        folder.mkdir()
        (folder / "result").write_text("42")

    for _ in range(2):
        folder = Round(tmp_path / "0001").stage("trained", make)
        assert (folder / "result").read_text() == "42"
    assert len(made) == 1
    assert [each.name for each in (tmp_path / "0001").iterdir()] == ["trained"]


@pytest.mark.parametrize(("goes_on", "found"), [(True, ["half", "rest"]), (False, ["rest"])])
def test_a_stage_that_was_killed_is_not_visible_and_goes_on_or_begins_anew(
    tmp_path: Path, goes_on: bool, found: list[str]
) -> None:
    def dies(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise KeyboardInterrupt

    def lives(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "rest").touch()

    one = Round(tmp_path / "0001")
    with pytest.raises(KeyboardInterrupt):
        one.stage("trained", dies, goes_on=goes_on)
    assert not (tmp_path / "0001" / "trained").exists()
    folder = one.stage("trained", lives, goes_on=goes_on)
    assert sorted(each.name for each in folder.iterdir()) == found


def test_an_open_round_goes_before_a_new_one(tmp_path: Path) -> None:
    number, first = next_round(tmp_path)
    assert number == 1
    first.begin(pinned)
    assert next_round(tmp_path)[0] == 1
    first.end(outcome())
    number, second = next_round(tmp_path)
    assert number == 2
    second.begin(lambda: pinned(2))
    last = latest(tmp_path)
    assert last is not None
    assert last.folder.name == "0002"


def test_a_garbled_folder_is_named_and_left_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "0001" / "round.json", b'{"number": "one"}')
    with pytest.raises(BadRound, match=r"round\.json.*number.*begin it anew"):
        Round(tmp_path / "0001").begin(pinned)


def test_old_rounds_keep_their_story_and_lose_their_weight(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        one = Round(tmp_path / f"{number:04d}")
        one.begin(lambda number=number: pinned(number))  # type: ignore[misc]
        one.stage("trained", lambda folder: folder.mkdir())
        if number < 3:
            one.end(outcome(number))
    tidy(tmp_path, keep=1)
    kept = {each.name: (each / "trained").exists() for each in sorted(tmp_path.iterdir())}
    assert kept == {"0001": False, "0002": True, "0003": True}
    assert Round(tmp_path / "0001").outcome() == outcome(1)
