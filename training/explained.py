"""Explanations on paper: a pair's in words and as JSON, and of many pairs what a model goes by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from training.parts import QUERY, Part
from training.reasons import Edit, Explanation, Game, Shared
from worker.ranking.rules import words

if TYPE_CHECKING:
    from training.gradients import Attributed  # torch: seconds, where nobody asks for gradients

TITLES: Final[Mapping[Game, str]] = {
    "query": "word of the query",
    "item": "word of the item",
    "fields": "field",
}
SHOWN: Final = 10  # parts of a game that a table shows
EDITS: Final = 3  # that are told, each way
LEAST: Final = 0.005  # a change that two decimals show
OPENING: Final = 3  # words that open a field


@dataclass(frozen=True, slots=True)
class Use:
    """How much of what a model goes by is of one kind."""

    of: Game
    kind: str
    pairs: int  # in which it occurs
    parts: float  # its share of the parts, mean over pairs
    share: float  # its share of the sum of |attribution|, mean over pairs
    mean: float  # attribution of one such part


def markdown(one: Explanation) -> str:
    """What is known of one pair, for people."""
    title = f"**{_plain(one.user_query)}** / {_plain(one.item.item_id)}"
    named = f" ({_plain(one.item.title)})" if one.item.title else ""
    lines = [f"{title}{named}: relevance {one.relevance:.3f}"]
    for game, shared in one.games.items():
        if shared.parts:
            lines += ["", *_table(game, shared)]
    told = told_edits(one)
    return "\n".join([*lines, *([""] if told else []), *(f"- {edit.line}" for edit in told)])


def told_edits(one: Explanation) -> list[Edit]:
    """The edits that change most, those that lower the relevance first."""
    falls = [edit for edit in one.edits if edit.before - edit.after >= LEAST]
    rises = [edit for edit in one.edits if edit.after - edit.before >= LEAST]
    return [*falls[:EDITS], *rises[:EDITS]]


def gradients_markdown(one: Attributed) -> str:
    """What each word adds to the pair model's logit, and the fields as wholes."""
    order = np.argsort(-np.abs(one.values), kind="stable").tolist()
    lines = ["| word, by gradients | adds to the logit |", "|---|--:|"]
    for row in order[:SHOWN]:
        part = one.parts[row]
        place = f" ({part.field})" if part.text else part.field
        lines.append(f"| {_plain(part.text + place)} | {one.values[row]:+.3f} |")
    if order[SHOWN:]:
        lines.append(f"| {len(order) - SHOWN} others | {one.values[order[SHOWN:]].sum():+.3f} |")
    fields = ", ".join(f"{_plain(name)} {value:+.3f}" for name, value in one.by_field().items())
    return "\n".join(
        [
            *lines,
            f"| the logit, and the baseline's | {one.whole:.3f}, {one.nothing:.3f} |",
            "",
            f"As wholes: {fields}.",
        ]
    )


def as_json(
    found: Sequence[Explanation], uses: Sequence[Use], read: Sequence[Attributed] = ()
) -> dict[str, Any]:
    """Everything that is known, as plain values; `read`, where it is asked for, pair by pair."""
    pairs = [_pair_json(one) for one in found]
    for one, by in zip(pairs, read, strict=False):
        one["gradients"] = _gradients_json(by)
    return {"explanations": pairs, "summary": [asdict(use) for use in uses]}


def _gradients_json(one: Attributed) -> dict[str, Any]:
    return {
        "logit": one.whole,
        "without": one.nothing,
        "between": one.rest,
        "fields": one.by_field(),
        "parts": [
            {**asdict(part), "adds": value}
            for part, value in zip(one.parts, one.values.tolist(), strict=True)
        ],
    }


def _pair_json(one: Explanation) -> dict[str, Any]:
    return {
        "query_id": one.query_id,
        "user_query": one.user_query,
        "item_id": one.item.item_id,
        "relevance": one.relevance,
        "attributions": {
            game: {
                "without": shared.found.nothing,
                "parts": [
                    {**asdict(part), "adds": value, "standard_error": error}
                    for part, value, error in _rows(shared)
                ],
            }
            for game, shared in one.games.items()
        },
        "edits": [
            {"edit": edit.told, "before": edit.before, "after": edit.after} for edit in one.edits
        ],
    }


def summary(explanations: Sequence[Explanation]) -> list[Use]:
    """By field, and by kind of word: what the relevance of these pairs is made of."""
    uses = []
    for game in TITLES:
        moved = [one for one in explanations if np.abs(one.games[game].found.values).sum() > 0.0]
        found: dict[str, list[Use]] = {}
        for one in moved:
            for use in _uses(one, game):
                found.setdefault(use.kind, []).append(use)
        uses += sorted(
            (_mean(each, len(moved)) for each in found.values()), key=lambda use: -use.share
        )
    return uses


def _uses(one: Explanation, game: Game) -> Iterator[Use]:
    """What each kind is in one pair."""
    shared = one.games[game]
    sizes = np.abs(shared.found.values)
    kinds = [set(_kinds(one, game, part)) for part in shared.parts]
    for kind in sorted(set().union(*kinds)):
        of = np.array([kind in each for each in kinds])
        share, mean = sizes[of].sum() / sizes.sum(), shared.found.values[of].mean()
        yield Use(game, kind, 1, float(of.mean()), float(share), float(mean))


def _mean(uses: Sequence[Use], pairs: int) -> Use:
    """Of one kind: shares are means over all `pairs`, 0 where it does not occur."""
    return Use(
        uses[0].of,
        uses[0].kind,
        len(uses),
        sum(use.parts for use in uses) / pairs,
        sum(use.share for use in uses) / pairs,
        sum(use.mean for use in uses) / len(uses),
    )


def summary_markdown(uses: Sequence[Use], pairs: int) -> str:
    """The summary as a table."""
    lines = [
        f"**What the relevance of {pairs} pairs is made of** (a word may be of several kinds)",
        "",
        "| part | kind | pairs | of the parts | of the attribution | adds, each |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for use in uses:
        cells = (TITLES[use.of], _plain(use.kind), str(use.pairs), f"{use.parts:.0%}")
        lines.append("| {} | {:.0%} | {:+.4f} |".format(" | ".join(cells), use.share, use.mean))
    return "\n".join(lines)


def _kinds(one: Explanation, game: Game, part: Part) -> Iterator[str]:
    """What a part is; a word may be several things, and is at least one."""
    if game == "fields":
        yield part.field
        return
    said = set(words(part.text))
    if part.field == QUERY:
        item = {word for each in one.games["item"].parts for word in words(each.text)}
        yield "in the item too" if said & item else "not in the item"
        return
    yield "in the query too" if said & set(words(one.user_query)) else "not in the query"
    if any(letter.isdigit() for letter in part.text):
        yield "with a digit"
    if said & set(words(one.item.brand or "")):
        yield "of the brand"
    if part.place < OPENING:
        yield f"among a field's first {OPENING}"


def _table(game: Game, shared: Shared) -> Iterator[str]:
    """A game's parts, those that matter most first."""
    rows = sorted(_rows(shared), key=lambda row: -abs(row[1]))
    yield f"| {TITLES[game]} | adds | |"
    yield "|---|--:|---|"
    for part, value, error in rows[:SHOWN]:
        name = part.text or part.field
        place = f" ({part.field})" if part.text and part.field not in (QUERY, "title") else ""
        doubt = f"± {error:.3f}" if error > 0.0 else ""
        yield f"| {_plain(name + place)} | {value:+.3f} | {doubt} |"
    rest = sum(value for _, value, _ in rows[SHOWN:])
    if rows[SHOWN:]:
        yield f"| {len(rows) - SHOWN} others | {rest:+.3f} | |"
    yield f"| without any of them | {shared.found.nothing:.3f} | |"


def _rows(shared: Shared) -> list[tuple[Part, float, float]]:
    found = shared.found
    return list(zip(shared.parts, found.values.tolist(), found.errors.tolist(), strict=True))


def _plain(text: str) -> str:
    """A shop's texts forge no lines, no cells and no colours."""
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return shown.replace("|", "\\|")
