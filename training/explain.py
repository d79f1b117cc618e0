"""`python -m training explain`: why items are as relevant as a bundle says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from export.session import Session, open_session
from training import explained, judgments
from training.reasons import chosen, drawn, reasons
from training.visitors import read_items
from worker.events import SearchEvent
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, JoinedSearch, Tables, join

if TYPE_CHECKING:
    from training.gradients import Gradients


def explain(options: argparse.Namespace) -> int:
    """Pair by pair, and what they have in common; JSON is one line, last."""
    session = open_session(options.bundle, options.variant)
    model = Bundled(session)
    pairs = chosen(_searches(options), model, options.query_id, options.item_id)
    found, told, read = [], options.markdown or not options.json, []
    gradients = _gradients(session) if options.gradients else None
    for pair in drawn(pairs, options.pairs, options.seed):
        found.append(reasons(pair, options.evaluations, options.seed))
        if told:
            print(explained.markdown(found[-1]), end="\n\n", flush=True)
        if gradients is not None:
            read.append(gradients.of(pair))
            if told:
                print(explained.gradients_markdown(read[-1]), end="\n\n", flush=True)
    uses = explained.summary(found)
    if told and len(found) > 1:
        print(explained.summary_markdown(uses, len(found)))
    if options.json:
        head = {"bundle": model.digest, "seed": options.seed, "of": len(pairs)}
        print(json.dumps({**head, **explained.as_json(found, uses, read)}))
    return 0


def _gradients(session: Session) -> Gradients:
    from training.gradients import Gradients  # torch: seconds

    return Gradients(session)


def _searches(options: argparse.Namespace) -> Iterator[JoinedSearch]:
    """Of the judged queries where some are named, else of the search events on stdin."""
    queries = [each for path in options.judgments for each in judgments.read_jsonl(path)]
    for name in options.sets if options.data else ():
        queries += judgments.read_set(name, options.data, options.split)
    for query in queries:
        yield _joined(query.event, query.tables)
    if not queries:
        items = read_items(options.catalogue) if options.catalogue else ()
        tables = Tables(catalogue={item.item_id: item for item in items})
        for event in judgments.read_events("stdin", sys.stdin.buffer):
            yield _joined(event, tables)


def _joined(event: SearchEvent, tables: Tables) -> JoinedSearch:
    return join(msgspec.structs.replace(event, policy=None), tables, Dials())
