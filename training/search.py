"""A search over recipes: each trial is taught and judged as a round would be, and the journal of
all of them survives a kill.

Objectives: nDCG@10 in the order of relevance, alpha-nDCG@10 at the dial that is served, both of the
lists that are kept for calibration and through the exported graphs; and the tokens that the pair
model reads of a pair, which, for one base, decide over its time and are the same on every machine.
The lists that `run` keeps for its judges are not looked at. The sampler is the tree-structured
Parzen estimator (Bergstra et al. 2011, for several objectives Ozaki et al. 2022), drawn anew for
each trial from the seed and the trial's number, so that a search that was killed and taken up again
asks for what it would have asked for.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import optuna
from msgspec.structs import replace
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from export.bundle import BundleError
from export.session import Session
from training import evaluate, pipeline
from training.assess import TIMED, side
from training.config import Config
from training.dataset import as_read, graded, labelled
from training.judgments import GradedQuery, digest, worth_measuring
from training.loop import only_one
from training.recipe import FULL_BITS
from training.rounds import Round
from training.service import zero_shot
from training.space import Among, Between, Value, at
from training.teach import Say
from training.trainer import TrainingFailed
from training.trial import timed
from training.tuning import BadRecipe
from worker.errors import PrismrankError
from worker.ranking.model import Model
from worker.ranking.text import pair_texts

DIRECTIONS: Final[dict[str, Literal["minimize", "maximize"]]] = {
    "ndcg": "maximize",
    "alpha_ndcg": "maximize",
    "tokens": "minimize",
}
STUDY: Final = "tune"  # its name, and its folder's in `work`
OF: Final = "of"  # what a study was begun with: its labels and settings
ROUNDS: Final = 5  # of the clock
MEGA: Final = 1e6


class BadSearch(PrismrankError):
    """A search cannot be made or gone on with. What its folder holds stays as it is."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a trial came to."""

    ndcg: float
    alpha_ndcg: float
    tokens: float  # of a pair, the mean
    ms: float  # a pair, in the fastest of some rounds on one thread
    mb: float  # of the graphs


def search(
    config: Config, queries: Sequence[GradedQuery], trials: int, say: Say
) -> list[FrozenTrial]:
    """Make trials until there are so many; all of them, those of earlier calls included.

    Raises BadSearch where the folder was begun with other labels or settings or where nothing tells
    of diversity, BadRound where another process is searching there, else as a round does.
    """
    if config.recipe.base_bits < FULL_BITS and "tuning" in config.tune.dials:
        raise BadSearch(
            f"base_bits {config.recipe.base_bits}: expected tune.dials without tuning, for full and"
            " frozen write to the base's own weights; nothing was trained"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(config.work) / STUDY
    with only_one(folder):
        (folder / "journal.log.lock").unlink(missing_ok=True)  # of a killed search: we are alone
        study = _study(config, queries, folder)
        lesson = pipeline.lesson_of(config, queries)
        judges = worth_measuring(map(graded, lesson.kept))
        if not any(any(query.subtopics().values()) for query in judges):
            raise BadSearch(
                f"{len(judges)} kept lists: expected one with a relevant item that has a brand or a"
                " category, for alpha-nDCG to tell of; nothing was trained"
            )
        base = side(zero_shot(config, say)).model  # it remembers the texts for all trials
        while (number := len(study.trials)) < trials:
            point = asked(study.trials, config, number)
            say(f"trial {number}: {', '.join(f'{name} {each}' for name, each in point.items())}")
            one = Round(folder / "trials" / f"{number:04d}")
            study.add_trial(_made(config, point, one, lesson, judges, base, say))
            shutil.rmtree(one.folder, ignore_errors=True)
            say(f"trial {number} ended")
        shutil.rmtree(folder / "trials", ignore_errors=True)  # of one that was killed here
        return study.trials


def front(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that no other one beats in every objective, of those that keep the limits."""
    best = {trial.number for trial in _copy(trials).best_trials}
    return [trial for number, trial in enumerate(trials) if number in best]


def _study(config: Config, queries: Sequence[GradedQuery], folder: Path) -> optuna.Study:
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        study_name=STUDY,
        directions=[*DIRECTIONS.values()],
        load_if_exists=True,
    )
    settings = msgspec.json.encode(config.tune)
    wanted = hashlib.sha256(settings + f"{config.digest} {digest(queries)}".encode()).hexdigest()
    found = study.user_attrs.get(OF)
    if found is None:
        study.set_user_attr(OF, wanted)
    elif found != wanted:
        raise BadSearch(
            f"{folder}: begun with other settings or labels (sha256 {found[:12]}, now"
            f" {wanted[:12]}); nothing of it was changed: take those back to go on with it, or"
            " remove the folder to begin it anew"
        )
    return study


def asked(trials: Sequence[FrozenTrial], config: Config, number: int) -> dict[str, Value]:
    """The dials of the next trial: the recipe's own first, where the space has them.

    Asked of a copy, so that the journal holds a trial whole or not at all.
    """
    settings, own = config.tune, config.tune.own(config.recipe)
    if number == 0 and own is not None:
        return own
    seed = np.random.SeedSequence((config.recipe.seed, number)).generate_state(1)[0]
    sampler = TPESampler(seed=int(seed), n_startup_trials=settings.random_trials)
    return _copy(trials, sampler).ask(fixed_distributions=_distributions(config)).params


def _copy(trials: Sequence[FrozenTrial], sampler: TPESampler | None = None) -> optuna.Study:
    study = optuna.create_study(directions=[*DIRECTIONS.values()], sampler=sampler)
    study.add_trials(trials)
    return study


def _distributions(config: Config) -> dict[str, BaseDistribution]:
    return {name: _distribution(dial) for name, dial in config.tune.space.items()}


def _distribution(dial: Among | Between) -> BaseDistribution:
    if isinstance(dial, Among):
        return CategoricalDistribution(dial.values)
    return FloatDistribution(dial.low, dial.high, log=dial.log)


def _made(
    config: Config,
    point: Mapping[str, Value],
    one: Round,
    lesson: pipeline.Lesson,
    judges: Sequence[GradedQuery],
    base: Model,
    say: Say,
) -> FrozenTrial:
    """The trial of a point, taught and judged; a failed one where it cannot be taught, or exported:
    a model that says the same of every pair is refused there."""
    moved = replace(config, recipe=at(config.recipe, point))
    try:
        session = pipeline.taught(moved, one, lesson, base, None, say)
    except (TrainingFailed, BadRecipe, BundleError) as error:
        say(str(error))
        return create_trial(
            state=TrialState.FAIL,
            params=dict(point),
            distributions=_distributions(config),
            user_attrs={"error": str(error)},
        )
    found = judged(session, judges, config)
    limits = {"ms": config.tune.longest_ms, "mb": config.tune.largest_mb}
    return create_trial(
        params=dict(point),
        distributions=_distributions(config),
        values=[getattr(found, name) for name in DIRECTIONS],
        user_attrs={"ms": found.ms, "mb": found.mb, "queries": len(judges)},
        constraints={
            name: getattr(found, name) - most for name, most in limits.items() if most is not None
        },
    )


def judged(session: Session, queries: Sequence[GradedQuery], config: Config) -> Judged:
    """What a draft's lists are worth, and what they cost."""
    one, method = side(session), config.judge.method
    known = evaluate.judge(queries, one.model)
    plain, dialled = (
        evaluate.served(known, one.model, method, dial) for dial in (0.0, config.judge.diversity)
    )
    pairs = _pairs(queries, one.model)
    clocked = pairs[:TIMED]
    run = timed(one, "model", (), clocked)
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    graphs = session.manifest.variants[session.variant].graphs.values()
    return Judged(
        ndcg=_mean(plain, "ndcg"),
        alpha_ndcg=_mean(dialled, "alpha_ndcg"),
        tokens=float(np.mean([len(ids) for ids, _ in session.tokenize_pairs(pairs)])),
        ms=1000.0 * min(spent) / len(clocked),
        mb=sum((session.folder / path).stat().st_size for path in graphs) / MEGA,
    )


def _mean(run: evaluate.Run, measure: str) -> float:
    return float(np.nanmean(run.values[:, evaluate.MEASURES.index(measure)]))


def _pairs(queries: Sequence[GradedQuery], model: Model) -> list[tuple[str, str]]:
    assert model.pairs is not None, "a draft has its pair model: this is a bug"
    return [
        pair
        for one in as_read(labelled(queries), model)
        for pair in pair_texts(one.search, range(len(one.search.entries)), model.pairs.template)
    ]
