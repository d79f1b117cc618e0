"""Who serves whom: users keep their arm, lists mix nothing, and silent work makes nobody wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.bundle import Calibration
from tests.factories import joined, random_search
from worker import codec
from worker.events import Behaviour, RankedList, TimingMs
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Encoded, Model, TokenBatch
from worker.ranking.rerank import rerank
from worker.scoring.arms import WAITING, Arms
from worker.scoring.overlap import Overlap
from worker.scoring.scheduler import Scheduler
from worker.settings import Settings
from worker.telemetry import Telemetry


class Named(Overlap):
    """A model with a name, whose relevance is its own."""

    def __init__(self, digest: str, slope: float = 1.0) -> None:
        super().__init__()
        self.digest = digest
        self.calibration = Calibration(slope=slope, intercept=0.0, origin="a test")
        self.read = 0

    def score(self, batch: TokenBatch) -> Encoded:
        self.read += len(batch.rows)
        return super().score(batch)


class Failing(Named):
    """Fails on every search."""

    def score(self, batch: TokenBatch) -> Encoded:
        raise RuntimeError("a graph that cannot take this")


class OnTrial:
    """A challenger that is there until it is taken back."""

    def __init__(self, model: Model | None) -> None:
        self.model = model
        self.taken_back: list[str] = []

    def take_back(self, digest: str) -> None:
        self.taken_back.append(digest)
        self.model = None


class Scene:
    """A champion and a challenger behind one scheduler."""

    def __init__(self, challenger: Model, share: float, shadow: float = 0.0) -> None:
        self.champion, self.trial = Named("champion"), OnTrial(challenger)
        self.telemetry = Telemetry()
        dials = Settings(challenger="challenger", challenger_share=share, challenger_shadow=shadow)
        common = (dials, self.telemetry, time.monotonic)
        self.arms = Arms(lambda: self.champion, self.trial, *common)
        self.scheduler = Scheduler(lambda: self.champion, Overlap(), *common, arms=self.arms)

    def play(self, use: Callable[[], Awaitable[Sequence[RankedList]]]) -> Sequence[RankedList]:
        """Run the scheduler while `use` uses it."""

        async def main() -> Sequence[RankedList]:
            running = asyncio.create_task(self.scheduler.run())
            try:
                return await use()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        return asyncio.run(main())

    def all_at_once(self, searches: Sequence[JoinedSearch]) -> Sequence[RankedList]:
        """The lists of searches that come together."""
        return self.play(lambda: asyncio.gather(*map(self.scheduler.rank, searches)))

    def one_by_one(self, searches: Sequence[JoinedSearch]) -> Sequence[RankedList]:
        """The lists of searches of which each waits for the one before."""

        async def use() -> Sequence[RankedList]:
            return [await self.scheduler.rank(search) for search in searches]

        return self.play(use)

    def value(self, name: str, **labels: str) -> float:
        """A metric."""
        return self.telemetry.registry.get_sample_value(f"prismrank_{name}", labels) or 0.0


def searches(count: int, size: int = 6) -> list[JoinedSearch]:
    """Searches of as many users."""
    return [
        joined(random_search(n, size, query_id=f"q{n}", user_id=f"u{n}", user_query=f"hat {n}"))
        for n in range(count)
    ]


def timeless(ranked: RankedList) -> bytes:
    """What of a list is the same whenever it is made."""
    return codec.encode(msgspec.structs.replace(ranked, timestamp=None, timing_ms=TimingMs()))


def test_micro_batches_of_both_arms_mix_no_two_models_in_a_list() -> None:
    scene, asked = Scene(Named("challenger", slope=5.0), share=0.5), searches(60)
    answers = scene.all_at_once(asked)
    assert [a.query_id for a in answers] == [s.event.query_id for s in asked]
    for search, answer in zip(asked, answers, strict=True):
        alone = Named("champion") if answer.model == "champion" else Named("challenger", slope=5.0)
        assert timeless(answer) == timeless(rerank([search], alone)[0])
    models = [answer.model for answer in answers]
    assert 20 <= models.count("challenger") <= 40
    assert scene.value("arm_lists_total", arm="challenger") == models.count("challenger")
    assert scene.value("arm_lists_total", arm="champion") == models.count("champion")


@settings(max_examples=25)
@given(st.text(max_size=8), st.text(min_size=1, max_size=8), st.floats(0.0, 1.0))
def test_a_user_stays_in_an_arm_whatever_is_asked_and_more_users_take_none_away(
    user: str, query: str, share: float
) -> None:
    def serves(share: float, **fields: str) -> bool:
        scene = Scene(Named("challenger"), share)
        return scene.arms.challenger(joined(random_search(1, 2, **fields))) is not None

    if user:
        mine = serves(share, user_id=user, client_id="c", query_id="q")
        assert mine == serves(share, user_id=user, query_id=query)
        assert mine == serves(share, client_id=user, query_id=query)
        assert not mine or serves(1.0, user_id=user, query_id=query)
    assert serves(1.0, query_id=query)
    assert not serves(0.0, query_id=query)


def test_another_challenger_draws_other_users() -> None:
    asked = searches(200)
    first, second = (
        {s.event.user_id for s in asked if Scene(Named(name), 0.5).arms.challenger(s)}
        for name in ("one", "two")
    )
    assert 60 < len(first ^ second) < 140


@pytest.mark.parametrize("shadow", [0.0, 1.0])
def test_without_a_share_every_list_is_what_it_would_be_without_a_trial(shadow: float) -> None:
    scene, asked = Scene(Named("challenger", slope=5.0), 0.0, shadow), searches(20)
    alone = [timeless(rerank([search], Named("champion"))[0]) for search in asked]
    assert [timeless(answer) for answer in scene.one_by_one(asked)] == alone


def test_what_a_challenger_cannot_score_the_champion_does_and_it_is_soon_taken_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene, asked = Scene(Failing("ab12cd34ef"), share=0.5), searches(80)
    answers = scene.one_by_one(asked)
    assert {(answer.model, answer.degraded) for answer in answers} == {("champion", False)}
    assert scene.trial.taken_back == ["ab12cd34ef"]
    assert scene.value("challengers_taken_back_total", guard="failing") == 1
    assert scene.value("challenger_info", model="ab12cd34ef") == 0
    failures = scene.value("arm_errors_total", arm="challenger")
    assert 0 < failures < 30
    said = [record.message for record in caplog.records if "taken back" in record.message]
    assert said == [
        "challenger ab12cd34 was taken back: 100.0% of its lists failed or came too late"
        f" (the champion's: 0.0%), over {failures:.0f} comparisons"
    ]


def test_a_challenger_that_fails_silently_is_taken_back_too() -> None:
    scene = Scene(Failing("challenger"), share=0.0, shadow=1.0)

    async def use() -> Sequence[RankedList]:
        answers = []
        for search in searches(60):
            answers.append(await scene.scheduler.rank(search))
            await asyncio.sleep(0.001)
        return answers

    answers = scene.play(use)
    assert {(answer.model, answer.degraded) for answer in answers} == {("champion", False)}
    assert scene.trial.taken_back == ["challenger"]


async def until(reached: Callable[[], bool]) -> None:
    """Wait for the scheduler to come that far, and leave it the processor meanwhile."""
    async with asyncio.timeout(60.0):
        while not reached():
            await asyncio.sleep(0.001)


def test_silent_work_stops_between_two_texts_for_whoever_comes() -> None:
    challenger = Named("challenger")
    scene, (first, second) = Scene(challenger, 0.0, shadow=1.0), searches(2, size=200)

    async def use() -> Sequence[RankedList]:
        one = await scene.scheduler.rank(first)
        await until(lambda: challenger.read > 5)
        two = await scene.scheduler.rank(second)
        assert scene.value("shadow_overlap_count") == 0  # the first is not through
        await until(lambda: scene.value("shadow_overlap_count") == 2)
        return one, two

    scene.play(use)
    assert scene.value("shadow_overlap_sum") == 2.0  # the same model: the same lists
    assert scene.value("shadow_slowdown_count") == 4
    assert scene.trial.taken_back == []


def test_what_is_sampled_while_all_are_busy_is_dropped() -> None:
    scene = Scene(Named("challenger"), 0.0, shadow=1.0)
    scene.all_at_once(searches(WAITING + 6))
    assert scene.value("shadow_dropped_total") >= 1
    assert scene.value("shadow_overlap_count") <= WAITING


def test_a_challenger_that_becomes_the_champion_is_tried_no_more() -> None:
    scene, asked = Scene(Named("challenger"), share=1.0), searches(2)
    assert scene.one_by_one(asked)[0].model == "challenger"
    assert scene.value("challenger_info", model="challenger") == 1
    scene.champion = Named("challenger")
    assert scene.arms.challenger(asked[0]) is None
    assert scene.value("challenger_info", model="challenger") == 0


def test_poison_for_both_models_is_no_fault_of_the_challenger() -> None:
    class Poisoned(Named):
        def score(self, batch: TokenBatch) -> Encoded:
            if self.tokenize(("poison",))[0][0] in batch.input_ids:
                raise RuntimeError("a graph that cannot take this")
            return super().score(batch)

    scene = Scene(Poisoned("challenger"), share=0.5)
    scene.champion = Poisoned("champion")
    asked = [
        joined(
            random_search(
                1, 2, query_id=f"q{n}", user_id=f"u{n}", user_query="a" if n % 3 else "poison"
            )
        )
        for n in range(900)
    ]
    answers = scene.one_by_one(asked)
    assert [answer.degraded for answer in answers] == [n % 3 == 0 for n in range(900)]
    assert scene.trial.taken_back == []


@pytest.mark.parametrize("client", [f"client {n}" for n in range(4)])
def test_one_client_whose_searches_all_come_too_late_takes_nobody_back(client: str) -> None:
    """Whichever arm it is in: it counts once."""
    scene = Scene(Named("challenger"), share=0.5)
    others = searches(150)
    late = [
        joined(random_search(1, 2, query_id=f"late {n}", user_id=client, user_query="hat"))
        for n in range(150)
    ]

    async def use() -> Sequence[RankedList]:
        for search, behind in zip(others, late, strict=True):
            await scene.scheduler.rank(search)
            assert (await scene.scheduler.rank(behind, due=0.0)).reason == "deadline"
        return []

    scene.play(use)
    assert scene.trial.taken_back == []


def test_what_the_champion_cannot_read_again_is_no_fault_of_the_challenger() -> None:
    class Once(Named):
        """Reads a text, and fails where it is to read it again."""

        seen: set[bytes] = set()
        failed = 0

        def score(self, batch: TokenBatch) -> Encoded:
            rows = {row[row != 0].tobytes() for row in batch.input_ids}
            if rows & self.seen:
                Once.failed += 1
                raise RuntimeError("a graph that has had enough")
            self.seen |= rows
            return super().score(batch)

    scene = Scene(Named("challenger"), share=0.0, shadow=1.0)
    scene.champion = Once("champion")

    async def use() -> Sequence[RankedList]:
        answers = []
        for search in searches(60):
            answers.append(await scene.scheduler.rank(search))
            await asyncio.sleep(0.001)
        return answers

    scene.play(use)
    assert Once.failed > 30
    assert scene.trial.taken_back == []
    assert scene.value("shadow_overlap_count") > 0


def test_a_challenger_whose_lists_are_not_clicked_is_taken_back() -> None:
    now = 0.0
    trial, telemetry = OnTrial(Named("challenger")), Telemetry()
    dials, champion = Settings(challenger="challenger", challenger_share=0.5), Named("champion")
    arms = Arms(lambda: champion, trial, dials, telemetry, lambda: now)
    (made,) = rerank(searches(1), champion)
    for number in range(2_000):
        now += 1.0
        search = joined(random_search(1, 2, query_id=f"q{number}", user_id=f"u{number}"))
        model = "champion" if arms.challenger(search) is None else "challenger"
        arms.answered(search, msgspec.structs.replace(made, model=model))
        if model == "champion" and number % 3 == 0:
            arms.behaved(Behaviour(action_name="click", query_id=f"q{number}"))
        arms.behaved(Behaviour(action_name="impression", query_id=f"q{number}"))
    assert trial.taken_back == ["challenger"]
    assert telemetry.registry.get_sample_value(
        "prismrank_challengers_taken_back_total", {"guard": "unclicked"}
    )


def test_a_challenger_that_serves_is_read_ahead_a_text_at_a_time() -> None:
    challenger, texts = Named("challenger"), [["a hat", "a cap"], ["a coat"]]
    dials = Settings(challenger="challenger", challenger_share=0.5)
    scene = Scene(challenger, share=0.5)
    arms = Arms(
        lambda: scene.champion,
        scene.trial,
        dials,
        scene.telemetry,
        time.monotonic,
        lambda _: texts.pop(0) if texts else (),
    )

    async def here(work: Callable[[], object]) -> object:
        return work()

    async def main() -> list[int]:
        found = []
        while await arms.spare(here):
            found.append(challenger.read)
        return found

    assert asyncio.run(main()) == [1, 2, 3]


def test_behaviour_before_any_trial_is_nobodys() -> None:
    Scene(Named("champion"), 1.0).arms.behaved(Behaviour(action_name="click", query_id="q1"))
