"""Lists on which nobody acted, learned from as far as two teachers put them in one order.

Most queries of the tail were answered, looked at, and followed by nothing, which says little. Here
two that read differently say how their candidates stand (co-training: Blum & Mitchell 1998,
"Combining labeled and unlabeled data with co-training", section 2, wants two views of which each
would do): what serves, whose pair model reads query and item together, and the recipe's teacher,
else the base's encoder, which reads them apart. One model before a noised text as well (Xie et al.
2020, "Unsupervised data augmentation for consistency training") would agree with its own mistakes.

They agree on the longest part of a list that both put in the same order, the longest increasing
subsequence of one in the other's ranks; what is left out of it is their distance (Ulam 1972, "Some
ideas and prospects in biomathematics"). Unlike Kendall's tau it names the candidates that spoil the
order, so nothing enters that they disagree on, not even with a list that they mostly agree on; nor
a list that lies beyond what the pair model learned from, where its word is the base's cosine. As
FixMatch (Sohn et al. 2020) does, a list below the threshold is left out. Chance alone puts about
2 sqrt(n) of n in one order, and most of a short list. A grade is P(relevant) as what serves has it,
on the scale of the grades that it was calibrated on: soft, which Xie et al. 2020, "Self-training
with noisy student improves ImageNet classification", found better far from what was labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from export.source import read_source
from training.columns import words
from training.config import Config
from training.dataset import LabelledList
from training.impressions import ImpressionList
from training.progress import Say
from training.replay import reservoir
from training.rounds import Round, write_whole
from training.sources import Unlabelled
from training.teachers import Score, as_served, find_teacher, own_word, scored
from training.tuning import BadRecipe
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import sigmoid
from worker.ranking.model import Doubles, Integers, Model
from worker.ranking.spelling import spelled

STAGE: Final = "agreed"
VERDICTS: Final = "verdicts.json"


class Verdict(Struct, frozen=True):
    """The rows of a list that the teachers put in one order, and what they are worth."""

    rows: tuple[int, ...]
    grades: tuple[float, ...]


def without_behaviour(
    learn: Sequence[LabelledList], past: Sequence[ImpressionList]
) -> list[JoinedSearch]:
    """The lists to learn from whose query nobody acted on in any list of the `past`: of each query
    the newest."""
    acted = {words(one.query) for one in past if any(each.clicked for each in one.shown)}
    newest = {words(one.search.event.user_query): one.search for one in learn}
    return [search for query, search in newest.items() if query not in acted]


def second_teacher(config: Config, base: Model, champion: Model) -> Callable[[], Score] | None:
    """Who is asked beside what serves, the `champion`, once it is loaded: the recipe's teacher;
    where that is nobody else, the base's cosine; None where what serves is but a cosine too.

    Raises as `find_teacher` does.
    """
    source = read_source(config.model.base_folder, config.model.base)
    other = find_teacher(config.recipe, source, config.model.pair_template, champion)
    if other is not None and other.sha256 not in {champion.digest or "", base.digest or ""}:
        return other.ready
    return None if champion.pairs is None else lambda: partial(as_served, base)


def verdicts(
    searches: Sequence[JoinedSearch], views: Sequence[Score], agreement: float
) -> list[Verdict | None]:
    """What all views agree on of each list; None where that is less than `agreement` of it.

    Raises BadRecipe where a logit is no finite number.
    """
    said = [list(scored(view, searches)) for view in views]
    return [_verdict(np.stack(each), agreement) for each in zip(*said, strict=True)]


def common_order(said: Doubles) -> Integers:
    """The most rows of `said` [views, n] that every view puts in the same order, the lowest first:
    of any two of them one is above the other in all views, or they are equal in all.

    >>> common_order(np.array([[0.1, 0.2, 0.3, 0.4], [1.0, 9.0, 2.0, 3.0]]))
    array([0, 2, 3])
    """
    order = np.lexsort(said[::-1])
    said = said[:, order]
    lengths, before = np.ones(len(order), dtype=np.int64), np.full(len(order), -1)
    for row in range(1, len(order)):
        lower, here = said[:, :row], said[:, row : row + 1]
        fits = (lower < here).all(0) | (lower == here).all(0)
        longest = int(np.argmax(lengths[:row] * fits))
        if fits[longest]:
            lengths[row], before[row] = lengths[longest] + 1, longest
    chain = list(_back(int(np.argmax(lengths)), before)) if len(order) else []
    return order[np.array(chain[::-1], dtype=np.int64)]


def agreed(
    unlabelled: Sequence[JoinedSearch],
    learn: Sequence[LabelledList],
    config: Config,
    models: tuple[Model, Model],
    one: Round,
    say: Say,
) -> tuple[list[LabelledList], dict[str, float]]:
    """(lists to learn from, how many there were and what became of them).

    So many unlabelled lists are asked about as the recipe wants for each list of `learn`, those of
    no query or of one candidate apart; `models` are the base's and what serves.
    """
    (base, champion), settings = models, config.recipe.unlabelled
    second = second_teacher(config, base, champion)
    if second is None:
        say("no pair model serves, no other teacher is named: no unlabelled list is learned from")
        return [], _counts(len(unlabelled), 0, 0)
    asked = drawn(unlabelled, round(settings.share * len(learn)), config.recipe.seed)
    asked = [spelled(each, base) for each in asked]

    def both() -> tuple[Score, Score]:
        return partial(own_word, champion), second()

    lists = judged(asked, settings, mean_weight(learn), both, one)
    say(
        f"{len(lists)} of {len(asked)} unlabelled lists learned from; of the others the teachers"
        " say too little in one order, or what serves has no word of its own"
    )
    return lists, _counts(len(unlabelled), len(asked), len(lists))


def judged(
    asked: Sequence[JoinedSearch],
    settings: Unlabelled,
    real: float,
    teachers: Callable[[], Sequence[Score]],
    one: Round,
) -> list[LabelledList]:
    """What the teachers, asked once in a round, agree on: each grade weighs the settings' share of
    `real`, a real grade's weight; what they disagree on is left out of its list."""

    def ask(folder: Path) -> None:
        found = verdicts(asked, teachers(), settings.agreement)
        write_whole(folder / VERDICTS, msgspec.json.encode(found))

    path = one.stage(STAGE, ask) / VERDICTS
    found = msgspec.json.decode(path.read_bytes(), type=list[Verdict | None])
    return [
        _labelled(search, verdict, settings.weight * real)
        for search, verdict in zip(asked, found, strict=True)
        if verdict is not None
    ]


def mean_weight(lists: Sequence[LabelledList]) -> float:
    """Of the grades that count; 0 where none does."""
    weights = np.concatenate([np.zeros(0), *(one.weights for one in lists)])
    return float(weights[weights > 0.0].mean()) if weights.any() else 0.0


def drawn(searches: Sequence[JoinedSearch], count: int, seed: int) -> list[JoinedSearch]:
    """So many by lot, in their order, of those with a query and two candidates to put in order."""
    fit = [one for one in searches if one.query.strip() and len(one.entries) > 1]
    chance = np.random.default_rng((seed, len(fit)))
    return [fit[row] for row in sorted(reservoir(range(len(fit)), count, chance))]


def _counts(found: int, asked: int, learned: int) -> dict[str, float]:
    """As a report tells of them."""
    return {"unlabelled": found, "unlabelled_asked": asked, "unlabelled_learned": learned}


def _verdict(said: Doubles, agreement: float) -> Verdict | None:
    if not np.isfinite(said).all():
        raise BadRecipe(f"the teachers' logits: {(~np.isfinite(said)).sum()} are not finite")
    rows = common_order(said)
    if len(rows) < agreement * said.shape[1] or said[0, rows[0]] == said[0, rows[-1]]:
        return None
    rows.sort()
    return Verdict(tuple(rows.tolist()), tuple(sigmoid(said[0, rows]).tolist()))


def _labelled(search: JoinedSearch, verdict: Verdict, weight: float) -> LabelledList:
    entries = tuple(search.entries[row] for row in verdict.rows)
    grades = np.array(verdict.grades)
    return LabelledList(replace(search, entries=entries), grades, np.full(len(grades), weight))


def _back(row: int, before: Integers) -> Iterator[int]:
    while row >= 0:
        yield row
        row = int(before[row])
