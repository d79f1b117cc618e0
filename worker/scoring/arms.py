"""Who serves whom while a challenger is tried, what is seen of it, and its end.

A user stays in an arm: it hangs on a hash of who asks and of the challenger's digest, so an event
that is delivered again has the same list while the same models are there. Without a challenger
nothing here does anything. All of it runs on the event loop, but for what `spare` hands over.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from worker.events import Behaviour, RankedList
from worker.ranking.join import JoinedSearch
from worker.ranking.lot import lot
from worker.ranking.model import Model
from worker.ranking.rerank import read
from worker.scoring.ahead import nothing_ahead
from worker.scoring.outcomes import Arm, Outcomes
from worker.scoring.shadow import Probe, Shadow
from worker.scoring.watch import Watch, agreement
from worker.settings import Settings
from worker.telemetry import Telemetry

LOG = logging.getLogger(__name__)
WAITING: Final = 4  # sampled searches that wait for idle time; more are dropped

Steps: TypeAlias = Iterator[Probe | RankedList | None]
OffLoop: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class OnTrial(Protocol):
    """Where the challenger is, while there is one."""

    @property
    def model(self) -> Model | None: ...

    def take_back(self, digest: str) -> None:
        """Try that bundle no more."""


class Nobody:
    """Nothing is tried."""

    model: Model | None = None

    def take_back(self, digest: str) -> None:
        """There is nothing to take back."""


@dataclass(slots=True)
class Trial:
    """One challenger against one champion."""

    digest: str
    challenger: Model
    champion: Model
    watch: Watch
    outcomes: Outcomes = field(default_factory=Outcomes)
    sampled: deque[Shadow] = field(default_factory=deque)
    ahead: deque[str] = field(default_factory=deque)  # texts that the challenger is to read
    running: tuple[Shadow, Steps] | None = None  # the one that is scored, and what is left of it

    def model(self, arm: Arm) -> Model:
        """Whose lists the arm has."""
        return self.challenger if arm == "challenger" else self.champion


class Arms:
    """Asked by the scheduler for the model of each search, and told what became of it."""

    def __init__(
        self,
        champion: Callable[[], Model],
        challenger: OnTrial,
        settings: Settings,
        telemetry: Telemetry,
        clock: Callable[[], float],
        ahead: Callable[[Model], Sequence[str]] = nothing_ahead,
    ) -> None:
        """`ahead` names texts that are worth encoding for a challenger that serves."""
        self._champion, self._challenger = champion, challenger
        self._settings, self._telemetry = settings, telemetry
        self._clock, self._ahead = clock, ahead
        self._last: Trial | None = None

    def challenger(self, search: JoinedSearch) -> Model | None:
        """The model on trial, where it is to make the list of this search."""
        trial = self._trial()
        if trial is None or self._arm(search, trial) == "champion":
            return None
        return trial.challenger

    def scored(self, model: Model, searches: int, texts: int, pairs: int, seconds: float) -> None:
        """A micro-batch was scored that read `texts` new texts and wanted `pairs` pairs."""
        trial = self._trial()
        if trial is None or model not in (trial.champion, trial.challenger):
            return
        arm: Arm = "challenger" if model is trial.challenger else "champion"
        self._telemetry.arm_score_seconds.labels(arm).observe(seconds)
        if not pairs:  # else it is not known how many of them were read before
            trial.watch.timed(arm, searches, texts, seconds)
        self._judge(trial)

    def failed(self, model: Model, search: JoinedSearch, instead: RankedList) -> None:
        """A challenger could not score a search; the list that the champion made instead."""
        trial = self._trial()
        if trial is None or model is not trial.challenger:
            return
        self._telemetry.arm_errors.labels("challenger").inc()
        if not instead.degraded and trial.outcomes.first(who(search)):  # else no model can score it
            trial.watch.answered("challenger", failed=True)
            self._judge(trial)

    def answered(self, search: JoinedSearch, ranked: RankedList) -> bool:
        """A list is out. Whether there is silent work to do now."""
        if (trial := self._trial()) is None:
            return False
        arm, now = self._arm(search, trial), self._clock()
        self._telemetry.arm_lists.labels(arm).inc()
        if ranked.degraded:
            self._telemetry.arm_degraded.labels(arm).inc()
        if ranked.reason == "model_error":
            self._telemetry.arm_errors.labels("champion").inc()
        # Else no model could score it, or another one did: the challenger failed, which is told, or
        # came in between.
        late = ranked.degraded and ranked.reason != "model_error"
        if (late or ranked.model == trial.model(arm).digest) and trial.outcomes.first(who(search)):
            trial.watch.answered(arm, late)
            trial.outcomes.listed(search.event.query_id, arm, now)
        for clicked_arm, clicked in trial.outcomes.closed(now):
            trial.watch.clicked(clicked_arm, clicked)
        self._judge(trial)
        return arm == "champion" and self._sampled(search, ranked, trial)

    def behaved(self, behaviour: Behaviour) -> None:
        """Somebody did something, perhaps with a list of the trial."""
        if self._last is not None and behaviour.action_name == "click" and behaviour.query_id:
            self._last.outcomes.clicked(behaviour.query_id)

    async def spare(self, off_loop: OffLoop) -> bool:
        """Spend idle time on one small piece of silent work; whether there was any."""
        if (trial := self._trial()) is None:
            return False
        if trial.running is None and trial.sampled:
            shadow = trial.sampled.popleft()
            trial.running = shadow, shadow.steps(self._clock)
        if trial.running is not None:
            await self._step(trial, *trial.running, off_loop)
            return True
        if self._settings.challenger_share and not trial.ahead:
            trial.ahead.extend(await off_loop(partial(self._ahead, trial.challenger)))
        if trial.ahead:
            await off_loop(partial(read, (trial.ahead.popleft(),), trial.challenger))
            return True
        return False

    async def _step(self, trial: Trial, shadow: Shadow, steps: Steps, off_loop: OffLoop) -> None:
        try:
            found = await off_loop(partial(next, steps))
        except Exception:
            LOG.exception("a search could not be scored silently")
            self._telemetry.arm_errors.labels("challenger").inc()
            trial.running = None
            trial.watch.silent(failed=True)
        else:
            if isinstance(found, Probe):
                self._telemetry.shadow_slowdown.observe(found.ours / found.theirs)
                trial.watch.probed(found.ours, found.theirs)
            elif isinstance(found, RankedList):
                trial.running = None
                self._compare(trial, shadow, found)
        self._judge(trial)

    def _compare(self, trial: Trial, shadow: Shadow, ours: RankedList) -> None:
        same, _, places = agreement(ours, shadow.served, len(shadow.search.entries))
        if places:
            self._telemetry.shadow_overlap.observe(same / places)
        trial.watch.silent(failed=False)
        trial.watch.compared(ours, shadow.served, shadow.search)

    def _trial(self) -> Trial | None:
        """What is tried now; a new one begins where either model is another."""
        model = self._challenger.model
        champion = None if model is None else self._champion()
        if model is None or champion is None or model.digest in (None, champion.digest):
            if self._last is not None:
                self._last = None
                self._telemetry.challenger_info.clear()
            return None
        last = self._last
        if last is None or last.challenger is not model or last.champion is not champion:
            digest = model.digest or ""
            settings = self._settings
            watch = Watch(digest, settings.watched_group, settings.challenger_drift)
            self._last = last = Trial(digest, model, champion, watch)
            self._telemetry.challenger_info.clear()
            self._telemetry.challenger_info.labels(digest).set(1)
        return last

    def _arm(self, search: JoinedSearch, trial: Trial) -> Arm:
        drawn = lot(who(search), "challenger", trial.digest)
        return "challenger" if drawn < self._settings.challenger_share else "champion"

    def _sampled(self, search: JoinedSearch, ranked: RankedList, trial: Trial) -> bool:
        drawn = lot(search.event.query_id, "shadow", trial.digest)
        if drawn >= self._settings.challenger_shadow or ranked.model != trial.champion.digest:
            return False
        if len(trial.sampled) == WAITING:
            self._telemetry.shadow_dropped.inc()
            return False
        trial.sampled.append(Shadow(search, ranked, trial.champion, trial.challenger))
        return True

    def _judge(self, trial: Trial) -> None:
        """Take the challenger back where a guard says so."""
        if trial is self._last and (verdict := trial.watch.verdict()) is not None:
            self._challenger.take_back(trial.digest)
            self._telemetry.challengers_taken_back.labels(verdict.guard).inc()
            extra = {"model": trial.digest, "reason": verdict.guard}
            LOG.error("%s", verdict.sentence, extra=extra)
            self._trial()


def who(search: JoinedSearch) -> str:
    """Whom an arm is drawn for."""
    event = search.event
    return event.user_id or event.client_id or event.query_id
