"""A trained bundle as a model: both graphs and the category head, through the worker's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import bundle
from export.build import Order, build
from export.bundle import Blend, Curve
from export.session import Session, open_session
from tests.export.models import save_base, save_trained
from tests.factories import candidate, event, joined, random_search
from worker import codec
from worker.ranking.bundled import Bundled
from worker.ranking.categories import category_probabilities
from worker.ranking.model import TokenBudget
from worker.ranking.pairs import read_pairs
from worker.ranking.rerank import rerank
from worker.scoring.live import open_model
from worker.settings import Settings

BLEND = Blend(
    pair=1.5,
    cosine=0.5,
    intercept=-0.25,
    engine=1.0,
    features={"ctr": Curve(knots=(0.0, 0.5, 1.0), weight=0.5)},
    origin="a test",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT as encoder, another as pair model, a category head, and a blend."""
    base = save_base(tmp_path_factory.mktemp("base"), "bert")
    trained = save_trained(tmp_path_factory.mktemp("trained") / "t", base, "cls", ("hats", "shoes"))
    out = tmp_path_factory.mktemp("bundles") / "trained"
    build(Order(str(base), out, adapter=trained), say=lambda line: None)
    bundle.seal(out, msgspec.structs.replace(bundle.read(out), blend=BLEND))
    return out


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    return open_session(folder, device="cpu")


@settings(max_examples=20)
@given(
    seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    tokens=st.integers(1, 400),
    rows=st.integers(1, 9),
    most=st.integers(1, 8),
)
def test_lists_are_byte_equal_under_any_micro_batching(
    session: Session, seeds: list[int], order: Any, tokens: int, rows: int, most: int
) -> None:
    searches = [
        joined(random_search(seed, 6, query_id=f"q{n}"), pair_candidates=most)
        for n, seed in enumerate(seeds)
    ]
    alone = {s.event.query_id: codec.encode(rerank([s], Bundled(session))[0]) for s in searches}
    shuffled = list(searches)
    order.shuffle(shuffled)
    model = Bundled(session, 7, TokenBudget(padded_tokens=tokens, rows=rows))
    assert {a.query_id: codec.encode(a) for a in rerank(shuffled, model)} == alone


def test_relevance_is_the_blend_of_what_the_graphs_give(session: Session) -> None:
    items = [candidate("a", title="trail shoe", score=1.0), candidate("b", title="hat", score=2.0)]
    search = joined(event(items, user_query="shoe"))
    found = {one.item_id: one.relevance for one in rerank([search], Bundled(session))[0].items}
    for share, (name, title) in enumerate((("a", "trail shoe"), ("b", "hat"))):
        (pair,) = session.tokenize_pairs([("shoe", title)])
        row = {"input_ids": np.array([pair.ids]), "token_type_ids": np.array([pair.types])}
        logit = session.run("model", row | {"attention_mask": np.ones_like(row["input_ids"])})
        query, item = (_vector(session, text) for text in ("shoe", title))
        blended = BLEND.pair * logit["relevance"][0] + BLEND.cosine * (query @ item)
        blended += BLEND.engine * (share - 0.5) + BLEND.intercept
        assert found[name] == pytest.approx(1 / (1 + np.exp(-blended)), abs=1e-4)


def test_an_item_that_names_no_category_has_that_of_the_head(session: Session) -> None:
    items = [candidate(str(n), title=f"item {n}") for n in range(6)]
    search = joined(event(items, diversity=1.0), method="coverage")
    model = Bundled(session)
    assert rerank([search], model)[0].pair_count == 6
    assert set(model.readings) == {"running shoes", *(f"item {n}" for n in range(6))}
    found = category_probabilities(search, model.readings, model)
    logits = session.run("encoder", _texts(session, ["item 3"]))["category"][0]
    assert found[3] == pytest.approx(np.exp(logits) / np.exp(logits).sum(), abs=1e-6)


def test_an_opened_model_has_run_both_graphs_and_remembers_nothing_of_it(folder: Path) -> None:
    told: list[int] = []
    model, _ = open_model(folder, Settings(device="cpu"), told.append)
    assert model.pairs is not None
    assert not model.readings
    warm = len(told)
    assert warm % 2 == 0
    read_pairs([("shoe", "trail shoe")], model.pairs, model.budget)
    assert len(told) == warm + 1


def _vector(session: Session, text: str) -> Any:
    return session.run("encoder", _texts(session, [text]))["vector"][0]


def _texts(session: Session, texts: list[str]) -> dict[str, Any]:
    ids = np.array(session.tokenize(texts))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
