"""The picture, which can be drawn at any moment, and the plain lines."""

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


def test_a_plain_screen_does_not_repeat_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(view, "LINE_SECONDS", 0.0)
    screen = view.PlainScreen()
    for _ in range(3):
        screen.show(played(1))
    assert capsys.readouterr().out.count("1/3 lists") == 1
