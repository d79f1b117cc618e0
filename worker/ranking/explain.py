"""A ranked list in words: for each item one sentence that says what put it there.

All that is said stands in the list's own fields, so a list that was logged can be explained later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from worker.events import RankedItem, RankedList

TOLD: Final = 0.005  # a cost that two decimals show


def sentence(item: RankedItem, *, drawn: bool = False) -> str:
    """What put an item where it stands, strongest reason first; `drawn` by the long tail's lot.

    >>> from worker.events import Why
    >>> why = Why(relevance=0.91, diversity=-0.04, rule=None, repeats="sku-1", limit="ads")
    >>> of = dict(item_id="sku-2", rank=3, relevance=0.91, gain=0.87, category=None, engine_rank=2)
    >>> more = dict(engine_score=1.0, sponsored=None, ad_id=None, base_rank=3, shown_probability=1)
    >>> sentence(RankedItem(**of, **more, why=why))
    'relevance 0.91, less 0.04 for what it repeats of sku-1; limit ads held back a better one'
    """
    return "; ".join(_reasons(item, drawn))


def table(ranked: RankedList) -> str:
    """The list as text: a line an item, the engine's rank in brackets, and what became of rules and
    limits."""
    model = f"model {ranked.model[:12]}" if ranked.model else "no model"
    state = f"degraded: {ranked.reason}" if ranked.degraded else model
    read = f" read as {ranked.read_as!r}" if ranked.read_as else ""
    title = f"{ranked.query_id}  {ranked.user_query!r}{read}  dial {ranked.diversity:g}  ({state})"
    rows = [
        (
            str(item.rank),
            item.item_id,
            f"({item.engine_rank})",
            sentence(item, drawn=item.item_id in ranked.tail_items and item.base_rank != item.rank),
        )
        for item in ranked.items
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = [
        f"{rank:>{widths[0]}}  {item:<{widths[1]}}  {engine:>{widths[2]}}  {words}"
        for rank, item, engine, words in rows
    ]
    notes = {
        "rules that spoke": ranked.rules_applied,
        "limits that the candidates did not allow": ranked.limits_relaxed,
        "unknown items": ranked.unknown_items,
    }
    told = [f"{name}: {', '.join(found)}" for name, found in notes.items() if found]
    return "\n".join([*map(_printable, [title, *lines, *told]), ""])


def _printable(line: str) -> str:
    """A shop's ids forge no lines and no colours."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def _reasons(item: RankedItem, drawn: bool) -> Iterator[str]:
    why = item.why
    if item.relevance is None:
        yield "the engine's order"
    elif why.diversity <= -TOLD:
        over = f" of {why.repeats}" if why.repeats else ""
        yield f"relevance {why.relevance:.2f}, less {-why.diversity:.2f} for what it repeats{over}"
    elif why.diversity >= TOLD:
        yield f"relevance {why.relevance:.2f}, and {why.diversity:.2f} for what the list lacked"
    else:
        yield f"relevance {item.relevance:.2f}"
    if why.rule is not None:
        yield f"rule {why.rule}"
    if why.limit is not None:
        yield f"limit {why.limit} held back a better one"
    if drawn:
        yield "drawn for the long tail, or for what it moved"
    elif item.base_rank != item.rank:
        yield f"moved from {item.base_rank} by exploration"
    if why.offer is not None:
        offer = "a bid of" if item.relevance is None else "bid x relevance"
        yield f"sponsored: won the slot with {offer} {why.offer:.2f}"
    elif item.sponsored:
        yield "sponsored"
