"""A shop's own past: a parquet file of impressions in, a judged bundle in the registry out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export import bundle
from export.registry import Registry
from export.session import open_session
from tests.export.models import save_base
from training import config as configs
from training.__main__ import main
from training.gate import Decision
from worker.events import Candidate, SearchEvent
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, Tables, join
from worker.ranking.rerank import rerank

COLOURS = ("red", "blue", "green", "black", "white", "grey")
KINDS = ("shoe", "hat", "coat", "bag", "shirt", "sock", "belt")
VISITS = 10  # of each query
CONFIG = """
work = "{folder}/work"

[model]
base = "{folder}/base"

[logs]
url = "{folder}/logs"

[past]
query_id = "search"
user_query = "terms"
item_id = "sku"
position = "rank"
first_position = 0
actions = {{ clicks = "click", orders = "purchase" }}
timestamp = "day"
item_columns = {{ name = "title" }}

[judge]
kept = 0.4

[recipe]
max_steps = 8
max_tokens = 40
threads = 1

[registry]
url = "{folder}/registry"
"""


def impressions() -> Iterator[dict[str, Any]]:
    """Pages of six titles; whoever looks so far down clicks on what has the query's colour."""
    chance = Random(3)
    queries = [f"{colour} {kind}" for colour in COLOURS for kind in KINDS]
    for visit in range(VISITS):
        for number, query in enumerate(queries):
            colour, kind = query.split()
            page = [f"{shade} {kind}" for shade in COLOURS]
            chance.shuffle(page)
            for rank, title in enumerate(page):
                looked = chance.random() < 1 / (rank + 1)
                clicked = looked and chance.random() < (0.9 if title.startswith(colour) else 0.1)
                yield {
                    "search": f"{visit}-{number}",
                    "terms": query,
                    "sku": title.replace(" ", "-"),
                    "rank": rank,
                    "name": title,
                    "clicks": int(clicked),
                    "orders": int(clicked and chance.random() < 0.3),
                    "day": datetime(2026, 3, 1 + visit, tzinfo=UTC) + timedelta(minutes=number),
                }


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration beside its base model and its file of impressions."""
    folder = tmp_path_factory.mktemp("past")
    save_base(folder / "base", "bert")
    pq.write_table(pa.Table.from_pylist(list(impressions())), folder / "past.parquet")
    path = folder / "training.toml"
    path.write_text(CONFIG.format(folder=folder))
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command of training printed last."""
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_a_file_of_impressions_ends_in_a_judged_bundle(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect = ("collect", str(config), "--parquet", str(config.with_name("past.parquet")))
    added = answer(capsys, *collect)
    pages = len(COLOURS) * len(KINDS) * VISITS
    assert (added["searches"], added["lists"], added["left_out"]) == (pages, pages, 0)
    assert added["behaviours"] > pages / 4
    assert answer(capsys, *collect)["searches"] == 0, "a file comes in once"

    ended = answer(capsys, "run", str(config))
    settings = configs.read(config)
    registry = Registry(settings.registry.url)
    assert registry.digests() == [ended["bundle"]]
    assert registry.resolve("live") == (ended["bundle"] if ended["promoted"] else None)

    folder = registry.fetch(ended["bundle"], config.with_name("cache"))
    manifest = bundle.verify(folder)
    assert manifest.blend is not None
    assert manifest.training is not None
    assert manifest.training["counts"]["lists"] == pages
    decision = msgspec.json.decode((folder / "report/decision.json").read_bytes(), type=Decision)
    assert (decision.promote, decision.reason) == (ended["promoted"], ended["reason"])
    measured = {check.measure for check in decision.checks}
    assert measured >= {"relevance", "diversity", "calibration", "latency", "goldens"}
    report = json.loads((folder / "report/report.json").read_bytes())
    assert report["examination"]["theta"][0] == 1.0

    shown = tuple(Candidate(item_id=one, title=f"{one} shoe") for one in COLOURS)
    search = SearchEvent(query_id="q", user_query="blue shoe", candidates=shown)
    model = Bundled(open_session(folder, device="cpu"))
    (ranked,) = rerank([join(search, Tables(), Dials())], model)
    assert ranked.model == ended["bundle"]
    assert (ranked.pair_count, len(ranked.items)) == (len(shown), len(shown))
