"""The configuration file: what is wrong in it is named, and nothing is begun."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.training import tiny
from training.__main__ import main
from training.config import BadConfig, Config, read

LEAST = 'work = "w"\n[model]\nbase = "b"\n[logs]\nurl = "l"\n'
SECTIONS = [name for name in Config.__struct_fields__ if name != "work"]


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_three_lines_are_a_configuration_and_all_else_has_a_default(tmp_path: Path) -> None:
    config = read(write(tmp_path, LEAST))
    assert (config.work, config.model.base, config.logs.url) == ("w", "b", "l")
    assert config.registry.alias == "live"


def test_a_configuration_that_is_written_down_is_read_as_it_was(tmp_path: Path) -> None:
    made = tiny.config(tmp_path, tmp_path / "base")
    assert read(tiny.write_config(tmp_path / "config.toml", made)) == made


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[judge]\nheld_out = 1.0", r"float` < 1.0.*\$\.judge\.held_out"),
        ("[judge]\nkept = 0.0", r"float` > 0.0.*\$\.judge\.kept"),
        ('[judge]\nmethod = "alphabet"', r"method 'alphabet': expected one of .*\$\.judge"),
        ("[judge]\ngolden = 3", r"array.*\$\.judge\.golden"),
        ("[gate]\nlatency_ratio = -1", r"float` > 0.0.*\$\.gate\.latency_ratio"),
        ("[gate.margins]\nrelevance = -0.1", r"float` >= 0.0.*\$\.gate\.margins"),
        ('[registry]\nurl = ""', r"length >= 1.*\$\.registry\.url"),
        ('[registry]\npromote = "yes"', r"bool.*\$\.registry\.promote"),
        ("[recipe]\nepochs = 0", r"int` >= 1.*\$\.recipe\.epochs"),
        ("[recipe]\nmax_list = 99", r"max_list 99: expected at most .*\$\.recipe"),
        ('[recipe]\nloss = "hinge"', r"'hinge'.*\$\.recipe\.loss"),
        ("[examination]\nplaces = 0", r"int` >= 1.*\$\.examination\.places"),
        ("[debias]\nclip = 2.0", r"float` <= 1.0.*\$\.debias\.clip"),
        ("[labels]\nwindow_hours = -1", r"\$\.labels\.window_hours"),
        ("[collect]\nbatch_rows = 0", r"int` >= 1.*\$\.collect\.batch_rows"),
        ("[loop]\nmetrics_port = 70000", r"int` <= 65535.*\$\.loop\.metrics_port"),
        ("[simulate]\nbots = 1.5", r"float` <= 1.0.*\$\.simulate\.bots"),
        *(
            (f"[{name}]\nwrong = 1", rf"unknown field `wrong`.*\$\.{name}")
            for name in SECTIONS[2:]
            if name != "tenants"
        ),
        ("[wrong]", "unknown field `wrong`"),
        ("[recipe]\nmax_step = 4", r"\$\.recipe`; was max_steps meant\?$"),
        ("[recipe]\nmost = 4", r"unknown field `most` - at `\$\.recipe`$"),
        ("[recipe]\nepochs = -3", r"int` >= 1 - at `\$\.recipe\.epochs`; got -3$"),
        ('[recipe]\ntuning = "loar"', r"`; expected one of adalora, .*, lora, rslora$"),
        ('[recipe.attack]\nkind = "fmg"', r"`; expected one of fgm, .*, smart$"),
        ('[[recipe.fairness.groups]]\nfeild = "brand"', r"groups\[0\]`; was field meant\?$"),
        ("[gate.margins]\nrelevance = -0.1", r"`; got -0\.1$|\$\.gate\.margins\[\.\.\.\]`$"),
        ("[judge", r"config\.toml: "),
    ],
)
def test_each_wrong_field_is_named_with_what_was_expected(
    more: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match=rf"config\.toml: .*{says}|{says}"):
        read(write(tmp_path, LEAST + more))


def test_a_past_is_learned_from_rows_that_have_a_user(tmp_path: Path) -> None:
    reading = LEAST.replace("[logs]", "history = 3\n[logs]")
    with pytest.raises(BadConfig, match=r'model\.history 3: expected debias\.rows "impression"'):
        read(write(tmp_path, reading))
    by_impression = reading + '[debias]\nrows = "impression"\n'
    assert read(write(tmp_path, by_impression)).model.pair_template.history == 3


def test_older_periods_are_replayed_from_rows_that_have_one(tmp_path: Path) -> None:
    replaying = LEAST + "[recipe.replay]\nshare = 0.5\n"
    with pytest.raises(BadConfig, match=r'share 0\.5: expected debias\.rows "impression"'):
        read(write(tmp_path, replaying))
    by_impression = replaying + '[debias]\nrows = "impression"\n'
    assert read(write(tmp_path, by_impression)).recipe.replay.share == 0.5


def test_a_precision_that_no_export_knows_is_refused_before_anything_is_learned(
    tmp_path: Path,
) -> None:
    asked = LEAST.replace("[logs]", 'variants = ["int8", "fp8"]\n[logs]')
    says = r"variants 'fp8': expected some of fp32, fp16, int8 - at `\$\.model`"
    with pytest.raises(BadConfig, match=says):
        read(write(tmp_path, asked))
    assert read(write(tmp_path, asked.replace("fp8", "fp16"))).model.variants == ("int8", "fp16")


@pytest.mark.parametrize("missing", ["work", "model", "logs"])
def test_what_has_no_default_is_asked_for(missing: str, tmp_path: Path) -> None:
    parts = {"work": 'work = "w"\n', "model": '[model]\nbase = "b"\n', "logs": '[logs]\nurl = "l"'}
    text = "".join(part for name, part in parts.items() if name != missing)
    with pytest.raises(BadConfig, match=f"missing required field `{missing}`"):
        read(write(tmp_path, text))


@pytest.mark.parametrize("command", ["run", "loop", "collect", "simulate"])
def test_every_command_ends_with_status_2_where_the_file_is_not_there(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.toml"
    assert main([command, str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path}: No such file or directory\n"


def test_the_digest_knows_what_decides_over_a_result_and_nothing_else(tmp_path: Path) -> None:
    config = tiny.config(tmp_path, tmp_path / "base")
    replace = msgspec.structs.replace
    elsewhere = tiny.config(tmp_path / "elsewhere", tmp_path / "base")
    assert elsewhere.digest == config.digest, "where things lie decides over nothing"
    assert replace(config, loop=replace(config.loop, look_seconds=1.0)).digest == config.digest
    for changed in (
        replace(config, recipe=replace(config.recipe, seed=1)),
        replace(config, gate=replace(config.gate, latency_ratio=1.0)),
        replace(config, judge=replace(config.judge, held_out=0.3)),
        replace(config, labels=replace(config.labels, window_hours=1.0)),
    ):
        assert changed.digest != config.digest
