"""What the demo says: the summary's plain line, and a picture that can be drawn at any moment."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.demo.test_tally import SHOP, answer, asked
from worker.demo import view
from worker.demo.children import Worker
from worker.demo.tally import Tally


def played(answered: int, planned: int = 3) -> Tally:
    tally = Tally(SHOP, planned=planned)
    visits = [asked(tally, n, now=0.0) for n in range(planned)]
    for visit in visits[:answered]:
        tally.answer(answer(visit), now=1.0)
    return tally


def worker(folder: Path) -> Worker:
    log = folder / "worker.log"
    log.write_text("the last words\n")
    return Worker("127.0.0.1:9", folder, log)


@pytest.mark.parametrize("answered", [0, 1, 3])
def test_the_picture_can_be_drawn_at_any_moment(answered: int) -> None:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(view.picture(played(answered), "worker: ready"))
    drawn = captured.get()
    assert f"{answered}/3 lists" in drawn
    assert ("the engine's order (nDCG" in drawn) == (answered > 0)


def test_all_answered_is_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert view.summarise(played(3), "ab12", worker(tmp_path), as_json=False) == 0
    assert "events 3 lists 3 lost 0 duplicates 0" in capsys.readouterr().out.splitlines()


def test_a_lost_event_is_a_failure_with_the_worker_s_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert view.summarise(played(2), "ab12", worker(tmp_path), as_json=False) == 1
    said = capsys.readouterr().out
    assert "events 3 lists 2 lost 1 duplicates 0" in said.splitlines()
    assert "the last words" in said


def test_json_is_one_object_on_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view.summarise(played(3), "ab12", worker(tmp_path), as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["events"], told["lists"], told["lost"], told["model"]) == (3, 3, 0, "ab12")
    assert [row["diversity"] for row in told["dials"]] == [0.3]
