"""The bundle on trial: proved like the live one, and no harm to it whatever happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export.registry import Registry
from tests.chaos.scenes import variant_of, with_false_goldens
from worker.scoring.challenger import Challenger
from worker.scoring.live import Live
from worker.settings import Settings


class Trying:
    """A registry of one's own, a live model and a challenger that follow it, and what it told."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder / "registry"
        shutil.copytree(source, self.folder)
        self.registry = Registry(self.folder)
        self.told: list[str] = []
        settings = Settings(registry=str(self.folder), device="cpu", challenger="challenger")
        self.live = Live(settings, lambda *_: None)
        self.challenger = Challenger(settings, self.live, self._took)
        assert self.live.poll()

    def _took(self, result: str, _digest: str, _device: str, _variant: str) -> None:
        self.told.append(result)

    def named(self, alias: str) -> str:
        """The digest that an alias names."""
        return self.registry.resolve(alias) or ""

    def tried(self) -> str | None:
        """The digest of what is tried after one more look."""
        self.challenger.poll()
        return self.challenger.model.digest if self.challenger.model else None


@pytest.fixture
def trying(arena: Path, tmp_path: Path) -> Trying:
    return Trying(arena, tmp_path)


def test_a_challenger_is_tried_while_its_alias_names_another_than_the_live_one(
    trying: Trying,
) -> None:
    assert trying.tried() is None  # nobody has promoted to it
    slow, live = trying.named("slow"), trying.named("live")
    trying.registry.promote(slow, "challenger", reason="a trial")
    assert trying.tried() == slow
    trying.registry.promote(live, "challenger", reason="the trial is over")
    assert trying.tried() is None
    trying.registry.promote(slow, "challenger", reason="another trial")
    assert trying.tried() == slow
    trying.registry.promote(slow, "live", reason="it won")
    assert trying.live.poll()
    assert trying.tried() is None
    assert trying.told == ["swapped", "swapped"]


def test_what_was_taken_back_is_not_tried_again_wherever_its_alias_went_meanwhile(
    trying: Trying, tmp_path: Path
) -> None:
    slow = trying.named("slow")
    trying.registry.promote(slow, "challenger", reason="a trial")
    assert trying.tried() == slow
    trying.challenger.take_back(slow)
    assert trying.challenger.model is None
    assert trying.tried() is None
    other = trying.registry.publish(
        variant_of(trying.folder / "bundles" / trying.named("live"), tmp_path, 0)
    )
    trying.registry.promote(other, "challenger", reason="a better one")
    assert trying.tried() == other
    trying.registry.promote(slow, "challenger", reason="once more")
    assert trying.tried() is None


def test_a_challenger_whose_goldens_are_false_is_refused_and_the_live_model_stays(
    trying: Trying, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = trying.live.model
    false = with_false_goldens(trying.folder / "bundles" / trying.named("slow"), tmp_path)
    trying.registry.promote(trying.registry.publish(false), "challenger", reason="a trial")
    assert trying.tried() is None
    assert trying.tried() is None
    assert trying.told == ["refused"]
    assert trying.live.model is live
    assert "the champion serves on" in caplog.text


def test_even_an_error_that_nobody_foresaw_ends_the_trial_alone(
    trying: Trying, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room for two")

    trying.registry.promote(trying.named("slow"), "challenger", reason="a trial")
    trying.challenger = Challenger(
        Settings(registry=str(trying.folder), device="cpu", challenger="challenger"),
        trying.live,
        trying._took,
        broken,  # what hears of each call of the model
    )
    assert trying.tried() is None
    assert trying.tried() is None
    assert trying.told == ["refused"]
    assert "no room for two; the champion serves on" in caplog.text


def test_a_registry_out_of_reach_leaves_the_trial_as_it_is(trying: Trying) -> None:
    slow = trying.named("slow")
    trying.registry.promote(slow, "challenger", reason="a trial")
    assert trying.tried() == slow
    trying.folder.rename(trying.folder.with_name("away"))
    (trying.folder / "aliases").mkdir(parents=True)
    (trying.folder / "aliases" / "challenger").write_bytes(b"garbled")
    assert trying.tried() == slow
    assert trying.told == ["swapped", "unreachable"]
