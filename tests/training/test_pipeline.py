"""A round from logs to a promoted bundle: whole, once, and repeatable."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from random import Random

import msgspec
import pytest

from export import bundle
from tests.chaos.killing import Killer, Watch
from tests.export.models import save_base
from tests.training import tiny
from tests.training.conftest import Made, begin
from training import pipeline
from training.__main__ import main
from training.augment import Augment
from training.config import Config
from training.debias import DebiasSettings
from training.recipe import Recipe
from training.rounds import OUTCOME, BadRound, Outcome
from training.service import begins_with, begun, pin
from training.sources import CHAMPION, Replay, Teacher
from training.uses import HAS, LACKS, PAIRS

WEIGHTS = "weights/model.safetensors"
REPORT = {
    *("report/report.json", "report/report.md", "report/decision.json"),
    *("report/frontier.png", "report/losses.png", "report/examination.png"),
}


def outcome(made: Made, number: int) -> Outcome:
    found = made.round(number).outcome()
    assert found is not None
    return found


def copy(made: Made, root: Path) -> Made:
    """The same shop in another folder: its logs where they are, all else its own."""
    shutil.copytree(made.config.registry.url, root / "registry")
    shutil.copytree(made.config.work, root / "work")
    return begin(
        root,
        Path(made.config.model.base),
        lambda one: msgspec.structs.replace(one, logs=made.config.logs),
    )


def test_a_round_ends_with_a_sealed_bundle_that_tells_how_it_came_about(first_round: Made) -> None:
    ended = outcome(first_round, 1)
    folder = first_round.registry.fetch(ended.bundle, first_round.root)
    manifest = bundle.verify(folder, ended.bundle)
    assert {name for name in manifest.files if name.startswith("report/")} == REPORT
    report = json.loads((folder / "report/report.json").read_bytes())
    assert report["decision"]["reason"] == ended.reason
    assert [each["set"] for each in report["sets"]] == ["held-out"]
    assert report["losses"]
    methods = {row["method"] for row in report["sets"][0]["rows"]}
    assert methods == {"random", "bm25", "cosine", "zero-shot", "zero-shot + dial", "challenger"}
    page = (folder / "report/report.md").read_text()
    assert page.startswith("# Promoted\n")
    assert f"The base model as it comes ({report['champion'][:12]}) -> this one:\n" in page
    assert "By the default recipe, but for " in page
    assert "learning_rate 0.001" in page
    assert "## What the model uses\n" in page
    uses = report["uses"]
    assert set(uses["sizes"]) == {HAS, LACKS, "title"}
    assert 0 < uses["pairs"] <= PAIRS
    assert all(re.search(r": without '.+' the relevance falls by", line) for line in uses["edits"])
    for name in ("frontier", "losses", "examination"):
        assert (folder / f"report/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert manifest.blend is not None
    assert manifest.blend.origin.startswith("fitted on ")
    assert manifest.categories == tiny.CATEGORIES


def test_what_the_gate_lets_pass_serves_and_the_history_says_why(first_round: Made) -> None:
    ended = outcome(first_round, 1)
    assert ended.promoted
    assert ended.champion is None
    assert ended.reason.startswith("promoted: relevance on held-out better")
    assert first_round.registry.resolve("live") == ended.bundle
    (change,) = first_round.registry.history()
    assert (change.digest, change.action) == (ended.bundle, "promote")
    assert change.reason == f"round 1: {ended.reason}"
    assert ended.counts["lists"] == ended.counts["lists_kept"] == tiny.VISITS


def test_what_a_person_let_serve_during_the_round_is_left_there(
    first_round: Made, zero_shot: Path, tmp_path: Path
) -> None:
    made = copy(first_round, tmp_path)
    ended = outcome(first_round, 1)
    (made.round(1).folder / OUTCOME).unlink()
    other = made.registry.publish(zero_shot)
    shutil.rmtree(Path(made.config.registry.url) / "aliases")
    (Path(made.config.registry.url) / "history.jsonl").unlink()

    def incident(line: str) -> None:
        if line == "publishing":
            made.registry.promote(other, reason="an incident: this one must serve")

    again = pipeline.run_round(made.config, 1, made.round(1), incident)
    assert not again.promoted
    assert (
        again.reason == f"{ended.reason}; live was moved during the round, to {other}: left there"
    )
    assert made.registry.resolve("live") == other


def test_a_round_that_ended_is_not_made_again(first_round: Made) -> None:
    said: list[str] = []
    again = pipeline.run_round(first_round.config, 1, first_round.round(1), said.append)
    assert again == outcome(first_round, 1)
    assert said == []


def test_the_next_round_begins_with_what_was_promoted(first_round: Made, tmp_path: Path) -> None:
    made = copy(first_round, tmp_path)
    assert main(["run", str(made.file)]) == 0
    first, second = outcome(made, 1), outcome(made, 2)
    folder = made.registry.fetch(second.bundle, tmp_path)
    assert second.champion == bundle.read(folder).parent == first.bundle
    report = json.loads((folder / "report/report.json").read_bytes())
    assert "champion" in {row["method"] for row in report["sets"][0]["rows"]}
    # From the same rows comes the same model: nothing is better, and nothing moves.
    assert second.reason.startswith("refused: nothing asked for got better")
    assert made.registry.resolve("live") == first.bundle
    assert second.bundle in made.registry.digests()
    weights = [(made.registry.fetch(one.bundle, tmp_path) / WEIGHTS) for one in (first, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_round_can_go_on_from_what_serves_be_taught_by_it_and_draw_from_older_periods(
    first_round: Made, tmp_path: Path
) -> None:
    made = copy(first_round, tmp_path)
    recipe = Recipe(
        start="champion",
        interpolate=0.0,  # all the way back to what it began with
        teacher=Teacher(folder=CHAMPION),
        replay=Replay(share=0.5, period_days=1e-6),
        augment=Augment(synthetic=1.0),
        max_steps=1,
        threads=1,
    )
    said: list[str] = []
    rows = DebiasSettings(rows="impression")
    model = msgspec.structs.replace(made.config.model, most_categories=0)
    config = msgspec.structs.replace(made.config, recipe=recipe, debias=rows, model=model)
    ended = pipeline.run_round(config, 2, made.round(2), said.append)
    first = outcome(made, 1)
    weights = [made.registry.fetch(one.bundle, tmp_path) / WEIGHTS for one in (first, ended)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert ended.champion == first.bundle
    assert ended.losses["distilled"] >= 0.0
    told = {" ".join(line.split()[:5]) for line in said}
    assert "reading 4 lists to learn" in told, "the newest, an older one, and as many made of both"
    assert any(line.startswith("the teacher scores ") for line in said)


@pytest.mark.parametrize("champion", ["none", "of another base", "without weights"])
def test_what_cannot_be_gone_on_from_is_told_and_the_base_stands_in(
    first_round: Made, zero_shot: Path, tmp_path: Path, champion: str
) -> None:
    made = copy(first_round, tmp_path)
    config = msgspec.structs.replace(made.config, recipe=Recipe(start="champion"))
    said: list[str] = []
    digest = None
    if champion == "of another base":
        other = save_base(tmp_path / "other", "roberta")
        config = msgspec.structs.replace(
            config, model=msgspec.structs.replace(config.model, base=str(other))
        )
        digest = outcome(made, 1).bundle
    if champion == "without weights":
        digest = made.registry.publish(zero_shot)
    assert begins_with(config, digest, said.append) is None
    whys = {
        "none": "nothing serves yet",
        "of another base": "came from another base",
        "without weights": "has no weights",
    }
    assert len(said) == 1
    assert whys[champion] in said[0]


def test_a_round_learns_from_what_each_user_had_done_before(
    first_round: Made, zero_shot: Path, tmp_path: Path
) -> None:
    def by_impression(one: Config) -> Config:
        return msgspec.structs.replace(
            one,
            logs=first_round.config.logs,
            model=msgspec.structs.replace(one.model, history=2),
            debias=msgspec.structs.replace(one.debias, rows="impression"),
            recipe=msgspec.structs.replace(one.recipe, epochs=1),
        )

    made = begin(tmp_path, Path(first_round.config.model.base), by_impression)
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    assert main(["run", str(made.file)]) == 0
    folder = made.registry.fetch(outcome(made, 1).bundle, tmp_path)
    template = bundle.verify(folder).pair_template
    assert template is not None
    assert template.history == 2
    assert "Behind the query stand up to 2 items" in (folder / "README.md").read_text()


def test_without_logs_there_is_nothing_to_learn_and_nothing_is_left_behind(
    first_round: Made, zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = begin(tmp_path, Path(first_round.config.model.base))
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    assert main(["run", str(made.file)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: 0 graded pairs of 0 lists to learn from")
    assert said.endswith("nothing was trained")
    assert list((Path(made.config.work) / "rounds").glob("*")) == [
        Path(made.config.work) / "rounds" / "lock"
    ]
    assert made.registry.digests() == []


def test_an_open_round_is_not_gone_on_with_under_other_settings(
    first_round: Made, tmp_path: Path
) -> None:
    made = begin(tmp_path, Path(first_round.config.model.base))
    changed = msgspec.structs.replace(
        made.config, gate=msgspec.structs.replace(made.config.gate, latency_ratio=9.0)
    )
    one = made.round(1)

    def began(config: object) -> str:
        settings = made.config if config is made.config else changed
        return begun(one, settings.digest, lambda: pin(settings, 1, made.registry)).config

    assert began(made.config) == made.config.digest
    assert began(changed) == changed.digest, "nothing was made of it: it begins anew"
    one.stage("trained", lambda folder: folder.mkdir())
    with pytest.raises(BadRound, match=r"0001/round\.json: begun with other settings.*remove its"):
        began(made.config)
    assert began(changed) == changed.digest


def test_a_round_that_is_killed_at_every_turn_ends_as_if_it_had_not_been(
    first_round: Made, zero_shot: Path, tmp_path: Path
) -> None:
    made = begin(
        tmp_path,
        Path(first_round.config.model.base),
        lambda one: msgspec.structs.replace(one, logs=first_round.config.logs),
    )
    shutil.copytree(zero_shot, Path(made.config.work) / "zero-shot" / zero_shot.name)
    with Watch(made.config) as watch:
        killer = Killer(made.config, made.file, Random(3))
        killed = killer.round(1, ["trained", "bundle", "publish"])
    assert {"trained", "bundle"} <= set(killed)
    ended, undisturbed = outcome(made, 1), outcome(first_round, 1)
    folders = [
        each.registry.fetch(one.bundle, tmp_path)
        for each, one in ((made, ended), (first_round, undisturbed))
    ]
    first, second = ((folder / WEIGHTS).read_bytes() for folder in folders)
    assert first == second
    reports = [json.loads((folder / "report/report.json").read_bytes()) for folder in folders]
    assert reports[0]["losses"] == reports[1]["losses"]
    assert reports[0]["sets"] == reports[1]["sets"]
    blends = [bundle.read(folder).blend for folder in folders]
    assert blends[0] == blends[1]
    seen = watch.found()
    assert seen["half_bundles"] == 0
    assert seen["outcomes_written"] == {"0001": 1}
    assert ended.promoted
    assert [change.digest for change in made.registry.history()] == [ended.bundle]
