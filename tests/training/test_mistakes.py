"""Ordinary mistakes on the command line: one line that says what is wrong, and status 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from training.__main__ import main
from worker.ranking.diversify import METHODS

CONFIG = """
work = "{work}"
[model]
base = "b"
[logs]
url = "logs"
[loop]
metrics_port = {port}
"""
JUDGE = ["evaluate", "--bundle", "b", "--judgments", "labels.jsonl"]
LABELS = ["run", "--judgments", "labels.jsonl", "--base", "b"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration, one whose `work` is below a file, and that file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "bad.jsonl").write_text('{"item_id": "a"}\n{"item_id": 5\n')
    (tmp_path / "c.toml").write_text(CONFIG.format(work="work", port=0))
    (tmp_path / "below.toml").write_text(CONFIG.format(work="file/kept", port=0))
    return tmp_path


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that ends with status 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "c.toml", "--catalogue", "none.jsonl"], "none.jsonl: No such file"),
        (["simulate", "c.toml", "--catalogue", "."], ".: Is a directory"),
        (["simulate", "c.toml", "--catalogue", "bad.jsonl"], "bad.jsonl:2: $: expected one JSON"),
        (["simulate", "c.toml", "--jsonl", "file/x"], "--jsonl 'file/x': expected a folder, and"),
        (["run", "below.toml"], "file/kept/rounds: Not a directory; the command ends"),
        (["loop", "below.toml"], "file/kept/rounds: Not a directory; the command ends"),
        ([*LABELS, "--out", "file/x"], "--out 'file/x': expected a folder, and file is a file"),
        (["run", "c.toml", "--seed", "-1"], "--seed '-1': expected a whole number from 0 to"),
        (["run", "c.toml", "--seed", str(2**32)], "from 0 to 4294967295; nothing was begun"),
        (["loop", "c.toml", "--rounds", "-1"], "--rounds '-1': expected a whole number from 1 to"),
        (["loop", "c.toml", "--rounds", "0"], "--rounds '0': expected a whole number from 1 to"),
        (["loop", "c.toml", "--rounds", "two"], "--rounds 'two': expected a whole number"),
        (["collect", "c.toml", "--replay-from", "-5"], "--replay-from '-5': expected a whole"),
        ([*JUDGE, "--methods", "mmr,foo"], "--methods 'mmr,foo': expected some of"),
        ([*JUDGE, "--methods", "foo"], ", ".join(METHODS)),
        ([*JUDGE, "--methods", ","], "--methods ',': expected some of"),
        ([*JUDGE, "--seed", "-1"], "--seed '-1': expected a whole number from 0 to"),
        ([*JUDGE, "--plot", "nope/x.png"], "--plot 'nope/x.png': expected a file NAME.png in a"),
        ([*JUDGE, "--plot", "file/x.png"], "in a folder that is there; nothing was begun"),
        ([*JUDGE, "--plot", "x.exe"], "--plot 'x.exe': expected a file NAME.png"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_made(
    here: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.iterdir())
    assert says in said(arguments, capsys)
    assert sorted(here.iterdir()) == before


def test_a_loop_whose_port_is_taken_begins_no_round(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (here / "c.toml").write_text(CONFIG.format(work="work", port=port))
        says = f"loop.metrics_port {port} of loop.metrics_host '127.0.0.1': Address already in use"
        assert says in said(["loop", "c.toml", "--rounds", "1"], capsys)
    assert not (here / "work").exists()
