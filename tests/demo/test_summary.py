"""The summary: the plain line, the round in words, and one JSON object at the end."""

import json
from pathlib import Path

import pytest

from tests.demo.test_compare import played as played_twice
from tests.demo.test_view import played, worker
from worker.demo.compare import compare
from worker.demo.learning import Learned
from worker.demo.summary import Ended, summarise

LEARNED = Learned(
    promoted=True,
    reason="promoted: relevance better",
    champion="old",
    bundle="new",
    seconds={"simulate": 1.0, "collect": 2.0, "run": 3.0, "swap": 4.0},
)
REFUSED = Learned(
    promoted=False, reason="refused: worse", champion="old", bundle="new", seconds={"run": 3.0}
)


def test_all_answered_is_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summarise(Ended(played(3), "ab12"), worker(tmp_path), as_json=False) == 0
    assert "events 3 lists 3 lost 0 duplicates 0" in capsys.readouterr().out.splitlines()


def test_a_lost_event_is_a_failure_with_the_worker_s_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarise(Ended(played(2), "ab12"), worker(tmp_path), as_json=False) == 1
    said = capsys.readouterr().out
    assert "events 3 lists 2 lost 1 duplicates 0" in said.splitlines()
    assert "the last words" in said


def test_json_is_one_object_on_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summarise(Ended(played(3), "ab12"), worker(tmp_path), as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["events"], told["lists"], told["lost"], told["model"]) == (3, 3, 0, "ab12")
    assert told["decision"] is None


def test_a_round_is_told_with_both_bundles_and_the_quality_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, pairs = played_twice(needs=4)
    ended = Ended(tally, "old", LEARNED, compare(tally, pairs, "old", "new"))
    assert summarise(ended, worker(tmp_path), as_json=True) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert "bundle before old" in lines
    assert "bundle after  new" in lines
    assert any(line.startswith("quality before") for line in lines)
    assert told["decision"] == {"promoted": True, "reason": LEARNED.reason}
    assert (told["before"]["model"], told["after"]["model"]) == ("old", "new")
    assert told["after"]["ndcg"] > told["before"]["ndcg"]
    assert told["change"]["needs"] == 4
    assert {row["diversity"] for row in told["dials"]} == {0.3}


def test_a_refusal_is_a_good_end_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarise(Ended(played(3), "old", REFUSED), worker(tmp_path), as_json=True) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert "gate: refused: worse" in lines
    told = json.loads(last)
    assert (told["after"]["model"], told["trained"]) == ("old", "new")
    assert told["change"] is None
