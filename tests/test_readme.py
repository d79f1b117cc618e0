"""What the README tells people to type is what the commands take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from export.__main__ import parser as export_parser
from tests.generate import README
from training import config as configs
from training.__main__ import _parser as training_parser

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PARSERS = {"training": training_parser, "export": export_parser}


def blocks(language: str) -> list[str]:
    """The code blocks of one language; none is said of commands and drawings."""
    return [text for name, text in BLOCK.findall(README.read_text()) if name == language]


def commands() -> list[list[str]]:
    """The command lines of training and export, in words."""
    lines = (line for text in blocks("") for line in text.splitlines())
    words = (shlex.split(line, comments=True) for line in lines if line.startswith("python -m "))
    return [line for line in words if line[2] in PARSERS]


def test_the_configuration_in_the_readme_is_one(tmp_path: Path) -> None:
    text = "\n".join(blocks("toml"))
    path = tmp_path / "training.toml"
    path.write_text(text, encoding="utf-8")
    found = configs.read(path)
    assert [one.name for one in found.tenants] == ["de", "fr"]
    assert found.model.fields == ("title", "brand")
    assert found.judge.diversity == configs.JudgeSettings().diversity, "README says the default"


@pytest.mark.parametrize("line", commands(), ids=" ".join)
def test_a_command_in_the_readme_is_one(line: list[str]) -> None:
    options = PARSERS[line[2]]().parse_args(line[3:])
    assert callable(options.run)


def test_the_readme_shows_the_commands_of_training() -> None:
    shown = {line[3] for line in commands() if line[2] == "training"}
    assert shown == {
        *("collect", "run", "loop", "evaluate", "explain", "tune", "simulate", "warm-up", "tenants")
    }
