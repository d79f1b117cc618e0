"""The demo's round: its folder, its configuration, and a swap while searches keep coming."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("torch")

from export import bundle
from export.registry import Registry
from tests.demo.rounds import Quick, sibling, zero_shot
from tests.export.models import save_base, save_sealed
from training import config as configs
from training import service
from worker.demo import topics, view
from worker.demo.broker import Broker
from worker.demo.children import Worker, command
from worker.demo.learning import PAIRS_PER_STEP, STEPS, Round, fresh_folder
from worker.demo.play import LEARNING, Play
from worker.demo.script import script
from worker.demo.topics import ShopTopics
from worker.errors import WorkerFault
from worker.shop.catalogue import generate
from worker.shop.visits import Shop

SHOP = Shop(generate(items=200), users=5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), "bert")


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that is live when the demo begins."""
    return zero_shot(base, tmp_path_factory.mktemp("first") / "bundle")


def test_the_folder_of_a_demo_that_ended_is_removed_by_the_next_and_that_of_a_live_one_is_not(
    tmp_path: Path,
) -> None:
    with fresh_folder(tmp_path) as ended:
        assert ended.is_dir()
    with fresh_folder(tmp_path) as running, fresh_folder(tmp_path) as another:
        assert {each for each in tmp_path.iterdir()} == {running, another}


def test_a_round_begins_with_the_live_bundle_in_a_registry_of_its_own(tmp_path: Path) -> None:
    digest = save_sealed(tmp_path / "bundle")
    one = Round(tmp_path / "demo", tmp_path / "bundle", tmp_path / "base", print)
    assert one.champion == digest
    assert one.promoted is None
    other = Registry(one.registry).publish(_another(tmp_path))
    Registry(one.registry).promote(other, reason="a test")
    assert one.promoted == other


def test_the_configuration_is_one_that_training_reads(tmp_path: Path) -> None:
    save_sealed(tmp_path / "bundle")
    one = Round(tmp_path / "a “folder”", tmp_path / "bundle", tmp_path / "base", print)
    file = tmp_path / "round.toml"
    file.write_text(one.configuration("127.0.0.1:9", SHOP))
    read = configs.read(file)
    assert Path(read.registry.url) == one.registry.resolve()
    assert read.simulate.users == len(SHOP.users)
    assert read.simulate.clicks == SHOP.click_model
    assert read.recipe.freeze_embeddings
    assert STEPS * PAIRS_PER_STEP <= 3_000


def test_training_does_not_build_what_the_demo_has_built(
    tmp_path: Path, base: Path, first: Path
) -> None:
    one = Round(tmp_path / "demo", first, base, print)
    one.spare_a_build()
    (tmp_path / "round.toml").write_text(one.configuration("127.0.0.1:9", SHOP))
    said: list[str] = []
    session = service.zero_shot(configs.read(tmp_path / "round.toml"), said.append)
    assert (session.digest, said) == (one.champion, [])


def test_what_a_command_says_is_passed_on_and_its_end_is_told_where_it_fails() -> None:
    said: list[str] = []
    with pytest.raises(WorkerFault, match=r"python -m training run: status 2\n.*expected CONFIG"):
        asyncio.run(command("training", "run", say=said.append))
    assert "expected CONFIG" in said[-1]


def test_a_swap_under_traffic_loses_nothing_and_the_lists_name_both_bundles(
    tmp_path: Path, base: Path, first: Path
) -> None:
    one = Quick(tmp_path / "demo", first, base, print)
    one.trained = sibling(first, tmp_path / "second")

    async def play() -> Play:
        played = script(40, learns=True)
        with Broker() as broker:
            topics.create(broker, played.events, SHOP.catalogue)
            worker = Worker(broker.bootstrap, one.registry, tmp_path / "worker.log", LEARNING)
            async with ShopTopics(broker.bootstrap) as wire:
                playing = Play(SHOP, played, wire, worker, one, view.PlainScreen())
                try:
                    await playing.through()
                finally:
                    worker.stop()
        return playing

    playing = asyncio.run(play())
    tally, change = playing.tally, playing.change()
    assert (len(tally.sent), len(tally.answers), tally.lost) == (40, 40, 0)
    assert change is not None
    assert change.lists == 18
    models = [tally.judged[query_id].model for query_id in tally.sent]
    assert set(models[:18]) == {bundle.digest(first)}
    assert set(models[22:]) == {bundle.digest(one.trained)}


def _another(folder: Path) -> Path:
    save_sealed(folder / "another", note="two")
    return folder / "another"
