"""The loop on one broker: lists, clicks, logs, training, gate and swap, with no event lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import msgspec
import pytest

from export.build import Order, build
from export.registry import Registry
from tests.chaos.load import UNHURRIED, Stage, on
from tests.chaos.scenes import said
from tests.export.models import save_base
from tests.training import tiny
from training.__main__ import main
from training.collect import CollectSettings, collect
from training.config import Config
from training.judgments import GradedQuery
from training.rounds import Outcome, Round
from worker.demo import topics
from worker.demo.broker import Broker
from worker.events import RankedList, SearchEvent
from worker.shop.habits import Habits, Page, react

BEFORE, AFTER = 400, 40  # searches that the old and the new model answer
RATE = 50.0  # searches a second
SETTINGS = {
    "PRISMRANK_POLL_SECONDS": "0.2",
    "PRISMRANK_EXPLORE": "0.2",
    "PRISMRANK_CATALOGUE": "none",
    **UNHURRIED,
}


def search(number: int, query: GradedQuery) -> SearchEvent:
    """A user asks a graded query now."""
    return msgspec.structs.replace(
        query.event,
        query_id=f"visit-{number}",
        user_id=f"u{number % 100}",
        k=8,
        timestamp=datetime.now(UTC),
    )


def visits(first: int, count: int) -> dict[str, GradedQuery]:
    """query_id -> what is asked, of so many visits."""
    truth = tiny.queries()
    return {
        f"visit-{n}": truth[Random(n).randrange(len(truth))] for n in range(first, first + count)
    }


async def serve(made: Stage, first: int, count: int) -> list[RankedList]:
    """So many searches, each answered once; the answers."""
    asked = visits(first, count)
    searches = [search(int(name.split("-")[1]), query) for name, query in asked.items()]
    await made.play(searches, RATE)
    await made.settle()
    return [msgspec.json.decode(made.book.answers[name][0], type=RankedList) for name in asked]


async def click(made: Stage, answers: list[RankedList], config: Config) -> None:
    """People look at what was answered, from the top, and click what is relevant."""
    asked = visits(0, len(answers))
    for ranked in answers:
        query = asked[ranked.query_id]
        shown = [item.item_id for item in ranked.items]
        number = int(ranked.query_id.split("-")[1])
        page = Page(search(number, query), shown, ranked.list_id, datetime.now(UTC))
        worth = [query.gains()[item_id] for item_id in shown]
        done = react(page, worth, config.simulate.clicks, Habits(), ranked.query_id, False)
        await made.wire.behave(page.impressions() + done)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A tiny shop whose base model serves as it is. Its gate asks for relevance alone, of which a
    mark in the titles gives plenty, and lets the rest vary by what chance does to so few lists."""
    base = save_base(tmp_path / "base", "bert")
    made = tiny.config(tmp_path, base)
    folder = tmp_path / "first"
    build(Order(str(base), folder), print)
    registry = Registry(made.registry.url)
    registry.promote(registry.publish(folder), "live", reason="the first day")
    return made


def test_what_users_did_becomes_the_model_that_serves_them(config: Config, tmp_path: Path) -> None:
    registry = Registry(config.registry.url)
    first = registry.resolve("live")

    async def closes(broker: Broker) -> tuple[Stage, Outcome]:
        topics.create(broker, BEFORE + AFTER, {})
        async with on(broker, Path(config.registry.url), tmp_path, SETTINGS) as made:
            await click(made, await serve(made, 0, BEFORE), config)
            settings = CollectSettings(kafka=broker.bootstrap, fetch_wait_ms=20)
            await collect(settings, config.logs, once=True)
            file = tiny.write_config(tmp_path / "config.toml", config)
            assert await asyncio.to_thread(main, ["run", str(file)]) == 0
            outcome = Round(Path(config.work) / "rounds" / "0001").outcome()
            assert outcome is not None
            assert outcome.promoted, outcome.reason
            await said(tmp_path, f"serving {outcome.bundle}")
            answers = await serve(made, BEFORE, AFTER)
            read = [one for one in answers if one.pair_share > 0.0]
            assert len(read) > AFTER / 2, "these are the items that it learned from"
            assert all(one.pair_count == len(one.items) for one in read)
            return made, outcome

    with Broker() as broker:
        made, outcome = asyncio.run(closes(broker))
    assert outcome.counts["lists"] == outcome.counts["lists_kept"] == BEFORE
    assert outcome.counts["behaviours_joined"] == outcome.counts["behaviours"] > BEFORE
    assert outcome.champion == first != outcome.bundle == registry.resolve("live")
    assert dict(made.book.models) == {first: BEFORE, outcome.bundle: AFTER}
    summary = made.book.summary()
    assert summary["lists"] == summary["events"] == BEFORE + AFTER
    assert summary["lost"] == summary["dead_letters"] == summary["degraded"] == 0
