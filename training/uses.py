"""What a model uses, for a round's report: a few judged pairs, taken apart.

The logit of the pair model by integrated gradients (`training.gradients`), over pairs that the seed
alone draws; and of the most relevant of them the words whose absence costs most of the relevance
that is served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from export.session import Session
from training.gradients import Attributed, Gradients
from training.judgments import GradedQuery
from training.parts import QUERY, Pair
from training.reasons import drawn, edits
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, join
from worker.ranking.rules import words

PAIRS: Final = 12  # that are taken apart
EDITED: Final = 4  # of them, whose words are left out one by one
TOLD: Final = 3  # edits
STEPS: Final = 16  # of a pair's gradients
HAS, LACKS = "query words that the item has", "query words that it lacks"


class Uses(Struct, frozen=True, kw_only=True):
    """What the pair model's logit is made of, and what would change the relevance."""

    pairs: int
    sizes: dict[
        str, float
    ]  # kind of part -> mean over pairs of its sum of |attribution|, in logits
    edits: tuple[str, ...]

    def markdown(self) -> str:
        """A table, the largest first, and the edits."""
        whole = sum(self.sizes.values()) or 1.0
        lines = ["| part | mean \\|attribution\\| | share |", "|---|--:|--:|"]
        for name, size in self.sizes.items():
            shown = name.replace("|", "\\|")
            lines.append(f"| {shown} | {size:.3f} | {size / whole:.0%} |")
        return "\n".join([*lines, "", *(f"- {line}" for line in self.edits)]).rstrip()


def uses(session: Session, sets: Mapping[str, Sequence[GradedQuery]], seed: int) -> Uses | None:
    """Of a draft with its constants; None where no judged pair can be taken apart."""
    model = Bundled(session)
    known: list[Pair] = []
    grades: dict[tuple[int, int], float] = {}
    for query in (each for name in sorted(sets) for each in sets[name]):
        search = join(msgspec.structs.replace(query.event, policy=None), query.tables, Dials())
        graded = dict(zip((e.item_id for e in query.event.candidates), query.grades, strict=True))
        for row, entry in enumerate(search.entries):
            if query.event.user_query.strip() and entry.item.title:
                known.append(Pair(search, row, model))
                grades[id(search), row] = graded[entry.item.item_id]
    if not known:
        return None
    pairs = drawn(known, PAIRS, seed)
    gradients = Gradients(session, STEPS)
    best = sorted(pairs, key=lambda pair: -grades[id(pair.search), pair.row])[:EDITED]
    return Uses(
        pairs=len(pairs),
        sizes=_sizes(pairs, [gradients.of(pair) for pair in pairs]),
        edits=_told(best),
    )


def _sizes(pairs: Sequence[Pair], found: Sequence[Attributed]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for pair, one in zip(pairs, found, strict=True):
        item = {word for part in pair.item_words() for word in words(part.text)}
        for part, value in zip(one.parts, one.values.tolist(), strict=True):
            kind = part.field
            if kind == QUERY:
                kind = HAS if set(words(part.text)) & item else LACKS
            sums[kind] = sums.get(kind, 0.0) + abs(value)
    return {name: sums[name] / len(pairs) for name in sorted(sums, key=lambda name: -sums[name])}


def _told(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The edits that lower a relevance most, one a pair."""
    falls = []
    for pair in pairs:
        worst = min(edits(pair)[1], key=lambda edit: edit.after - edit.before, default=None)
        if worst is not None and worst.after < worst.before:
            about = f"{pair.search.event.user_query} / {pair.item.title}"
            shown = "".join(
                each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in about
            )
            falls.append((worst.after - worst.before, f"{shown}: {worst.line}"))
    return tuple(line for _, line in sorted(falls)[:TOLD])
