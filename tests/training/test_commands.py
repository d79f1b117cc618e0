"""What the commands answer, refuse and leave behind."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.training import tiny
from tests.training.conftest import Made, begin
from tests.training.log_rows import append, ranked_list, record
from tests.training.test_rounds import outcome
from training.__main__ import main
from training.commands import fresh_lists, live_model
from training.loop import only_one
from training.rounds import Outcome
from training.service import pin
from training.telemetry import Telemetry
from training.upkeep import retain
from worker import codec
from worker.scoring.overlap import Overlap


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def ready(shop: Made, root: Path) -> Made:
    """Another shop of the same base, whose zero-shot bundle is there."""
    made = begin(root, Path(shop.config.model.base))
    shutil.copytree(Path(shop.config.work) / "zero-shot", Path(made.config.work) / "zero-shot")
    return made


def test_simulated_visits_go_on_where_the_logs_end(
    shop: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ready(shop, tmp_path)
    few = msgspec.structs.replace(made.config.simulate, visits=6)
    file = tiny.write_config(made.file, msgspec.structs.replace(made.config, simulate=few))
    for _ in range(2):
        arguments = ["simulate", str(file), "--judgments", str(made.graded), "--json"]
        assert main(arguments) == 0
        assert last_line(capsys)["searches"] == 6
    logs = made.config.logs.open()
    ids = [one.query_id for one in logs.searches(logs.snapshot())]
    assert ids == [f"q-0-{number:06d}" for number in range(12)]


def test_simulated_visits_as_files_leave_the_logs_alone(
    shop: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ready(shop, tmp_path)
    few = msgspec.structs.replace(made.config.simulate, visits=5, users=20)
    file = tiny.write_config(made.file, msgspec.structs.replace(made.config, simulate=few))
    items = tmp_path / "items.jsonl"
    lines = [
        {"item_id": f"i{number}", "title": f"{word} shoe", "category": "shoe", "brand": "Acme"}
        for number, word in enumerate(("red", "blue", "trail", "running", "rain", "wool"))
    ]
    items.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "visits"
    command = ["simulate", str(file), "--catalogue", str(items), "--jsonl", str(out), "--json"]
    assert main(command) == 0
    found = last_line(capsys)
    assert (found["searches"], found["lists"], found["items"]) == (5, 5, 6)
    assert len((out / "lists.jsonl").read_bytes().splitlines()) == 5
    assert not Path(made.config.logs.url).exists()


def test_the_live_model_is_what_was_promoted_else_the_base_itself(
    first_round: Made, zero_shot: Path, shop: Made, tmp_path: Path
) -> None:
    live = live_model(first_round.config)
    assert live.digest == first_round.registry.resolve("live")
    assert live.pairs is not None
    base = live_model(ready(shop, tmp_path).config)
    assert base.pairs is None
    assert base.digest != Overlap.digest


def test_another_base_is_another_zero_shot_bundle(shop: Made, tmp_path: Path) -> None:
    made = ready(shop, tmp_path)
    other = Path(made.config.work) / "zero-shot" / "0000000000000000"
    (known,) = (Path(made.config.work) / "zero-shot").iterdir()
    known.rename(other)
    live_model(made.config)
    assert {each.name for each in other.parent.iterdir()} == {known.name, other.name}


def test_only_lists_that_the_last_round_did_not_read_are_new(first_round: Made) -> None:
    telemetry = Telemetry()
    last = first_round.round(1).outcome()
    assert last is not None
    assert fresh_lists(first_round.config, telemetry, None) == tiny.VISITS
    assert fresh_lists(first_round.config, telemetry, last) == 0
    rows = telemetry.registry.get_sample_value("prismrank_training_rows", {"table": "lists"})
    assert rows == tiny.VISITS


def test_lists_that_cannot_be_decoded_or_were_retired_are_not_counted_as_new(
    tmp_path: Path,
) -> None:
    made = begin(tmp_path, tmp_path)
    logs, now = made.config.logs.open(), datetime.now(UTC)
    value = codec.encode(ranked_list("q"))

    def add(first: int, values: list[bytes], at: datetime) -> None:
        known = {"topic": "ranked-lists", "timestamp": at}
        append(logs, [record(n, each, **known) for n, each in enumerate(values, first)], "lists")

    def new() -> int:
        return fresh_lists(made.config, Telemetry(), made.round(1).outcome())

    add(0, [value] * 30 + [b"garbage"] * 5, now - timedelta(days=366))
    assert new() == 30
    made.round(1).begin(lambda: pin(made.config, 1, made.registry))
    made.round(1).end(outcome(1))
    assert new() == 0
    assert retain(logs, made.config.logs, now) == 35
    assert new() == 0
    add(35, [value] * 20 + [b"garbage"], now)
    assert new() == 20


def test_a_round_whose_loss_is_no_number_is_not_taken_up_again(
    shop: Made, zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = begin(
        tmp_path,
        Path(shop.config.model.base),
        lambda one: msgspec.structs.replace(
            one,
            logs=shop.config.logs,
            recipe=msgspec.structs.replace(one.recipe, learning_rate=1e6, head_learning_rate=1e6),
        ),
    )
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    assert main(["run", str(made.file)]) == 2
    assert "the loss of step" in capsys.readouterr().err
    assert not made.round(1).folder.exists()


def test_a_loop_makes_its_rounds_and_ends(
    first_round: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first round's stages are there, so the loop has only to judge, publish and end it."""
    replace = msgspec.structs.replace
    made = begin(
        tmp_path,
        Path(first_round.config.model.base),
        lambda one: replace(
            one, logs=first_round.config.logs, loop=replace(one.loop, metrics_port=0)
        ),
    )
    work = Path(first_round.config.work)
    shutil.copytree(work / "zero-shot", Path(made.config.work) / "zero-shot")
    for stage in ("trained", "draft"):
        shutil.copytree(work / "rounds" / "0001" / stage, made.round(1).folder / stage)
    assert main(["loop", str(made.file), "--rounds", "1"]) == 0
    ended = made.round(1).outcome()
    assert isinstance(ended, Outcome)
    assert ended.promoted
    assert made.registry.resolve("live") == ended.bundle


def test_a_round_beside_a_running_loop_is_refused(
    shop: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ready(shop, tmp_path)
    with only_one(Path(made.config.work) / "rounds"):
        assert main(["run", str(made.file)]) == 2
    assert "another process is running rounds here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], r"expected CONFIG\.toml, or --judgments"),
        (["run", "--judgments", "labels.jsonl"], "expected CONFIG"),
        (["run", "--judgments", "labels.jsonl", "--out", "{}/out"], "expected --base"),
        (["run", "--judgments", "{}/none.jsonl", "--base", "b", "--out", "{}/o"], "none.jsonl"),
    ],
)
def test_a_run_that_lacks_something_says_what(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(tmp_path) for word in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says.replace("\\", "") in said
    assert list(tmp_path.iterdir()) == []
