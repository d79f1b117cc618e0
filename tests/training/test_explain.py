"""That an explanation adds up to what is served, and that its edits tell the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.blend import Curve
from export.build import Order, build
from export.bundle import Segment, Template
from export.session import open_session
from tests.export.models import save_trained
from tests.factories import PairOverlap, candidate, event, joined
from tests.training import tiny
from training.__main__ import MISUSED, main
from training.explained import markdown, summary, told_edits
from training.parts import PAST, QUERY, Pair, Part, pieces
from training.reasons import Edit, Explanation, Shared, chosen, drawn, reasons
from training.shapley import Shares
from worker import codec
from worker.events import HistoryEntry, Item, SearchEvent
from worker.ranking.bundled import Bundled
from worker.ranking.join import Tables
from worker.ranking.model import Model
from worker.ranking.rerank import rerank
from worker.scoring.overlap import Overlap

ROUNDED = 1e-4  # what a list's relevance is rounded to
SAME = 1e-6
EVENT = event(
    [
        candidate("a", title="red trail shoe", score=3.0),
        candidate("b", title="wool hat", score=2.0),
        candidate("c", title="light rain coat, size 42 of 9 in all", score=1.0),
    ],
    user_query="red wool coat",
)


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny base with a pair model of random weights."""
    folder = tmp_path_factory.mktemp("trained")
    adapter = save_trained(folder / "model", tiny_base, "cls")
    build(Order(str(tiny_base), folder / "bundle", adapter=adapter), lambda _line: None)
    return folder / "bundle"


@pytest.fixture(scope="module", params=["zero_shot", "trained"])
def model(request: pytest.FixtureRequest) -> Model:
    """The encoder alone, and with a pair model."""
    return Bundled(open_session(request.getfixturevalue(request.param)))


def served(search: SearchEvent, model: Model, item_id: str, tables: Tables | None = None) -> float:
    (ranked,) = rerank([joined(search, tables)], model)
    (found,) = (item.relevance for item in ranked.items if item.item_id == item_id)
    assert found is not None
    return found


def retitled(search: SearchEvent, row: int, title: str) -> SearchEvent:
    candidates = list(search.candidates)
    candidates[row] = msgspec.structs.replace(candidates[row], title=title)
    return msgspec.structs.replace(search, candidates=tuple(candidates))


def without_word(text: str, place: int) -> str:
    kept = text.split()
    del kept[place]
    return " ".join(kept)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_attributions_add_up_to_the_relevance_that_is_served(model: Model, row: int) -> None:
    """The last title has more words than can be tried in all coalitions: they are sampled."""
    found = reasons(Pair(joined(EVENT), row, model), 256, 0)
    assert found.relevance == pytest.approx(served(EVENT, model, found.item.item_id), abs=ROUNDED)
    assert found.games["item"].found.errors.any() == (row == 2)
    for shared in found.games.values():
        assert len(shared.parts) == len(shared.found.values) > 0
        assert shared.found.whole == pytest.approx(found.relevance, abs=SAME)
        total = shared.found.values.sum()
        assert total == pytest.approx(found.relevance - shared.found.nothing, abs=SAME)


def test_words_of_a_query_are_worth_what_they_add_to_served_lists_over_all_orders(
    model: Model,
) -> None:
    """The textbook's sum, each relevance from `rerank`; nothing asked is a cosine of 0."""
    asked = EVENT.user_query.split()
    nothing = 1.0 / (1.0 + np.exp(-model.calibration.intercept))

    def worth(places: set[int]) -> float:
        text = " ".join(asked[place] for place in sorted(places))
        edited = msgspec.structs.replace(EVENT, user_query=text)
        return served(edited, model, "a") if text else nothing

    total = dict.fromkeys(range(3), 0.0)
    for order in permutations(range(3)):
        for number, place in enumerate(order):
            total[place] += (worth({*order[: number + 1]}) - worth({*order[:number]})) / 6
    shared = reasons(Pair(joined(EVENT), 0, model), 256, 0).games["query"]
    assert [part.text for part in shared.parts] == asked
    assert shared.found.values == pytest.approx(list(total.values()), abs=2 * ROUNDED)


def test_every_edit_tells_what_the_list_of_the_edited_search_says(model: Model) -> None:
    found = reasons(Pair(joined(EVENT), 0, model), 256, 0)
    kinds = set()
    for edit in found.edits:
        part, title = edit.part, EVENT.candidates[0].title or ""
        if part.field == QUERY:
            query = without_word(EVENT.user_query, part.place)
            edited = msgspec.structs.replace(EVENT, user_query=query)
        elif part.place < 0:
            edited = retitled(EVENT, 0, f"{title} {part.text}")
        else:
            edited = retitled(EVENT, 0, without_word(title, part.place))
        kinds.add((part.field, part.place < 0))
        assert edit.before == found.relevance
        assert edit.after == pytest.approx(served(edited, model, "a"), abs=ROUNDED)
        assert edit.line.endswith(f" ({edit.before:.2f} -> {edit.after:.2f})")
    assert kinds == {(QUERY, False), ("title", False), ("title", True)}
    assert {edit.part.text for edit in found.edits if edit.part.place < 0} == {"wool", "coat"}
    changes = [abs(edit.after - edit.before) for edit in found.edits]
    assert changes == sorted(changes, reverse=True)


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (
            Edit("without 'waterproof'", Part("title", "waterproof", 0), 0.83, 0.62),
            "without 'waterproof' the relevance falls by .21 (0.83 -> 0.62)",
        ),
        (
            Edit("with 'red' in the title", Part("title", "red", -1), 0.0, 1.0),
            "with 'red' in the title the relevance rises by 1.00 (0.00 -> 1.00)",
        ),
    ],
)
def test_an_edit_is_one_line(edit: Edit, line: str) -> None:
    assert edit.line == line


FIELDS = Template(
    item=(
        Segment(field="title"),
        Segment(field="brand", before=" "),
        Segment(field="size", before=" "),
    )
)
RICH = candidate(
    "a",
    title="red shoe",
    brand="Acme",
    category="shoes",
    score=4.0,
    attributes={"size": 42, "colour": "red"},
    features={"sales": 9.0, "age": 1.0},
)
TASTE = Tables(catalogue={"h": Item(item_id="h", title="wool hat")})


def rich_model() -> PairOverlap:
    """Reads title, brand and size, and weighs the engine's score and the sales."""
    curve = Curve(knots=(0.0, 10.0), weight=1.0)
    made = PairOverlap(engine=0.5, cosine=1.0, features={"sales": curve, "clicks": curve})
    made.template = FIELDS
    return made


def test_the_fields_of_a_pair_are_what_the_model_reads_of_it() -> None:
    """Each left out gives what a search without it is served with."""
    plain = candidate("b", title="wool coat", score=1.0)
    asked = event([RICH, plain], user_query="red shoe", history=(HistoryEntry(item_id="h"),))
    made = rich_model()
    pair = Pair(joined(asked, TASTE), 0, made)
    lacking: dict[str, dict[str, Any]] = {
        "brand": {"brand": None},
        "size": {"attributes": {"colour": "red"}},
        "features.sales": {"features": {"age": 1.0}},
        "score": {"score": None},
    }
    assert pair.fields() == ("title", *lacking, PAST)
    found = reasons(pair, 256, 0)
    after = {edit.part.field: edit.after for edit in found.edits if not edit.part.text}
    assert after.keys() == {*lacking, PAST}  # without a title it would be unknown
    for name, fields in lacking.items():
        edited = msgspec.structs.replace(RICH, **fields)
        search = msgspec.structs.replace(asked, candidates=(edited, plain))
        wanted = served(search, made, "a", TASTE)
        assert after[name] == pytest.approx(wanted, abs=ROUNDED)
        assert after[name] != pytest.approx(found.relevance, abs=ROUNDED)
    stranger = msgspec.structs.replace(asked, history=())
    assert after[PAST] == pytest.approx(served(stranger, made, "a", TASTE), abs=ROUNDED)


def test_what_a_model_does_not_read_is_no_part() -> None:
    pair = Pair(joined(event([RICH])), 0, Overlap())
    assert pair.fields() == ("title",)
    assert [(part.field, part.text) for part in pair.item_words()] == [
        ("title", "red"),
        ("title", "shoe"),
    ]


def test_a_word_that_overlap_reads_is_all_that_matters_to_it() -> None:
    """A model that counts common words: what both have adds, and the rest takes."""
    found = reasons(Pair(joined(EVENT), 0, Overlap()), 256, 0)
    values = dict(zip(["red", "trail", "shoe"], found.games["item"].found.values, strict=True))
    assert values["red"] > 0.0 > values["trail"] == pytest.approx(values["shoe"])
    best, *_ = [edit for edit in told_edits(found) if edit.after < edit.before]
    assert best.part.text == "red"


@given(st.text(alphabet="ab ,\t防水アé-"))
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    found = pieces(text)
    assert "".join(found) == (text if text.strip() else "")
    assert all(len(piece.split()) == 1 for piece in found)


def test_pairs_are_drawn_evenly_and_by_the_seed() -> None:
    pairs = chosen([joined(EVENT), joined(tiny.queries(1)[0].event)], Overlap(), None, None)
    assert len(pairs) == 3 + 8
    assert drawn(pairs, 100, 0) == pairs
    counts = np.zeros(11)
    for seed in range(1000):
        few = drawn(pairs, 4, seed)
        assert len(few) == 4
        counts[[pairs.index(one) for one in few]] += 1
    assert counts == pytest.approx(np.full(11, 1000 * 4 / 11), rel=0.2)


def explanation(values: dict[Part, float], brand: str | None = None) -> Explanation:
    """Of the words of an item alone, for 'red shoe 42'."""
    shares = Shares(np.array([*values.values()]), np.zeros(len(values)), 0.0, 1.0)
    nobody = Shared((), Shares(np.zeros(0), np.zeros(0), 1.0, 1.0))
    shared = {"query": nobody, "item": Shared((*values,), shares), "fields": nobody}
    item = candidate("a", brand=brand)
    return Explanation("q", "red shoe 42", item, 1.0, shared, ())  # type: ignore[arg-type]


def test_a_summary_says_how_much_goes_to_words_of_each_kind() -> None:
    one = explanation({Part("title", "Red", 0): 0.6, Part("title", "Acme", 3): -0.2}, "acme")
    other = explanation({Part("title", "x42", 5): 0.3})
    found = {use.kind: (use.pairs, use.parts, use.share, use.mean) for use in summary([one, other])}
    wanted = {
        "in the query too": (1, 0.25, 0.375, 0.6),
        "among a field's first 3": (1, 0.25, 0.375, 0.6),
        "of the brand": (1, 0.25, 0.125, -0.2),
        "not in the query": (2, 0.75, 0.625, 0.05),
        "with a digit": (1, 0.5, 0.5, 0.3),
    }
    assert found.keys() == wanted.keys()
    for kind, numbers in wanted.items():
        assert found[kind] == pytest.approx(numbers)


def test_a_shops_texts_forge_neither_lines_nor_cells() -> None:
    title = "red | shoe\x1b[31m\n- forged"
    found = reasons(Pair(joined(event([candidate("a|b", title=title)])), 0, Overlap()), 256, 0)
    shown = markdown(found)
    assert "\x1b" not in shown
    assert "\n- forged" not in shown
    assert r"a\|b" in shown


def explained(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[list[str], dict[str, Any]]:
    assert main(["explain", *arguments, "--json", "--markdown"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return lines, json.loads(last)


def test_one_pair_of_judged_queries_is_explained(
    zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graded = tiny.write_graded(tmp_path / "graded.jsonl", tiny.queries(3))
    command = ["--bundle", str(zero_shot), "--judgments", str(graded)]
    lines, told = explained(capsys, *command, "--query-id", "q1", "--item-id", "i1-2")
    (one,) = told["explanations"]
    assert (one["query_id"], one["item_id"]) == ("q1", "i1-2")
    assert lines[0].startswith(f"**{one['user_query']}** / i1-2")
    for game in one["attributions"].values():
        total = sum(part["adds"] for part in game["parts"])
        assert game["without"] + total == pytest.approx(one["relevance"], abs=SAME)
    lines, told = explained(capsys, *command, "--pairs", "4", "--evaluations", "16")
    assert len(told["explanations"]) == 4
    assert told["of"] == 24
    assert any(line.startswith("**What the relevance of 4 pairs is made of**") for line in lines)
    shares = [use["share"] for use in told["summary"] if use["of"] == "fields"]
    assert sum(shares) == pytest.approx(1.0)


def test_search_events_are_explained_from_the_pipe(zero_shot: Path, tmp_path: Path) -> None:
    """What they do not carry comes from the catalogue."""
    bare = event([candidate("a", title=None)], user_query="red shoe", policy="of another place")
    items = tmp_path / "items.jsonl"
    items.write_text('{"item_id": "a", "title": "red boot"}\n')
    command = [sys.executable, "-m", "training", "explain", "--bundle", str(zero_shot), "--json"]
    done = subprocess.run(
        [*command, "--catalogue", str(items)], input=codec.encode(bare), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    (one,) = json.loads(line)["explanations"]
    assert [part["text"] for part in one["attributions"]["item"]["parts"]] == ["red", "boot"]


def test_a_pair_that_is_not_there_is_refused(
    zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graded = tiny.write_graded(tmp_path / "graded.jsonl", tiny.queries(1))
    command = ["explain", "--bundle", str(zero_shot), "--judgments", str(graded)]
    assert main([*command, "--item-id", "nobody"]) == MISUSED
    said = capsys.readouterr().err
    assert said.startswith("error: query_id any, item_id nobody: expected a query and one of its")
