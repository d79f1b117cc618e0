"""How likely each place of a list is to be looked at, compared with the first: two estimators.

`harvest` compares places by what exploration swapped between them; `em` explains clicks by place
and by pair of query and item together. `estimate` takes the first where there is enough of it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace

from training.bootstrap import BLOCKS, percentiles, resampled
from training.columns import Columns
from training.em import fit, tallied
from worker.ranking.model import Doubles, Integers

Method: TypeAlias = Literal["harvest", "em", "regression-em", "assumed"]
REPEATED: Final = 20.0  # times that a pair must have been shown before its own clicks tell
BINS: Final = 20  # of the relevance that lists claim
MOST: Final = 2.0  # of a place against the first: up to here it is taken for chance, and for 1


class ExaminationSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How examination is estimated."""

    method: Annotated[
        Literal["auto", "harvest", "em", "regression-em", "assumed"],
        Meta(description="auto: harvest where exploration suffices, else em, as `why` says"),
    ] = "auto"
    places: Annotated[
        int, Meta(ge=1, description="how many places are estimated; below, the curve is prolonged")
    ] = 20
    least_clicks: Annotated[
        int,
        Meta(
            ge=1,
            description="clicks on swapped items, on either side, from which two neighbouring "
            "places are compared; and on all, from which em is trusted",
        ),
    ] = 50
    least_places: Annotated[
        int, Meta(ge=2, description="how far harvesting must reach to be chosen over em")
    ] = 3
    smooth: Annotated[
        bool, Meta(description="put the power law (1 / place) ** eta in the place of the estimates")
    ] = False
    eta: Annotated[
        float, Meta(ge=0, description="of that power law where clicks do not tell it")
    ] = 1.0
    iterations: Annotated[int, Meta(ge=1, description="of em, at most")] = 1_000
    tolerance: Annotated[
        float, Meta(gt=0, description="em ends when nothing moves by more than this in a step")
    ] = 1e-6
    seed: Annotated[int, Meta(description="of the bootstrap")] = 0


class Examination(Struct, frozen=True, kw_only=True):
    """P(examined) by place over that of the first: `theta[0]` is 1, place k is `theta[k - 1]`.

    Nothing is above 1: grades are read against a first place that people look at.
    """

    method: Method
    why: str
    theta: tuple[float, ...]
    clicks: tuple[int, ...]  # how many each place rests on
    eta: float  # of the power law by which the curve goes on below its last place
    low: tuple[float, ...] | None = None  # the 95 % interval, where the method gives one
    high: tuple[float, ...] | None = None

    def at(self, places: Integers) -> Doubles:
        """[n] the examination of each 1-based place."""
        known = len(self.theta)
        curve = np.asarray(self.theta)[np.minimum(places, known) - 1]
        return np.asarray(curve * (known / np.maximum(places, known)) ** self.eta)


def estimate(columns: Columns, settings: ExaminationSettings) -> Examination:
    """The curve by the method that the settings ask for, or that the impressions allow.

    `why` says which and for what reason. Impressions that tell nothing give the assumed curve,
    whatever is asked for; so do those that tell nothing of the first place, which all others are
    held against, or that say it is looked at less than another (a banner stands there).
    """
    if settings.method == "harvest":
        return harvest(columns, settings)
    if settings.method in ("em", "regression-em"):
        return _by_em(columns, settings, settings.method, "asked for")
    if settings.method == "assumed":
        return _assumed("asked for", settings)
    harvested, reach = harvest(columns, settings), min(settings.least_places, _deepest(columns))
    told = len(harvested.theta) if harvested.method == "harvest" else 1
    if 1 < told >= reach:
        return harvested
    clicks = int(columns.clicks.sum())
    short = f"exploration tells {told} of {reach} places"
    if clicks < settings.least_clicks:
        return _assumed(f"{short}, and there are {clicks} clicks", settings)
    repeats, claimed = _repeats(columns), not np.isnan(columns.relevance).all()
    method: Method = "regression-em" if claimed and repeats < REPEATED else "em"
    why = f"{short}; a pair was shown {repeats:.1f} times at different places"
    return _by_em(columns, settings, method, why)


def _by_em(
    columns: Columns, settings: ExaminationSettings, method: Method, why: str
) -> Examination:
    first = int(columns.clicks[columns.places == 1].sum())
    if first < settings.least_clicks:
        return _assumed(f"{why}; {first} clicks on the first place, too few", settings)
    if method == "regression-em" and np.isnan(columns.relevance).all():
        return _assumed(f"{why}; no list claims a relevance", settings)
    found, _ = em(columns, settings, _groups(columns, method))
    known: Method = method if found.method == "em" else "assumed"
    return replace(found, method=known, why=f"{why}; {found.why}")


def harvest(columns: Columns, settings: ExaminationSettings) -> Examination:
    """Intervention harvesting along the chain of neighbours (Agarwal et al., WSDM 2019, "Estimating
    position bias without intrusive interventions", the adjacent-chain estimator).

    For places k and k + 1 count the items that exploration could have put at either, each weighed
    by 1 / P(shown where it was shown): the ratio of the two weighted click rates is
    theta[k + 1] / theta[k], whatever the items are worth. The chain ends where fewer than
    `least_clicks` clicks fell on swapped items on either side.
    """
    links, sides, rows = _links(columns, settings.places)
    count = int(links.max()) if len(links) else 0
    swapped = columns.places[rows] != columns.bases[rows]
    clicks = columns.clicks[rows]
    cells = (links - 1) * 2 + sides
    support = np.bincount(cells, weights=clicks * swapped, minlength=2 * count).reshape(-1, 2)
    enough = support.min(axis=1) >= settings.least_clicks
    known = count if enough.all() else int(np.argmin(enough))
    if known == 0:
        return _assumed("exploration swapped too little to compare two places", settings)
    inverse = 1.0 / columns.probabilities[rows]
    sums = _by_block(cells, columns.lists[rows], np.stack([inverse * clicks, inverse]), known)
    theta = _chain(sums.sum(axis=0)[np.newaxis])[0]
    low, high = percentiles(_chain(resampled(sums, settings.seed)))
    first = [int(support[0, 0])]
    return _finished(
        Examination(
            method="harvest",
            why=f"{int(support[:known].sum())} clicks on swapped neighbours",
            theta=tuple(theta.tolist()),
            clicks=tuple(first + support[:known].min(axis=1).astype(int).tolist()),
            eta=settings.eta,
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
        ),
        settings,
    )


def em(
    columns: Columns, settings: ExaminationSettings, groups: Integers | None = None
) -> tuple[Examination, Doubles]:
    """The position-based model by expectation maximisation; also the attraction of each group.

    P(click) = theta[place] x attraction[group] (Wang et al., WSDM 2018, "Position bias estimation
    for unbiased learning to rank in personal search", the standard EM). `groups` [n] says which
    impressions are of equal attraction: pairs of query and item unless given otherwise. Each group
    starts with PRIOR examinations of the mean attraction, so that one seen once is not certain.

    Pairs shown a few times are fitted too well. For those regression-em (ibid.) reads
    attraction off features, here off the relevance that lists claim: it orders them, so that
    nothing else ties an item's place to what it is worth.
    """
    groups = columns.pairs if groups is None else groups
    tally = tallied(columns, groups, min(settings.places, _deepest(columns)))
    theta, attraction = fit(tally, settings.iterations, settings.tolerance)
    found = Examination(
        method="em",
        why=f"{int(tally.clicks.sum())} clicks on {tally.groups} groups",
        theta=tuple((theta / theta[0]).tolist()),
        clicks=tuple(tally.of_place(tally.clicks).astype(int).tolist()),
        eta=settings.eta,
    )
    return _finished(found, settings), np.minimum(attraction * theta[0], 1.0)


def _links(columns: Columns, places: int) -> tuple[Integers, Integers, Integers]:
    """(link, side, row): row was shown at place link + side, and exploration could have put it at
    the other of the two. A row counts for one link or two, and links begin at place 1."""
    rows = np.arange(len(columns))
    moved = columns.places - columns.bases
    down = columns.downs & ((moved == 0) | (moved == 1)) & (columns.bases < places)
    up = columns.ups & ((moved == 0) | (moved == -1)) & (columns.bases <= places)
    links = np.concatenate([columns.bases[down], columns.bases[up] - 1])
    rows = np.concatenate([rows[down], rows[up]])
    return links, columns.places[rows] - links, rows


def _by_block(cells: Integers, lists: Integers, values: Doubles, known: int) -> Doubles:
    """[blocks, 2 x known x sides] sums of both rows of `values` by block of lists and by cell."""
    inside = cells < 2 * known
    blocks = min(BLOCKS, int(lists.max()) + 1)
    keys = (lists[inside] % BLOCKS) * 2 * known + cells[inside]
    sums = [np.bincount(keys, weights=row[inside], minlength=blocks * 2 * known) for row in values]
    return np.concatenate([each.reshape(blocks, 2 * known) for each in sums], axis=1)


def _chain(totals: Doubles) -> Doubles:
    """[draws, places] the curve of each row of totals: (clicks, shown) x links x sides."""
    clicks, shown = np.split(totals.reshape(len(totals), 2, -1, 2), 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = (clicks / shown)[:, 0]
        ratios = rates[:, :, 1] / rates[:, :, 0]
    ratios = np.where(np.isfinite(ratios), ratios, np.nan)  # a draw without clicks says nothing
    return np.cumprod(np.concatenate([np.ones((len(totals), 1)), ratios], axis=1), axis=1)


def _groups(columns: Columns, method: Method) -> Integers:
    """Whose attraction is one: pairs, or for regression-em those of like relevance."""
    if method == "em":
        return columns.pairs
    known = ~np.isnan(columns.relevance)
    edges = np.unique(np.quantile(columns.relevance[known], np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.where(known, np.searchsorted(edges, columns.relevance, side="right"), len(edges) + 1)


def _repeats(columns: Columns) -> float:
    """How often the pair of an impression was shown, on average; one that always stood at the same
    place tells nothing of places, and counts 0."""
    depth = _deepest(columns) + 1
    places = np.bincount(np.unique(columns.pairs * depth + columns.places) // depth)
    shown = np.bincount(columns.pairs)
    return float(np.where(places > 1, shown, 0)[columns.pairs].mean())


def _deepest(columns: Columns) -> int:
    return int(columns.places.max()) if len(columns) else 1


def _assumed(why: str, settings: ExaminationSettings) -> Examination:
    """(1 / place) ** eta (Joachims et al., WSDM 2017, section 6), where nothing else is known."""
    theta = tuple((1.0 / np.arange(1, settings.places + 1) ** settings.eta).tolist())
    none = (0,) * len(theta)
    return Examination(method="assumed", why=why, theta=theta, clicks=none, eta=settings.eta)


def _finished(found: Examination, settings: ExaminationSettings) -> Examination:
    """With the power law that fits the curve best: it prolongs it, and smooths it where asked.

    A place above the first is one that is looked at like it; above MOST, on `least_clicks`, it
    belies the first.
    """
    told = np.where(np.asarray(found.clicks) >= settings.least_clicks, found.theta, 0.0)
    most, place = told.max(), told.argmax() + 1
    if most > MOST:
        why = f"{found.why}; place {place} seems looked at {most:.3g} times as often as the first"
        return _assumed(why, settings)
    curve, low, high = (_ended(each) for each in (found.theta, found.low, found.high))
    logs = np.log(np.arange(1, len(found.theta) + 1))
    theta = np.clip(found.theta, 1e-9, 1.0)
    weights = np.asarray(found.clicks) * logs
    squares = float(weights @ logs)
    eta = max(0.0, -float(weights @ np.log(theta)) / squares) if squares > 0 else settings.eta
    smooth = tuple(np.exp(-eta * logs).tolist()) if settings.smooth else curve
    return replace(found, eta=eta, theta=smooth, low=low, high=high)


def _ended(curve: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if curve is None else tuple(np.minimum(curve, 1.0).tolist())
