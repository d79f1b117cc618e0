"""What limits cost: 1,000 searches under caps, quotas, a fair table, exposure, an auction, a tail,
exploration and rules at once (`ours_us`), and as many under none (`peer_us`).

`python -m worker bench limited`. Both sides rank on the live bundle with one thread, in turns, 100
candidates and a page of 20. `known` is the dearest case for limits: the same searches, and every
text has been read, so that the model does nothing. In `new query` each side reads a query of its
own, in `new items` a tenth of the titles besides.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from export.registry import Registry
from export.session import open_session
from tests.benchmarks.measuring import WARM_UP, medians_us, show
from tests.factories import event, joined
from worker.demo.children import ensure_live_bundle
from worker.events import Candidate, ListRule
from worker.policies import Policy
from worker.ranking.bundled import Bundled
from worker.ranking.join import JoinedSearch, Tables
from worker.ranking.rerank import rerank
from worker.shop.catalogue import generate

REGISTRY: Final = Path(".prismrank/registry")
LISTS, CANDIDATES, PAGE, NEW = 1_000, 100, 20, 10
POLICY: Final[dict[str, Any]] = {
    "policy_id": "all",
    "explore": 0.2,
    "limits": [
        {"limit_id": "cheap", "field": "price", "to": 40, "at_least": 2},
        {
            "limit_id": "new",
            "field": "features.new",
            "from": 0.5,
            "share_at_least": 0.3,
            "significance": 0.1,
        },
        {"limit_id": "small", "field": "seller", "value": "s0", "exposure_at_least": 0.15},
    ],
    "caps": {"brand": 4, "seller": 6},
    "ads": {"slots": [1, 5, 9], "share_at_most": 0.1},
    "tail": {"rank": 8, "probability": 0.1, "field": "features.new", "from": 0.5},
}
RULES: Final[list[dict[str, Any]]] = [
    {"rule_id": "cap", "action": "cap", "field": "category", "limit": 8},
    {"rule_id": "pin", "action": "pin", "item_ids": ["i3"], "position": 2},
    {"rule_id": "block", "action": "block", "item_ids": ["i5"]},
    {"rule_id": "boost", "action": "boost", "field": "seller", "value": "s1", "factor": 2},
]


def searches(tables: Tables, name: str, lists: int, fresh: int) -> Iterator[JoinedSearch]:
    """Searches of the built-in shop; of each, so many titles have not been read before."""
    shop = list(generate().values())
    for number in range(lists):
        query = f"running shoes {name} {number}" if name else "running shoes"
        chosen = [shop[(number * 7 + row * 11) % len(shop)] for row in range(CANDIDATES)]
        candidates = [
            Candidate(
                item_id=f"i{row}",
                title=f"{item.title} {query}" if row < fresh else item.title,
                category=item.category,
                brand=item.brand,
                price=item.price,
                seller=f"s{row % 7}",
                features={"new": float(row % 3 == 0)},
                sponsored=row % 9 == 0,
                bid=float(row % 4),
            )
            for row, item in enumerate(chosen)
        ]
        asked: dict[str, Any] = {"k": PAGE, "diversity": 0.2, "policy": "all"}
        yield joined(event(candidates, query_id=f"q{number}", user_query=query, **asked), tables)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--lists", type=int, default=LISTS)
    chosen = parser.parse_args(arguments)
    live = asyncio.run(ensure_live_bundle(REGISTRY, print))
    folder = Registry(str(REGISTRY)).fetch(live, Path(".prismrank/cache"))
    model = Bundled(open_session(folder, "fp32", "cpu"))
    rules = {rule.rule_id: rule for rule in (msgspec.convert(one, ListRule) for one in RULES)}
    limited = Tables(rules=rules, policies={"all": msgspec.convert(POLICY, Policy)})
    free = Tables(policies={"all": Policy(policy_id="all")})
    for known in searches(free, "", len(generate()), 0):
        rerank([known], model)
    rows = []
    for method, fresh in (("known", 0), ("new query", 0), ("new items", NEW)):
        count = WARM_UP + chosen.lists
        names = ("", "") if method == "known" else (f"a {method}", f"b {method}")
        sides = [
            list(searches(tables, name, count, fresh))
            for tables, name in zip((limited, free), names, strict=True)
        ]
        ours, peer = (iter(side) for side in sides)
        ours_us, peer_us = medians_us(
            lambda ours=ours: rerank([next(ours)], model),  # type: ignore[misc]
            lambda peer=peer: rerank([next(peer)], model),  # type: ignore[misc]
            chosen.lists,
        )
        rows.append(
            {
                "method": method,
                "n": CANDIDATES,
                "k": PAGE,
                "ours_us": round(ours_us, 1),
                "peer_us": round(peer_us, 1),
                "ratio": round(peer_us / ours_us, 3),
            }
        )
    show(rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
