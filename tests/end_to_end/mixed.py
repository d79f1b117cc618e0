"""2,000 lines as the world sends them: good ones among every kind of bad one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

WORDS = ("red", "blue", "trail", "running", "shoe", "wool", "hat", "rain", "coat")
LARGE = 900_000  # bytes: what a broker with its defaults may refuse


def good(n: int, **fields: Any) -> bytes:
    """A search that gives a list."""
    items = [
        {
            "item_id": f"i{n}-{place}",
            "title": f"{WORDS[place % 9]} {WORDS[(n + place) % 9]}",
            "score": place,
        }
        for place in range(5)
    ]
    return json.dumps(
        {"query_id": f"q{n}", "user_query": "running shoes", "candidates": items} | fields
    ).encode()


KINDS: list[tuple[str, Callable[[int], bytes], str | None]] = [
    ("good", good, None),
    ("unknown items", lambda n: good(n, candidates=[{"item_id": "x"}, {"item_id": "y"}]), None),
    ("repeated ids", lambda n: good(n, candidates=[{"item_id": "x", "title": "a hat"}] * 3), None),
    ("no candidates", lambda n: good(n, candidates=[]), None),
    ("unknown fields", lambda n: good(n, page={"deep": [1, {"er": None}]}), None),
    ("an empty query", lambda n: good(n, user_query=""), None),
    ("a title without end", lambda n: good(n, user_query="shoes " * 5_000), None),
    ("emoji and rare scripts", lambda n: good(n, user_query="👟 𝒳 รองเท้า אַ"), None),
    ("undecodable bytes", lambda _: b"\xff\xfe\x00\x81", "$"),
    ("undecodable in a field", lambda _: b'{"query_id":"a\xff","user_query":""}', "$.query_id"),
    ("half a surrogate", lambda _: b'{"query_id":"a","user_query":"\\udc00"}', "$.user_query"),
    ("no JSON", lambda _: b"SELECT * FROM shoes", "$"),
    ("nothing", lambda _: b"", "$"),
    ("deep JSON", lambda _: b'{"query_id":"a","user_query":' + b"[" * 50_000, "$"),
    ("a list", lambda _: b"[1,2,3]", "$"),
    ("a number for a query", lambda n: good(n, user_query=7), "$.user_query"),
    ("no query_id", lambda _: b'{"user_query":"x"}', "$.query_id"),
    ("an empty query_id", lambda n: good(n, query_id=""), "$.query_id"),
    ("no item_id", lambda n: good(n, candidates=[{"title": "x"}]), "$.candidates[0].item_id"),
    (
        "NaN",
        lambda n: good(n, candidates=[{"item_id": "a", "title": "x", "score": float("nan")}]),
        "$.candidates[0].score",
    ),
    (
        "infinity",
        lambda n: good(n, candidates=[{"item_id": "a", "price": float("-inf")}]),
        "$.candidates[0].price",
    ),
    ("a dial of 7", lambda n: good(n, diversity=7), "$.diversity"),
    ("k of 0", lambda n: good(n, k=0), "$.k"),
    ("an unknown policy", lambda n: good(n, policy="secret"), "$.policy"),
    (
        "a boolean title",
        lambda n: good(n, candidates=[{"item_id": "a", "title": True}]),
        "$.candidates[0].title",
    ),
]

LARGE_KINDS: list[tuple[str, Callable[[int], bytes], str | None]] = [
    (
        "100,000 candidates",
        lambda n: good(n, candidates=[{"item_id": str(i)} for i in range(100_000)]),
        "$",
    ),
    (
        "a title of 10 MB",
        lambda n: good(n, candidates=[{"item_id": "a", "title": "x" * 10_000_000}]),
        "$",
    ),
]


def lines(count: int, *, large: bool) -> Iterator[tuple[bytes, str | None]]:
    """`count` lines and the path that their dead letter names; None for lines that give a list."""
    for n in range(count):
        _, make, path = KINDS[n % len(KINDS)]
        if large and n % 500 == 499:
            _, make, path = LARGE_KINDS[(n // 500) % len(LARGE_KINDS)]
        yield make(n), path
