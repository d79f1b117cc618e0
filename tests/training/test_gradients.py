"""Integrated gradients: they add up, they find what a model reads, and they name whose it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.build import Order, build
from export.bundle import BundleError, Segment, Template
from export.models import PairModel
from export.session import open_session
from export.tokenizer import PairTokenizer
from tests.export.models import make_model, save_trained
from tests.factories import PairOverlap, candidate, event, joined
from tests.training import tiny
from training.__main__ import main
from training.explained import gradients_markdown
from training.gradients import Gradients, _asked, _shown, integrated
from training.parts import PAST, QUERY, Pair, Part
from training.uses import HAS, LACKS, TOLD, uses
from worker.events import HistoryEntry, Item
from worker.ranking.bundled import Bundled
from worker.ranking.join import Tables

POOLINGS = {"bert": "product", "roberta": "mean", "distilbert": "cls", "qwen3": "last"}


def pair_model(family: str, seed: int) -> PairModel:
    torch.manual_seed(seed)
    trunk = make_model(family).requires_grad_(False)
    model = PairModel(trunk, POOLINGS[family]).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.weight)
    if family == "qwen3":  # at a row of zeros its norms jump; a base that was trained has none
        torch.nn.init.normal_(trunk.get_input_embeddings().weight[1], std=0.3)
    return model.requires_grad_(False)


@pytest.mark.parametrize("family", POOLINGS)
@settings(max_examples=5)
@given(seed=st.integers(0, 999), length=st.integers(3, 16))
def test_they_add_up_to_the_logit_less_the_baselines(family: str, seed: int, length: int) -> None:
    """Completeness: proposition 1 of the paper."""
    model = pair_model(family, seed)
    ids = torch.randint(4, 40, (1, length))
    types = (torch.arange(length) >= length // 2).long()[None] if family == "bert" else None
    read = torch.arange(length) != 0
    found = integrated(model, ids, read, types, steps=100)
    assert found.values[0] == 0.0, "a mark stays as it is"
    size = max(1.0, np.abs(found.values).sum())
    assert found.values.sum() == pytest.approx(found.whole - found.nothing, abs=0.01 * size)
    more = {} if types is None else {"token_type_ids": types}
    assert found.whole == pytest.approx(model(ids, torch.ones_like(ids), **more).item(), abs=1e-4)


class Linear(torch.nn.Module):
    """A trunk whose states are its word vectors, each times its place."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(9, 3)
        self.config = type("Config", (), {"pad_token_id": padding, "hidden_size": 3})()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.words

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        places = torch.arange(1.0, 1.0 + input_ids.shape[1])[:, None]
        return type("Output", (), {"last_hidden_state": self.words(input_ids) * places})()


@pytest.mark.parametrize("padding", [None, 1])
def test_of_a_linear_model_each_token_adds_its_own_part(padding: int | None) -> None:
    torch.manual_seed(4)
    trunk: Any = Linear(padding)
    model = PairModel(trunk, "mean").requires_grad_(False)
    ids, read = torch.tensor([[2, 5, 7]]), torch.tensor([True, True, False])
    nothing = torch.zeros(3) if padding is None else trunk.words.weight[padding]
    found = integrated(model, ids, read, steps=1)
    for place, word in enumerate(ids[0].tolist()):
        way = trunk.words.weight[word] - nothing if read[place] else torch.zeros(3)
        wanted = float((way * (1 + place) / 3) @ model.head.weight[0])
        assert found.values[place] == pytest.approx(wanted, abs=1e-6)


def test_tokens_know_where_they_come_from(base: Path) -> None:
    (tokens,) = PairTokenizer(base, 12)([("ab", "cde")])
    again, spans = PairTokenizer(base, 12).spans(("ab", "cde"))
    assert again == tokens
    assert [None if s is None else (s.text, s.start, s.end) for s in spans] == [
        *(None, (0, 0, 1), (0, 1, 2), None),
        *((1, 0, 1), (1, 1, 2), (1, 2, 3), None),
    ]


def test_the_parts_of_both_texts_stand_where_they_are_written() -> None:
    template = Template(
        query_before="q: ",
        item_before="i: ",
        history=1,
        item=(
            Segment(field="title"),
            Segment(field="brand", before=" | "),
            Segment(field="price", before=" | "),
        ),
    )
    item = candidate("a", title="red shoe", price=9.5)
    past = Tables(catalogue={"b": Item(item_id="b", title="wool hat")})
    search = joined(
        event([item], user_query="wool coat", history=(HistoryEntry(item_id="b"),)), past
    )
    pair = Pair(search, 0, PairOverlap())
    query, history = "q: wool coat | wool hat", len("q: wool coat")
    asked = list(_asked(pair, template))
    assert [(part, query[a:b]) for part, a, b in asked[:2]] == [
        (Part(QUERY, "wool", 0), "wool "),
        (Part(QUERY, "coat", 1), "coat"),
    ]
    assert [(part, since) for part, since, _ in asked[2:]] == [(Part(PAST, "", 0), history)]
    text = "i: red shoe | 9.5"
    assert [(part, text[a:b]) for part, a, b in _shown(pair, template)] == [
        (Part("title", "red", 0), "red "),
        (Part("title", "shoe", 1), "shoe"),
        (Part("price", "", 0), "9.5"),
    ]


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a pair model of random weights."""
    folder = tmp_path_factory.mktemp("gradients")
    adapter = save_trained(folder / "model", base, "cls")
    build(Order(str(base), folder / "bundle", adapter=adapter), lambda _line: None)
    return folder / "bundle"


def test_words_and_fields_of_a_bundles_pair_add_up(trained: Path) -> None:
    session = open_session(trained, device="cpu")
    items = [candidate("a", title="red shoe"), candidate("b", title="a | b" * 40)]
    search = joined(event(items, user_query="red hat"))
    for row in range(2):  # the second is cut
        one = Gradients(session, steps=100).of(Pair(search, row, Bundled(session)))
        total = one.values.sum() + one.rest
        assert total == pytest.approx(one.whole - one.nothing, abs=0.05)
        assert sum(one.by_field().values()) == pytest.approx(one.values.sum())
        assert set(one.by_field()) == {QUERY, "title"}
        told = gradients_markdown(one)
        assert f"{one.whole:.3f}, {one.nothing:.3f}" in told
        assert "As wholes: query " in told


def test_a_reports_uses_are_the_same_for_one_seed_and_its_edits_are_falls(trained: Path) -> None:
    session = open_session(trained, device="cpu")
    sets = {"dev": tiny.queries(6)}
    found = uses(session, sets, 3)
    assert found is not None
    assert found == uses(open_session(trained, device="cpu"), sets, 3)
    assert set(found.sizes) <= {HAS, LACKS, "title"}
    assert len(found.edits) <= TOLD
    assert all(" the relevance falls by " in line for line in found.edits)
    assert found.markdown().startswith("| part | mean")
    assert uses(session, {"none": []}, 3) is None


def test_gradients_are_asked_for(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graded = tiny.write_graded(tmp_path / "graded.jsonl", tiny.queries(2, size=3))
    command = ["explain", "--bundle", str(trained), "--judgments", str(graded), "--pairs", "2"]
    assert main([*command, "--evaluations", "16", "--gradients", "--json", "--markdown"]) == 0
    said = capsys.readouterr().out
    assert said.count("| word, by gradients | adds to the logit |") == 2
    for one in json.loads(said.splitlines()[-1])["explanations"]:
        parts = sum(each["adds"] for each in one["gradients"]["parts"])
        assert parts == pytest.approx(sum(one["gradients"]["fields"].values()))


def test_a_bundle_without_its_weights_has_no_gradients(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "weights")
    with pytest.raises(BundleError, match="no trained pair model in weights: no gradients"):
        Gradients(open_session(tmp_path / "bare", device="cpu"))
