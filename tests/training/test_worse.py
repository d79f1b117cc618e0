"""Models that are worse on purpose: the gate stops each for its own reason, the old one serves."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper

from export import bundle
from export.bundle import BundleError, Goldens
from export.registry import Registry
from export.session import open_session, replay
from tests.training import tiny
from tests.training.conftest import Made, begin
from training import pipeline
from training.__main__ import main
from training.assess import Bench, side
from training.dataset import LabelledList, labelled, split_by_query
from training.dossier import DECISION
from training.gate import Decision
from training.judgments import worth_measuring
from training.pipeline import Lesson
from training.rounds import Outcome


def with_draft(made: Made, root: Path, spoil: Callable[[Path], None]) -> Made:
    """The shop with a second round whose model is drafted: the first one's, spoiled."""
    shutil.copytree(made.config.registry.url, root / "registry")
    shutil.copytree(Path(made.config.work) / "zero-shot", root / "work" / "zero-shot")
    copied = begin(
        root,
        Path(made.config.model.base),
        lambda one: msgspec.structs.replace(
            one,
            logs=made.config.logs,
            gate=msgspec.structs.replace(one.gate, latency_ratio=1.5),
        ),
    )
    for stage in ("trained", "draft"):
        shutil.copytree(made.round(1).folder / stage, copied.round(2).folder / stage)
    spoil(copied.round(2).folder / "draft")
    return copied


def ended(made: Made) -> Outcome:
    found = made.round(2).outcome()
    assert found is not None
    return found


def old_one_serves(made: Made, first: Made) -> None:
    """The alias has not moved, the history says nothing new, and the challenger is on record."""
    outcome = ended(made)
    assert not outcome.promoted
    assert made.registry.resolve("live") == outcome.champion == first.registry.resolve("live")
    assert len(made.registry.history()) == 1
    assert outcome.bundle in made.registry.digests()
    bundle.verify(made.registry.fetch(outcome.bundle, made.root))


def failed(decision: Decision) -> set[str]:
    return {check.measure for check in decision.checks if check.verdict == "worse"}


def four_times(draft: Path) -> None:
    """Let the pair graph do all its work four times over, one after the other, for equal outputs.

    A run's tokens are the first one's plus 0 times the result of the run before it, which no
    optimiser drops.
    """
    path = draft / "onnx" / "model.onnx"
    model = onnx.load(path)
    graph = model.graph
    _rename(graph.node, {"relevance": "result"})
    made = {name for node in graph.node for name in node.output}
    once, before = GraphProto(), "result"
    once.CopyFrom(graph)
    for run in ("second", "third", "fourth"):
        again = GraphProto()
        again.CopyFrom(once)
        _rename(again.node, {name: f"{run}/{name}" for name in (*made, "input_ids")})
        for node in again.node:
            node.name = f"{run}/{node.name}"
        none, token, tokens = (f"{run}/no {name}" for name in ("difference", "token", "tokens"))
        chain = [
            helper.make_node("Mul", [before, "nothing"], [none]),
            helper.make_node("Cast", [none], [token], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", [token, "column"], [tokens]),
            helper.make_node("Add", ["input_ids", tokens], [f"{run}/input_ids"]),
        ]
        graph.node.extend([*chain, *again.node])
        before = f"{run}/result"
    graph.node.append(helper.make_node("Identity", [before], ["relevance"]))
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])
    column = helper.make_tensor("column", TensorProto.INT64, [1], [1])
    graph.initializer.extend([nothing, column])
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _rename(nodes: Iterable[NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        for places in (node.input, node.output):
            for index, name in enumerate(places):
                places[index] = names.get(name, name)


def with_false_goldens(draft: Path) -> None:
    goldens = Goldens.read(draft)
    assert goldens.relevance is not None
    msgspec.structs.replace(goldens, relevance=goldens.relevance + 0.5).write(draft)


def test_a_model_that_takes_four_times_as_long_is_refused_for_its_latency(
    first_round: Made, tmp_path: Path
) -> None:
    made = with_draft(first_round, tmp_path, four_times)
    assert main(["run", str(made.file)]) == 0
    outcome = ended(made)
    assert failed(outcome.decision) == {"latency"}
    assert outcome.reason.startswith("refused: latency on the model graph worse")
    assert "at most 1.5" in outcome.reason
    (check,) = (one for one in outcome.decision.checks if one.measure == "latency")
    assert check.challenger is not None
    assert check.challenger > 1.5  # about 4; on a busy machine the clock says more or less
    old_one_serves(made, first_round)


def test_a_model_whose_goldens_do_not_replay_is_refused_before_anything_is_measured(
    first_round: Made, tmp_path: Path
) -> None:
    made = with_draft(first_round, tmp_path, with_false_goldens)
    assert main(["run", str(made.file)]) == 0
    outcome = ended(made)
    assert outcome.reason.startswith("refused: goldens on this device")
    assert "goldens differ by 0.5 in relevance" in outcome.reason
    assert [check.measure for check in outcome.decision.checks] == ["goldens"]
    old_one_serves(made, first_round)
    published = made.registry.fetch(outcome.bundle, tmp_path)
    with pytest.raises(BundleError, match="goldens differ"):
        replay(open_session(published, device="cpu"))  # what a worker does before a swap


def flipped(one: LabelledList) -> LabelledList:
    return replace(one, grades=1.0 - one.grades)


def test_a_model_that_learned_the_opposite_is_refused_for_its_relevance(
    first_round: Made, zero_shot: Path, tmp_path: Path
) -> None:
    registry = first_round.registry
    live = registry.resolve("live")
    assert live is not None
    made = begin(tmp_path, Path(first_round.config.model.base))
    truth = tiny.queries(40, seed=2)
    learn, kept = split_by_query([flipped(one) for one in labelled(truth)], 0.25)
    sets = {"dev": worth_measuring(truth)}
    base, champion = (
        side(open_session(folder, device="cpu"))
        for folder in (zero_shot, registry.fetch(live, tmp_path))
    )
    bench = Bench(base, champion, made.config)
    lesson = Lesson(learn, kept, sets, {"queries": len(truth)})
    sealed = pipeline.learned(made.config, made.round(2), lesson, bench, live, print)
    decision = msgspec.json.decode((sealed / DECISION).read_bytes(), type=Decision)
    assert not decision.promote
    assert "relevance" in failed(decision)
    assert "goldens" not in failed(decision)
    assert decision.reason.startswith("refused: relevance on dev worse")
    digest = Registry(made.config.registry.url).publish(sealed)
    assert bundle.read(sealed).parent == live != digest
    assert registry.resolve("live") == live
